package redisbus_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/wsrelay/relay/internal/bus/bustest"
	"github.com/wsrelay/relay/internal/bus/redisbus"
	"github.com/wsrelay/relay/internal/bus/redisbus/redistest"
)

func TestContractOnCluster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 0)
	n := 0
	bustest.Run(t, func(t testing.TB, count int) *bustest.Backend {
		n++
		b := &bustest.Backend{}
		for i := range count {
			b.Instances = append(b.Instances, newBus(t, redisbus.Options{
				Cluster: cluster.Addrs(), Prefix: fmt.Sprint("test", n), Instance: fmt.Sprint("instance-", i),
			}))
		}
		b.Flush = func() {
			for _, p := range cluster.Primaries() {
				p.Do("FLUSHALL")
			}
		}
		b.Down = func() {
			for _, node := range cluster.Nodes {
				node.Freeze()
			}
		}
		b.Up = func() {
			for _, node := range cluster.Nodes {
				node.Thaw()
			}
		}
		return b
	}, bustest.Capabilities{Lease: quick.Lease, Faults: true, Timeout: 20 * time.Second})
}

func TestContractOnSentinels(t *testing.T) {
	t.Parallel()
	set := redistest.StartSentinels(t, 30*time.Second)
	n := 0
	bustest.Run(t, func(t testing.TB, count int) *bustest.Backend {
		n++
		b := &bustest.Backend{}
		for i := range count {
			b.Instances = append(b.Instances, newBus(t, redisbus.Options{
				Sentinel: &redisbus.Sentinel{Master: set.Name, Addrs: set.Addrs()},
				Prefix:   fmt.Sprint("test", n), Instance: fmt.Sprint("instance-", i),
			}))
		}
		b.Flush = func() { set.Primary().Do("FLUSHALL") }
		b.Down, b.Up = set.Servers[0].Freeze, set.Servers[0].Thaw
		return b
	}, bustest.Capabilities{Lease: quick.Lease, Faults: true})
}
