package redisbus_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wsrelay/relay/internal/bus"
	"github.com/wsrelay/relay/internal/bus/redisbus"
	"github.com/wsrelay/relay/internal/bus/redisbus/redistest"
)

func ban(member string) *bus.Sanction {
	return &bus.Sanction{Kind: bus.Ban, Member: member, By: "cli"}
}

func sanction(t testing.TB, n *instance, s *bus.Sanction) *bus.Sanction {
	t.Helper()
	got, err := n.Sanction(t.Context(), s)
	if err != nil {
		t.Fatalf("sanctioning: %v", err)
	}
	return got
}

// holds waits until these members are banned at an instance, and no other is.
func holds(t testing.TB, n *instance, members ...string) {
	t.Helper()
	eventually(t, fmt.Sprint("bans of ", members), func() error {
		page, err := n.Sanctions(t.Context(), "", 1000)
		if err != nil {
			return err
		}
		if page.Count != len(members) {
			return fmt.Errorf("%d are in force", page.Count)
		}
		for _, m := range members {
			if len(n.InForce(m, "", "")) != 1 {
				return fmt.Errorf("%s is not banned", m)
			}
		}
		return nil
	})
}

// TestChangesThatNobodyToldAreFound: a comparison finds what no push brought,
// whether or not the version tells.
func TestChangesThatNobodyToldAreFound(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	n := start(t, redisbus.Options{URL: server.URL()})
	first := sanction(t, n, ban("a"))
	holds(t, n, "a")
	const all, version = "relay:{sanctions}:all", "relay:{sanctions}:version"
	server.Do("HSET", all, "by-hand", `1 0 {"k":4,"m":"b"}`)
	holds(t, n, "a", "b")
	server.Do("HDEL", all, first.ID)
	holds(t, n, "b")
	server.Do("HDEL", all, "by-hand")
	server.Do("HSET", all, "another", `1 0 {"k":4,"m":"c"}`)
	server.Do("SET", version, "line.7.token")
	holds(t, n, "c")
	// What cannot be read is left alone, and does not stand in the way.
	server.Do("HSET", all, "garbage", "?")
	sanction(t, n, ban("d"))
	holds(t, n, "c", "d")
	server.Do("DEL", all)
	holds(t, n)
	sanction(t, n, ban("e"))
	holds(t, n, "e")
}

// busy is an instance that has its hands full with a room.
type busy struct {
	*instance
	entered, free chan struct{}
}

func (b *busy) Deliver(*bus.Event) {
	close(b.entered)
	<-b.free
}

// TestABusyRoomDelaysNoBan: sanctions do not queue behind messages.
func TestABusyRoomDelaysNoBan(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	other := start(t, redisbus.Options{URL: server.URL()})
	n := newBus(t, redisbus.Options{URL: server.URL()})
	h := &busy{&instance{t: t}, make(chan struct{}), make(chan struct{})}
	if err := n.Start(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	defer func() {
		close(h.free)
		if err := n.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	if _, err := n.Subscribe(t.Context(), "room", false); err != nil {
		t.Fatal(err)
	}
	f := newFates()
	f.send(other, "room", "1", bus.Retention{})
	<-h.entered
	sanction(t, other, ban("m"))
	eventually(t, "the ban", func() error {
		if len(n.InForce("m", "", "")) != 1 {
			return errors.New("not in force")
		}
		return nil
	})
}

// TestEndsAreForgottenInRedis: what has ended takes no place there.
func TestEndsAreForgottenInRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	n := start(t, redisbus.Options{URL: server.URL()})
	for i := range 20 {
		s := ban(fmt.Sprint(i))
		s.Until = time.Now().Add(50 * time.Millisecond).UnixMilli()
		sanction(t, n, s)
	}
	holds(t, n)
	lasting := sanction(t, n, ban("x"))
	eventually(t, "what has ended is gone", func() error { // each change looks for it
		if _, err := n.Lift(t.Context(), sanction(t, n, ban("y")).ID); err != nil {
			return err
		}
		if all := strings.TrimSpace(server.Do("--raw", "HLEN", "relay:{sanctions}:all")); all != "1" {
			return fmt.Errorf("redis holds %s", all)
		}
		return nil
	})
	if _, err := n.Lift(t.Context(), lasting.ID); err != nil {
		t.Error(err)
	}
	if keys := server.Do("--raw", "KEYS", "relay:{sanctions}*"); keys != "relay:{sanctions}:version" {
		t.Errorf("redis holds %q", keys)
	}
}

// TestManySanctionsAreReadAtTheStart, in more than one round trip, while they
// change.
func TestManySanctionsAreReadAtTheStart(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	a := start(t, redisbus.Options{URL: server.URL()})
	const many = 5000
	server.Do("EVAL", `for i = 1, ARGV[1] do redis.call('HSET', KEYS[1], 'id' .. i, '1 0 {"k":4,"m":"m' .. i .. '"}') end`,
		"1", "relay:{sanctions}:all", fmt.Sprint(many))
	stop := make(chan struct{})
	done := make(chan int)
	go func() {
		n := 0
		for ; ; n++ {
			select {
			case <-stop:
				done <- n
				return
			default:
			}
			s, err := a.Sanction(t.Context(), ban("late"))
			if err == nil && n%2 == 1 {
				_, err = a.Lift(t.Context(), s.ID)
			}
			if err != nil {
				t.Errorf("changing: %v", err)
			}
		}
	}()
	b := start(t, redisbus.Options{URL: server.URL()})
	for i := range many {
		if len(b.InForce(fmt.Sprint("m", i+1), "", "room")) != 1 {
			t.Fatalf("m%d is not banned at the start", i+1)
		}
	}
	close(stop)
	n := <-done
	for _, x := range []*instance{a, b} {
		eventually(t, "all", func() error {
			if got, want := len(x.InForce("late", "", "")), (n+1)/2; got != want {
				return fmt.Errorf("%d are in force, want %d of %d", got, want, n)
			}
			return nil
		})
	}
}

// TestASanctionIsRepeatedUnderItsID: an answer that is lost makes no second
// sanction, and a lift that may have happened is not tried again.
func TestASanctionIsRepeatedUnderItsID(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	way := redistest.NewProxy(t, server.Addr())
	n := start(t, redisbus.Options{URL: way.URL()})
	watcher := start(t, redisbus.Options{URL: server.URL()})
	// So that the script is known and a connection there.
	sanction(t, n, &bus.Sanction{Kind: bus.Kick, Member: "m"})
	s := ban("m")
	s.ID = "the-one"
	type answer struct {
		*bus.Sanction
		error
	}
	var got answer
	for happened := false; !happened; { // not where other calls had the connections just then
		answers := make(chan answer, 1)
		way.DropReplies()
		go func() {
			got, err := n.Sanction(t.Context(), s)
			answers <- answer{got, err}
		}()
		eventually(t, "it to happen, or the bus to give it up", func() error {
			if happened = len(watcher.InForce("m", "", "")) == 1; happened || len(answers) > 0 {
				return nil
			}
			return errors.New("neither")
		})
		way.Heal()
		got = <-answers
		eventually(t, "health", n.Health)
	}
	for errors.Is(got.error, bus.ErrUnavailable) || errors.Is(got.error, bus.ErrUnknownOutcome) {
		var err error
		got.Sanction, err = n.Sanction(t.Context(), s)
		got.error = err
	}
	if got.error != nil || got.ID != "the-one" {
		t.Errorf("got %+v", got)
	}
	holds(t, watcher, "m")
	holds(t, n, "m")
}

// TestARestartOfRedisKeepsWhatItStored, and without a store it is told that they
// are gone.
func TestARestartOfRedisKeepsWhatItStored(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{"stored": {"--appendonly", "yes", "--appendfsync", "always"}, "not stored": nil} {
		t.Run(name, func(t *testing.T) {
			server := redistest.Start(t, args...)
			var log lockedBuffer
			o := redisbus.Options{URL: server.URL(), Timings: quick, Logger: slog.New(slog.NewTextHandler(&log, nil))}
			a := start(t, redisbus.Options{URL: server.URL()})
			b := startWith(t, o)
			sanction(t, a, ban("m"))
			holds(t, b, "m")
			server.Kill()
			eventually(t, "ill health", b.unwell)
			if len(b.InForce("m", "", "room")) != 1 {
				t.Error("what was known is not in force while redis is away")
			}
			server.Up()
			want := []string{"m", "after"}
			if len(args) == 0 {
				want = want[1:]
			}
			eventually(t, "a sanction after the restart", func() error {
				_, err := a.Sanction(t.Context(), &bus.Sanction{ID: "after", Kind: bus.Ban, Member: "after"})
				return err
			})
			holds(t, a, want...)
			holds(t, b, want...)
			if told := strings.Contains(log.String(), "are not those of before"); told != (len(args) == 0) {
				t.Errorf("logged:\n%s", log.String())
			}
		})
	}
}

// lockedBuffer takes a log.
type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestFailoverThatLosesSanctions: what the promoted replica does not know is
// not in force any more, and what is decided afterwards is.
func TestFailoverThatLosesSanctions(t *testing.T) {
	t.Parallel()
	set := redistest.StartSentinels(t, time.Second)
	o := redisbus.Options{Sentinel: &redisbus.Sentinel{Master: set.Name, Addrs: set.Addrs()}}
	a, b := start(t, o), start(t, o)
	sanction(t, a, ban("kept"))
	primary, replica := set.Servers[0], set.Servers[1]
	eventually(t, "the replica to have the sanction", func() error {
		if out := replica.Do("HLEN", "relay:{sanctions}:all"); !strings.HasSuffix(out, "1") {
			return errors.New(out)
		}
		return nil
	})
	replica.Freeze()
	primary.Do("CLIENT", "KILL", "TYPE", "replica") // nothing more reaches its socket
	sanction(t, a, ban("lost"))
	sanction(t, a, ban("lost too"))
	holds(t, b, "kept", "lost", "lost too")
	primary.Kill()
	replica.Thaw()
	set.AwaitFailover(primary)
	eventually(t, "a sanction after the failover", func() error {
		_, err := a.Sanction(t.Context(), &bus.Sanction{ID: "after", Kind: bus.Ban, Member: "after"})
		return err
	})
	holds(t, a, "kept", "after")
	holds(t, b, "kept", "after")
}

// TestClusterSanctionsMoveOn: their slot moves while they change, and then its
// primary dies.
func TestClusterSanctionsMoveOn(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 1)
	o := redisbus.Options{Cluster: cluster.Addrs()}
	a, b := start(t, o), start(t, o)
	const key = "relay:{sanctions}:all"
	want := []string{"first"}
	sanction(t, a, ban("first"))
	holds(t, b, want...)
	from := cluster.Owner(key)
	for _, to := range cluster.Primaries() {
		if to != from {
			cluster.MoveSlot(cluster.Slot(key), from, to)
			break
		}
	}
	try := func(member string) {
		want = append(want, member)
		eventually(t, "a sanction of "+member, func() error {
			s := ban(member)
			s.ID = member
			_, err := a.Sanction(t.Context(), s)
			return err
		})
		holds(t, a, want...)
		holds(t, b, want...)
	}
	try("moved")
	owner := cluster.Owner(key)
	eventually(t, "a replica that has them", func() error {
		if out := owner.Do("WAIT", "1", "1000"); !strings.HasSuffix(out, "1") {
			return errors.New(out)
		}
		return nil
	})
	owner.Kill()
	try("survived")
	eventually(t, "health", a.Health)
	eventually(t, "health", b.Health)
}
