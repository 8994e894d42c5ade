package verify_test

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/wsrelay/relay/internal/bus/redisbus/redistest"
	"github.com/wsrelay/relay/internal/verify"
)

var (
	repeat  = flag.Int("faults.repeat", 1, "how often each fault is tried")
	overTLS = flag.Bool("faults.tls", false, "all clients connect over TLS, whose connections have goroutines; those of plain TCP have none on Linux")
	table   = flag.String("faults.table", "", "file to append the results to, as rows of a Markdown table")
)

// The load of every run: 200 messages per second.
const (
	rooms     = 20
	perRoom   = 10
	every     = time.Second // between two messages of a member
	instances = 3
	warm      = 1500 * time.Millisecond // before the fault
	after     = 1500 * time.Millisecond // of load after it
	settle    = 60 * time.Second        // until all is seen
)

// world is all that a fault can do something to.
type world struct {
	t       *testing.T
	redis   *redistest.Server // nil where there are several
	proxy   *redistest.Proxy  // between the instances and redis
	relays  []*process
	members []*verify.Member
	groups  []group

	sentinels *redistest.Sentinels
	cluster   *redistest.Cluster
}

// group is a room with its members, some of whom talk.
type group struct {
	room             string
	members, talkers int
	first            int // of its members, in world.members
}

func single(t *testing.T) *world { return singleWith(t, settings{}) }

// secure is single over TLS.
func secure(t *testing.T) *world { return singleWith(t, settings{tls: true}) }

func singleWith(t *testing.T, s settings) *world {
	r := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	w := &world{t: t, redis: r, proxy: redistest.NewProxy(t, r.Addr())}
	w.startRelays(fmt.Sprintf("url: %q", w.proxy.URL()), s)
	return w
}

func (w *world) startRelays(redis string, s settings) {
	for range instances {
		w.relays = append(w.relays, newProcess(w.t, redis, s))
	}
}

// usual is the load of the campaign.
func usual() (list []group) {
	for r := range rooms {
		list = append(list, group{room: fmt.Sprint("room-", r), members: perRoom, talkers: perRoom})
	}
	return list
}

// load fills rooms and keeps them busy until the returned function ends it: that
// waits until everything is home, and holds the records against what is stored.
func (w *world) load(groups []group) (finish func() *verify.Report) {
	ctx, cancel := context.WithCancel(w.t.Context())
	var wg sync.WaitGroup
	var urls []string
	for _, p := range w.relays {
		urls = append(urls, p.url())
	}
	for _, g := range groups {
		g.first = len(w.members)
		w.groups = append(w.groups, g)
		for k := range g.members {
			m := &verify.Member{Room: g.room, Name: fmt.Sprintf("%s-m%d", g.room, k), URLs: urls, Buffer: 1000, TLS: pair.Trust}
			if k < g.talkers {
				m.Every = every
			}
			w.members = append(w.members, m)
			wg.Go(func() { m.Run(ctx) })
		}
	}
	w.await("everybody to be in", func(m *verify.Member) error { return m.Settled(0) }, true)
	return func() *verify.Report {
		defer func() { cancel(); wg.Wait() }()
		for _, m := range w.members {
			m.Quiet()
		}
		w.await("acks to come home", func(m *verify.Member) error { return m.Settled(0) }, false)
		truth := make(map[string][]verify.Stored)
		for _, g := range w.groups {
			truth[g.room] = w.history(g.room)
		}
		w.await("everybody to have seen everything", func(m *verify.Member) error {
			if list := truth[m.Room]; len(list) > 0 {
				return m.Settled(list[len(list)-1].Seq)
			}
			return nil
		}, false)
		w.presence()
		cancel()
		wg.Wait()
		sum := &verify.Report{}
		for _, g := range w.groups {
			var recs []*verify.Record
			for _, m := range w.of(g) {
				recs = append(recs, m.Record())
			}
			r := verify.Check(truth[g.room], recs)
			if !r.OK() {
				w.t.Logf("stored in %s: %v", g.room, truth[g.room])
				for _, rec := range recs[:min(len(recs), 10)] {
					w.t.Log(rec)
				}
			}
			sum.Add(r)
		}
		return sum
	}
}

// of are the members of a group.
func (w *world) of(g group) []*verify.Member { return w.members[g.first : g.first+g.members] }

func (w *world) await(what string, ok func(*verify.Member) error, joining bool) {
	w.t.Helper()
	redistest.Eventually(w.t, settle, what, func() error {
		for _, m := range w.members {
			if err := ok(m); err != nil && !(joining && strings.Contains(err.Error(), "ack")) {
				return err
			}
		}
		return nil
	})
}

func (w *world) history(room string) []verify.Stored { return w.historyAt(nil, room) }

// historyAt reads what is stored of a room, through one instance or any.
func (w *world) historyAt(at *process, room string) (list []verify.Stored) {
	w.t.Helper()
	from := w.relays
	if at != nil {
		from = []*process{at}
	}
	redistest.Eventually(w.t, settle, "the history of "+room, func() error {
		var err error
		for _, p := range from {
			ctx, cancel := context.WithTimeout(w.t.Context(), 5*time.Second)
			list, err = verify.History(ctx, p.url(), room, pair.Trust)
			cancel()
			if err == nil {
				return nil
			}
		}
		return err
	})
	return list
}

// presence: every member sees all members of its room and nobody else, once the
// ghosts of what was killed have had their two leases.
func (w *world) presence() {
	w.t.Helper()
	redistest.Eventually(w.t, 40*time.Second, "presence to be true", func() error {
		for _, g := range w.groups {
			if g.members > listed {
				continue
			}
			var want []string
			for _, m := range w.of(g) {
				want = append(want, m.Name)
			}
			slices.Sort(want)
			for _, m := range w.of(g) {
				got := m.Members()
				slices.Sort(got)
				if !slices.Equal(got, want) {
					return fmt.Errorf("%s sees %v in %s", m.Name, got, m.Room)
				}
			}
		}
		return nil
	})
}

// listed is how many members a joined reply lists.
const listed = 200

// fault is something that may happen. told says that messages may be lost in it,
// if clients hear of it.
type fault struct {
	name  string
	world func(*testing.T) *world
	told  bool
	do    func(*world)
}

var faults = []fault{
	{"nothing", single, false, func(w *world) { hold(2 * time.Second) }},
	{"an instance is killed (-9)", single, false, killOne},
	{"SIGTERM rolls through all instances", single, false, func(w *world) {
		for _, p := range w.relays {
			p.end(syscall.SIGTERM)
			p.start()
		}
	}},
	{"Redis is restarted (appendonly, always)", single, false, func(w *world) {
		w.redis.Kill()
		hold(500 * time.Millisecond)
		w.redis.Up()
	}},
	{"Redis is frozen for 6 s", single, false, func(w *world) { w.redis.Freeze(); hold(6 * time.Second); w.redis.Thaw() }},
	{"Redis is frozen for 15 s", single, false, func(w *world) { w.redis.Freeze(); hold(15 * time.Second); w.redis.Thaw() }},
	{"both directions are blackholed for 6 s", single, false, func(w *world) { w.proxy.Blackhole(); hold(6 * time.Second); w.proxy.Heal() }},
	{"every connection to Redis is cut each 200 ms, for 3 s", single, false, func(w *world) {
		stop := w.proxy.CutEvery(200 * time.Millisecond)
		hold(3 * time.Second)
		stop()
		w.proxy.Heal()
	}},
	{"CLIENT KILL of pub/sub connections", single, false, func(w *world) {
		for range 5 {
			w.redis.Do("CLIENT", "KILL", "TYPE", "pubsub")
			hold(300 * time.Millisecond)
		}
	}},
	{"SCRIPT FLUSH", single, false, func(w *world) {
		for range 5 {
			w.redis.Do("SCRIPT", "FLUSH")
			hold(200 * time.Millisecond)
		}
	}},
	{"FLUSHALL", single, true, func(w *world) { w.redis.Do("FLUSHALL"); hold(time.Second) }},
	{"100 reloads (SIGHUP), each with another configuration", single, false, func(w *world) {
		for i := range 100 {
			p := w.relays[i%instances]
			s := p.settings
			s.rate = 1000 + i
			p.configure(s)
			_ = p.cmd.Process.Signal(syscall.SIGHUP)
			hold(20 * time.Millisecond)
		}
	}},
	{"Sentinel failover that loses writes", sentinels, true, failover},
	{"a Cluster primary is killed (-9)", clustered, true, func(w *world) {
		victim := w.cluster.Owner(w.partitions(1)[0])
		victim.Kill()
		hold(5 * time.Second)
		victim.Up()
		hold(2 * time.Second)
	}},
	{"Cluster slots move", clustered, false, func(w *world) {
		for _, key := range w.partitions(4) {
			from := w.cluster.Owner(key)
			all := w.cluster.Primaries()
			to := all[rand.IntN(len(all))]
			if to == from {
				to = all[(slices.Index(all, to)+1)%len(all)]
			}
			w.cluster.MoveSlot(w.cluster.Slot(key), from, to)
			hold(300 * time.Millisecond)
		}
	}},
	{"client networks drop once a second", single, false, func(w *world) {
		for range 4 {
			for _, m := range w.members {
				m.Drop()
			}
			hold(time.Second)
		}
	}},
}

func killOne(w *world) {
	p := w.relays[rand.IntN(instances)]
	p.kill()
	hold(time.Second)
	p.start()
}

// hold is how long a fault lasts; it is part of what is tried, not a way to wait
// for something.
func hold(d time.Duration) { <-time.After(d) }

// by is how a row of the table names the kind of connection, where it is not
// plain TCP.
func by() string {
	if *overTLS {
		return ", over TLS"
	}
	return ""
}

func TestFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes and takes minutes")
	}
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			sum := &verify.Report{}
			for range *repeat {
				t.Run("", func(t *testing.T) { sum.Add(f.strike(t)) })
			}
			row := fmt.Sprintf("| %s%s | %d | %d | %d | %d | %d | %d | %d | %.1f s |\n",
				f.name, by(), *repeat, sum.Acked, sum.Delivered, sum.Lost+sum.Phantom, sum.Repeated, sum.Swapped, sum.Noticed, sum.Slowest.Seconds())
			t.Log(row)
			if err := appendRow(*table, row); err != nil {
				t.Error(err)
			}
		})
	}
}

// Of the campaign over TLS (-faults.tls), this much is in every run of the tests.
func TestAKilledInstanceLosesNothingOverTLS(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	r := fault{world: secure, do: killOne}.strike(t)
	t.Logf("%d acked, %d delivered, longest outage %v", r.Acked, r.Delivered, r.Slowest)
}

// strike is one run: the usual load, and a fault in the midst of it.
func (f fault) strike(t *testing.T) *verify.Report {
	w := f.world(t)
	finish := w.load(usual())
	hold(warm)
	f.do(w)
	hold(after)
	r := finish()
	if r.Acked < 200 || r.Delivered < 1000 {
		t.Errorf("%d acked and %d delivered: there was no load", r.Acked, r.Delivered)
	}
	if !f.told && r.Noticed > 0 {
		t.Errorf("%d are missing with a notice, where nothing had to be lost", r.Noticed)
	}
	clean(t, w, r)
	return r
}

func appendRow(file, row string) error {
	if file == "" {
		return nil
	}
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	b := bufio.NewWriter(f)
	_, _ = b.WriteString(row) // Flush tells
	return errors.Join(b.Flush(), f.Close())
}
