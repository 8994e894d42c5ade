package redisbus_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/wsrelay/relay/internal/bus/bustest"
	"github.com/wsrelay/relay/internal/bus/redisbus"
	"github.com/wsrelay/relay/internal/bus/redisbus/redistest"
)

// quick are timings that let a test see what takes long in life.
var quick = redisbus.Timings{
	Lease: time.Second, Probe: 50 * time.Millisecond, Silence: 500 * time.Millisecond, Linger: 200 * time.Millisecond,
	Compare: 400 * time.Millisecond, Sweep: 50 * time.Millisecond, GiveUp: 3 * time.Second, Dial: 500 * time.Millisecond, Reply: 500 * time.Millisecond,
}

func TestContract(t *testing.T) {
	server := redistest.Start(t)
	n := 0
	bustest.Run(t, func(t testing.TB, count int) *bustest.Backend {
		n++
		b := &bustest.Backend{}
		for i := range count {
			r, err := redisbus.New(redisbus.Options{
				URL: server.URL(), Prefix: fmt.Sprint("test", n), Instance: fmt.Sprint("instance-", i), Timings: quick,
			})
			if err != nil {
				t.Fatal(err)
			}
			b.Instances = append(b.Instances, r)
		}
		return b
	}, bustest.Capabilities{Lease: quick.Lease})
}
