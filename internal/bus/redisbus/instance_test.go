package redisbus_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/wsrelay/relay/internal/bus"
	"github.com/wsrelay/relay/internal/bus/redisbus"
	"github.com/wsrelay/relay/internal/bus/redisbus/redistest"
)

var keep = bus.Retention{Keep: 100_000, For: time.Hour}

// instance is a started bus that keeps what it is given.
type instance struct {
	*redisbus.Bus
	t testing.TB

	mu     sync.Mutex
	events map[string][]*bus.Event
	judged map[string]string // "+" and "-" as it was told, by sanction
}

func start(t testing.TB, o redisbus.Options) *instance {
	t.Helper()
	return begin(t, newBus(t, o))
}

// startWith takes the options as they are.
func startWith(t testing.TB, o redisbus.Options) *instance {
	t.Helper()
	b, err := redisbus.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return begin(t, b)
}

func begin(t testing.TB, b *redisbus.Bus) *instance {
	t.Helper()
	n := &instance{Bus: b, t: t, events: make(map[string][]*bus.Event)}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := n.Close(ctx); err != nil {
			t.Logf("closing: %v", err)
		}
	})
	if err := n.Start(ctx, n); err != nil {
		t.Fatalf("starting: %v", err)
	}
	return n
}

func (n *instance) Deliver(e *bus.Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.events[e.Room] = append(n.events[e.Room], e)
}

func (n *instance) Sanctioned(s *bus.Sanction) { n.judge(s, "+") }
func (n *instance) Lifted(s *bus.Sanction)     { n.judge(s, "-") }

func (n *instance) judge(s *bus.Sanction, sign string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.judged == nil {
		n.judged = make(map[string]string)
	}
	n.judged[s.ID] += sign
}

func (n *instance) room(name string) []*bus.Event {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.events[name])
}

func (n *instance) subscribe(room string, keeps bool) bus.Position {
	n.t.Helper()
	at, err := n.Subscribe(n.t.Context(), room, keeps)
	if err != nil {
		n.t.Fatalf("subscribing: %v", err)
	}
	return at
}

// fates collects what became of messages, in the order they were resolved.
type fates struct {
	mu   sync.Mutex
	list []fate
	more chan struct{} // holds one
}

type fate struct {
	body string
	bus.Result
}

func newFates() *fates { return &fates{more: make(chan struct{}, 1)} }

type receipt func(bus.Result)

func (r receipt) Published(res bus.Result) { r(res) }

// send publishes and reports a refusal as its fate.
func (f *fates) send(n *instance, room, body string, keep bus.Retention) {
	m := &bus.Message{Retention: keep, Event: bus.Event{
		Kind: bus.Chat, Room: room, ID: bus.NewMessageID(), Time: time.Now().UnixMilli(),
		Sender: bus.Sender{Member: "m", User: []byte(`{"id":"m"}`)}, Body: []byte(body),
	}}
	note := func(res bus.Result) {
		f.mu.Lock()
		f.list = append(f.list, fate{body, res})
		f.mu.Unlock()
		select {
		case f.more <- struct{}{}:
		default:
		}
	}
	if err := n.Publish(m, receipt(note)); err != nil {
		note(bus.Result{Err: err})
	}
}

// sendMore sends so many to the room "room", each with its number, and waits for what
// becomes of them.
func (f *fates) sendMore(t testing.TB, n *instance, count int) []fate {
	t.Helper()
	f.mu.Lock()
	before := len(f.list)
	f.mu.Unlock()
	for i := range count {
		f.send(n, "room", fmt.Sprint(before+i), keep)
	}
	return f.wait(t, before+count)[before:]
}

func (f *fates) wait(t testing.TB, n int) []fate {
	t.Helper()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	for {
		f.mu.Lock()
		list := slices.Clone(f.list)
		f.mu.Unlock()
		if len(list) >= n {
			return list
		}
		select {
		case <-f.more:
		case <-deadline.C:
			t.Fatalf("%d of %d messages were resolved", len(list), n)
		}
	}
}

func eventually(t testing.TB, what string, cond func() error) {
	t.Helper()
	redistest.Eventually(t, 20*time.Second, what, cond)
}

// follows checks what an instance was given: every stored message once and in
// order, and nothing else.
func (n *instance) follows(room string, stored []fate) {
	n.t.Helper()
	last := stored[len(stored)-1].body
	eventually(n.t, "message "+last, func() error {
		if !slices.ContainsFunc(n.room(room), func(e *bus.Event) bool { return string(e.Body) == last }) {
			return fmt.Errorf("not among the %d delivered", len(n.room(room)))
		}
		return nil
	})
	seen := make(map[string]uint64)
	var seq uint64
	for _, e := range n.room(room) {
		if e.Kind != bus.Chat {
			continue
		}
		if e.Seq != seq+1 {
			n.t.Fatalf("seq %d follows %d", e.Seq, seq)
		}
		seq = e.Seq
		if _, twice := seen[string(e.Body)]; twice {
			n.t.Fatalf("message %s was delivered twice", e.Body)
		}
		seen[string(e.Body)] = e.Seq
	}
	var before uint64
	for _, f := range stored {
		if seen[f.body] != f.Seq || f.Seq <= before {
			n.t.Fatalf("message %s: delivered at %d, receipt says %d, the one before was at %d", f.body, seen[f.body], f.Seq, before)
		}
		before = f.Seq
	}
}

// stored picks the fates without error, and fails the test on errors that are
// not allowed.
func storedOf(t testing.TB, list []fate, allowed ...error) []fate {
	t.Helper()
	var ok []fate
	for _, f := range list {
		switch {
		case f.Err == nil:
			ok = append(ok, f)
		case !slices.ContainsFunc(allowed, func(a error) bool { return errors.Is(f.Err, a) }):
			t.Fatalf("message %s: %v", f.body, f.Err)
		}
	}
	if len(ok) == 0 {
		t.Fatal("no message was stored at all")
	}
	return ok
}

// flow publishes numbered messages, some waiting at any time, until the
// returned function is called, which gives their fates.
func flow(t testing.TB, n *instance, room string, keep bus.Retention) (stop func() []fate) {
	return flowAs(t, n, room, "", keep)
}

// flowAs puts something in front of the number.
func flowAs(t testing.TB, n *instance, room, who string, keep bus.Retention) (stop func() []fate) {
	f := newFates()
	end, ended := make(chan struct{}), make(chan int)
	go func() {
		sent := 0
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				for range 2 {
					sent++
					f.send(n, room, who+fmt.Sprint(sent), keep)
				}
			case <-end:
				ended <- sent
				return
			}
		}
	}()
	return func() []fate {
		close(end)
		return f.wait(t, <-ended)
	}
}

func (n *instance) awaitMore(room string, more int) {
	n.t.Helper()
	want := len(n.room(room)) + more
	eventually(n.t, fmt.Sprint(want, " events"), func() error {
		if got := len(n.room(room)); got < want {
			return fmt.Errorf("got %d", got)
		}
		return nil
	})
}

func (n *instance) unwell() error {
	if n.Health() == nil {
		return errors.New("it is well")
	}
	return nil
}

func enter(t testing.TB, n *instance, room, member string) *bus.Entered {
	t.Helper()
	at, err := n.Enter(t.Context(), entry(room, member))
	if err != nil {
		t.Fatalf("entering: %v", err)
	}
	return at
}

// enterKeeping is enter where the room keeps other than keep, or nothing.
func enterKeeping(t testing.TB, n *instance, room, member string, keep bus.Retention) *bus.Entered {
	t.Helper()
	e := entry(room, member)
	e.Retention = keep
	at, err := n.Enter(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func entry(room, member string) *bus.Entry {
	return &bus.Entry{
		Room: room, Member: member, User: fmt.Appendf(nil, `{"id":%q}`, member), Presence: true, Announce: true,
		Retention: keep, Idle: time.Hour,
	}
}

// What it is told comes at once, though the bus can gather what it is given.
func (n *instance) Gather() {}
func (n *instance) Flush()  {}
