package verify_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/wsrelay/relay/internal/bus/redisbus/redistest"
)

func sentinels(t *testing.T) *world {
	set := redistest.StartSentinels(t, time.Second)
	w := &world{t: t, sentinels: set}
	w.startRelays(fmt.Sprintf("sentinel: {master: %s, addrs: [%s]}", set.Name, strings.Join(set.Addrs(), ", ")), settings{})
	return w
}

// failover promotes a replica that has not got the writes of the last second.
func failover(w *world) {
	primary := w.sentinels.Primary()
	var replica *redistest.Server
	for _, s := range w.sentinels.Servers {
		if s != primary {
			replica = s
		}
	}
	replica.Freeze()
	primary.Do("CLIENT", "KILL", "TYPE", "replica") // nothing more reaches its socket
	hold(time.Second)
	primary.Kill()
	replica.Thaw()
	w.sentinels.AwaitFailover(primary)
	hold(2 * time.Second)
}

func clustered(t *testing.T) *world {
	c := redistest.StartCluster(t, 1)
	w := &world{t: t, cluster: c}
	w.startRelays(fmt.Sprintf("cluster: {addrs: [%s]}", strings.Join(c.Addrs(), ", ")), settings{})
	return w
}

// partitions are keys of some partitions that hold rooms of the load.
func (w *world) partitions(n int) (keys []string) {
	w.t.Helper()
	for i := range 64 {
		key := fmt.Sprintf("relay:{p%02d}:", i)
		owner := w.cluster.Owner(key)
		if owner.Do("CLUSTER", "COUNTKEYSINSLOT", fmt.Sprint(w.cluster.Slot(key))) != "0" {
			if keys = append(keys, key); len(keys) == n {
				return keys
			}
		}
	}
	w.t.Fatalf("only %d partitions hold anything", len(keys))
	return nil
}
