package redistest

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Sentinels is a primary with one replica, watched by three sentinels.
type Sentinels struct {
	Name    string // of the primary
	Servers []*Server
	Watch   []*Server
	t       testing.TB
}

// StartSentinels starts the set and waits until all sentinels know of each
// other and of the replica. After down a server that does not answer is taken
// for dead.
func StartSentinels(t testing.TB, down time.Duration) *Sentinels {
	t.Helper()
	s := &Sentinels{Name: "relay", t: t}
	primary := Start(t)
	replica := Start(t, "--replicaof", "127.0.0.1 "+strconv.Itoa(primary.Port))
	s.Servers = []*Server{primary, replica}
	replica.Await("master_link_status:up", "INFO", "replication")
	for range 3 {
		w := newServer(t, "redis-sentinel")
		conf := filepath.Join(w.Dir, "sentinel.conf")
		text := fmt.Sprintf("port %d\nbind 127.0.0.1\ndir %s\nprotected-mode no\nsentinel monitor %s 127.0.0.1 %d 2\n"+
			"sentinel down-after-milliseconds %[3]s %[5]d\nsentinel failover-timeout %[3]s 5000\n",
			w.Port, w.Dir, s.Name, primary.Port, down.Milliseconds())
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			t.Fatalf("writing a sentinel's configuration: %v", err)
		}
		w.args = []string{conf}
		w.Up()
		s.Watch = append(s.Watch, w)
	}
	for _, w := range s.Watch {
		w.Await("num-other-sentinels\n2", "SENTINEL", "MASTER", s.Name)
		w.Await("num-slaves\n1", "SENTINEL", "MASTER", s.Name)
	}
	return s
}

// Addrs are the sentinels'.
func (s *Sentinels) Addrs() []string {
	var all []string
	for _, w := range s.Watch {
		all = append(all, w.Addr())
	}
	return all
}

// Primary is the server that the sentinels name now.
func (s *Sentinels) Primary() *Server {
	s.t.Helper()
	out := s.Watch[0].Do("SENTINEL", "GET-MASTER-ADDR-BY-NAME", s.Name)
	for _, server := range s.Servers {
		if strings.Contains(out, strconv.Itoa(server.Port)) {
			return server
		}
	}
	s.t.Fatalf("the sentinels name a primary that is none of ours: %s", out)
	return nil
}

// AwaitFailover waits until another than the given server is primary.
func (s *Sentinels) AwaitFailover(from *Server) *Server {
	s.t.Helper()
	var now *Server
	Eventually(s.t, 30*time.Second, "the sentinels to promote the replica", func() error {
		if now = s.Primary(); now == from {
			return fmt.Errorf("it is still %s", from.Addr())
		}
		out, err := now.try("ROLE")
		if err == nil && !strings.HasPrefix(out, "master") {
			err = fmt.Errorf("its role is %s", out)
		}
		return err
	})
	return now
}

// Cluster is three primaries, with replicas if asked for.
type Cluster struct {
	Nodes []*Server
	t     testing.TB
}

// StartCluster starts three primaries, and replicas for each.
func StartCluster(t testing.TB, replicas int) *Cluster {
	t.Helper()
	c := &Cluster{t: t}
	create := []string{"--cluster", "create"}
	for range 3 * (1 + replicas) {
		n := Start(t, "--cluster-enabled", "yes", "--cluster-node-timeout", "1500", "--cluster-require-full-coverage", "no",
			"--cluster-replica-validity-factor", "0")
		c.Nodes = append(c.Nodes, n)
		create = append(create, n.Addr())
	}
	create = append(create, "--cluster-replicas", strconv.Itoa(replicas), "--cluster-yes")
	if out, err := cli(t, c.Nodes[0].Port, create...); err != nil {
		t.Fatalf("creating a cluster: %v\n%s", err, out)
	}
	for _, n := range c.Nodes {
		n.Await("cluster_state:ok", "CLUSTER", "INFO")
		n.Await(fmt.Sprintf("cluster_known_nodes:%d", len(c.Nodes)), "CLUSTER", "INFO")
	}
	return c
}

// Addrs are all nodes'.
func (c *Cluster) Addrs() []string {
	var all []string
	for _, n := range c.Nodes {
		all = append(all, n.Addr())
	}
	return all
}

// Primaries are the nodes that hold slots now.
func (c *Cluster) Primaries() []*Server {
	var all []*Server
	for _, n := range c.Nodes {
		if out, err := n.try("ROLE"); err == nil && strings.HasPrefix(out, "master") {
			all = append(all, n)
		}
	}
	return all
}

// Owner is the primary that serves a key, as the given node sees it.
func (c *Cluster) Owner(key string) *Server {
	c.t.Helper()
	slot := c.Slot(key)
	for _, n := range c.Primaries() {
		out, err := n.try("CLUSTER", "NODES")
		if err != nil {
			continue
		}
		for line := range strings.SplitSeq(out, "\n") {
			f := strings.Fields(line)
			if len(f) < 9 || !strings.Contains(f[2], "myself") {
				continue
			}
			for _, r := range f[8:] {
				from, to, ranged := strings.Cut(r, "-")
				a, err := strconv.Atoi(from)
				if err != nil {
					continue // a slot on its way
				}
				b := a
				if ranged {
					b, _ = strconv.Atoi(to)
				}
				if a <= slot && slot <= b {
					return n
				}
			}
		}
	}
	c.t.Fatalf("no primary has slot %d", slot)
	return nil
}

// Key finds a key by how it ends, or returns "".
func (c *Cluster) Key(suffix string) string {
	for _, p := range c.Primaries() {
		for key := range strings.SplitSeq(p.Do("--raw", "KEYS", "*"+suffix), "\n") {
			if strings.HasSuffix(key, suffix) {
				return key
			}
		}
	}
	return ""
}

// Slot is that of a key.
func (c *Cluster) Slot(key string) int {
	c.t.Helper()
	slot, err := strconv.Atoi(strings.TrimPrefix(c.Nodes[0].Do("CLUSTER", "KEYSLOT", key), "(integer) "))
	if err != nil {
		c.t.Fatalf("reading the slot of %q: %v", key, err)
	}
	return slot
}

// MoveSlot moves one slot and its keys between primaries while they serve.
func (c *Cluster) MoveSlot(slot int, from, to *Server) {
	c.t.Helper()
	n, src, dst := strconv.Itoa(slot), from.Do("CLUSTER", "MYID"), to.Do("CLUSTER", "MYID")
	to.Do("CLUSTER", "SETSLOT", n, "IMPORTING", src)
	from.Do("CLUSTER", "SETSLOT", n, "MIGRATING", dst)
	client := redis.NewClient(&redis.Options{Addr: from.Addr()}) // keys are binary, redis-cli's output is not
	defer client.Close()
	for {
		keys, err := client.ClusterGetKeysInSlot(c.t.Context(), slot, 100).Result()
		if err != nil {
			c.t.Fatalf("listing the keys of slot %d: %v", slot, err)
		}
		if len(keys) == 0 {
			break
		}
		args := []any{"MIGRATE", "127.0.0.1", to.Port, "", 0, 5000, "KEYS"}
		for _, k := range keys {
			args = append(args, k)
		}
		if err := client.Do(c.t.Context(), args...).Err(); err != nil {
			c.t.Fatalf("moving slot %d: %v", slot, err)
		}
	}
	for _, p := range []*Server{to, from} {
		p.Do("CLUSTER", "SETSLOT", n, "NODE", dst)
	}
	for _, p := range c.Primaries() {
		if p != to && p != from {
			p.Do("CLUSTER", "SETSLOT", n, "NODE", dst)
		}
	}
}
