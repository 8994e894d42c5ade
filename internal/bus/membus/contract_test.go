package membus_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/wsrelay/relay/internal/bus/bustest"
	"github.com/wsrelay/relay/internal/bus/membus"
)

// TestContract runs the suite that every bus passes, in virtual time.
func TestContract(t *testing.T) {
	bustest.Run(t, func(t testing.TB, n int) *bustest.Backend {
		broker := membus.NewBroker(membus.Options{Lease: time.Second})
		t.Cleanup(broker.Close)
		b := &bustest.Backend{}
		for range n {
			b.Instances = append(b.Instances, broker.Instance())
		}
		return b
	}, bustest.Capabilities{Bubble: synctest.Test, Lease: time.Second, ExactKeep: true})
}
