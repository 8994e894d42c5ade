package bustest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wsrelay/relay/internal/bus"
	"github.com/wsrelay/relay/internal/bus/membus"
)

// network stands between instances and a broker that can be cut off, emptied
// and taken away; a remote bus heals as the contract says. The fault tests are
// tried on it: they must pass, and fail with each flaw.
type network struct {
	t    testing.TB
	flaw string

	mu      sync.Mutex
	broker  *membus.Broker
	remotes []*remote
	down    bool
}

const outage = 100 * time.Millisecond // of an interruption

var errAway = fmt.Errorf("%w: away", bus.ErrUnavailable)

func networked(flaw string) Factory {
	return func(t testing.TB, n int) *Backend {
		w := &network{t: t, flaw: flaw, broker: membus.NewBroker(membus.Options{Lease: time.Second})}
		t.Cleanup(func() { w.broker.Close() })
		b := &Backend{
			Interrupt: func(i int) { w.remotes[i].interrupt() },
			Flush:     w.flush,
			Down:      func() { w.set(true) },
			Up:        func() { w.set(false) },
			Kill: func(i int) {
				if flaw != "ghosts" {
					_ = w.remotes[i].inner().Close(context.Background())
				}
			},
		}
		for range n {
			r := &remote{net: w, bus: w.broker.Instance(), rooms: make(map[string]*remoteRoom)}
			w.remotes = append(w.remotes, r)
			b.Instances = append(b.Instances, r)
		}
		return b
	}
}

func (w *network) away() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.down
}

func (w *network) set(down bool) {
	w.mu.Lock()
	w.down = down
	w.mu.Unlock()
	for _, r := range w.remotes {
		if !down && w.flaw != "forgets leaves" {
			for _, l := range r.leaves {
				_ = r.inner().Leave(context.Background(), l)
			}
			r.leaves = nil
		}
	}
}

// flush gives all instances an empty broker, and themselves back to it.
func (w *network) flush() {
	old := w.broker
	w.broker = membus.NewBroker(membus.Options{Lease: time.Second})
	for _, r := range w.remotes {
		if err := r.inner().Close(context.Background()); err != nil {
			w.t.Error(err)
		}
		r.mu.Lock()
		r.bus = w.broker.Instance()
		r.mu.Unlock()
		r.flushed()
		if err := r.bus.Start(context.Background(), r); err != nil {
			w.t.Error(err)
		}
		for name, room := range r.rooms {
			_, _ = r.bus.Subscribe(context.Background(), name, room.keeps)
		}
	}
	for _, r := range w.remotes {
		for _, e := range r.entries {
			quiet := *e
			quiet.Announce = w.flaw == "announces again"
			if w.flaw != "forgets members" {
				_, _ = r.bus.Enter(context.Background(), &quiet)
				_, _ = r.bus.Enter(context.Background(), e)
			}
		}
	}
	old.Close()
}

// remote is one instance on a network.
type remote struct {
	bus.AtOnce
	net     *network
	handler bus.Handler
	entries []*bus.Entry   // its members
	leaves  []*bus.Leaving // to be carried out

	mu    sync.Mutex // also the order of what is delivered
	bus   *membus.Bus
	cut   bool
	rooms map[string]*remoteRoom

	verdicts remoteVerdicts
}

type remoteRoom struct {
	keeps  bool
	keep   int
	last   bus.Position
	missed []*bus.Event
}

func (r *remote) inner() *membus.Bus {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bus
}

func (r *remote) interrupt() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut = true
	time.AfterFunc(outage, r.heal)
}

func (r *remote) heal() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.net.flaw == "stays cut" {
		return
	}
	r.cut = false
	r.hearAll()
	for name, room := range r.rooms {
		if !room.keeps && r.net.flaw != "no gap" {
			r.handler.Deliver(&bus.Event{Kind: bus.Notice, Room: name, Notice: bus.NoticeGap})
		}
		missed := room.missed
		room.missed = nil
		if !room.keeps || r.net.flaw == "silent loss" {
			continue
		}
		if lost := len(missed) - room.keep; lost > 0 {
			if r.net.flaw != "untold loss" {
				r.handler.Deliver(&bus.Event{Kind: bus.Notice, Room: name, Notice: bus.NoticeLost, From: missed[0].Seq, To: missed[lost-1].Seq})
			}
			missed = missed[lost:]
		}
		for _, e := range missed {
			r.handler.Deliver(e)
		}
		if len(missed) > 0 && r.net.flaw == "repeats" {
			r.handler.Deliver(missed[len(missed)-1])
		}
	}
}

func (r *remote) Deliver(e *bus.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	room := r.rooms[e.Room]
	if r.cut {
		if e.Sequenced() {
			room.missed = append(room.missed, e)
		}
		return
	}
	if e.Sequenced() {
		if room.last.Epoch != "" && room.last.Epoch != e.Epoch && r.net.flaw != "no epoch" {
			r.handler.Deliver(&bus.Event{
				Kind: bus.Notice, Room: e.Room, Notice: bus.NoticeEpoch,
				Position: bus.Position{Epoch: e.Epoch}, To: room.last.Seq,
			})
		}
		room.last = e.Position
	}
	r.handler.Deliver(e)
}

func (r *remote) Start(ctx context.Context, h bus.Handler) error {
	r.handler = h
	return r.bus.Start(ctx, r)
}

func (r *remote) Close(ctx context.Context) error { return r.inner().Close(ctx) }

func (r *remote) Subscribe(ctx context.Context, name string, keeps bool) (bus.Position, error) {
	r.mu.Lock()
	if r.rooms[name] == nil {
		r.rooms[name] = &remoteRoom{keeps: keeps}
	}
	r.mu.Unlock()
	return r.inner().Subscribe(ctx, name, keeps)
}

func (r *remote) Unsubscribe(name string) { r.inner().Unsubscribe(name) }

func (r *remote) Enter(ctx context.Context, e *bus.Entry) (*bus.Entered, error) {
	if r.net.away() {
		return nil, errAway
	}
	entered, err := r.inner().Enter(ctx, e)
	if err == nil {
		r.entries = append(r.entries, e)
	}
	return entered, err
}

func (r *remote) Leave(ctx context.Context, l *bus.Leaving) error {
	if r.net.away() {
		r.leaves = append(r.leaves, l)
		return errAway
	}
	return r.inner().Leave(ctx, l)
}

func (r *remote) Publish(m *bus.Message, receipt bus.Receipt) error {
	if r.net.away() {
		switch r.net.flaw {
		case "hangs":
			return nil
		case "pretends":
			receipt.Published(bus.Result{ID: m.Event.ID})
			return nil
		}
		return errAway
	}
	for _, other := range r.net.remotes {
		other.mu.Lock()
		if room := other.rooms[m.Event.Room]; room != nil {
			room.keep = m.Retention.Keep
		}
		other.mu.Unlock()
	}
	return r.inner().Publish(m, receipt)
}

func (r *remote) Signal(e *bus.Event) error { return r.inner().Signal(e) }

func (r *remote) Members(ctx context.Context, room, cursor string, limit int) (bus.MemberPage, error) {
	return r.inner().Members(ctx, room, cursor, limit)
}

func (r *remote) History(ctx context.Context, q bus.HistoryQuery) (bus.HistoryPage, error) {
	return r.inner().History(ctx, q)
}

func (r *remote) Redact(ctx context.Context, q *bus.Redaction) (bus.Position, error) {
	return r.inner().Redact(ctx, q)
}

func (r *remote) Health() error {
	if r.net.away() {
		return errors.New("away")
	}
	return r.inner().Health()
}

func TestTheFaultTestsFindPlantedFlaws(t *testing.T) {
	for _, flaw := range []string{
		"", "stays cut", "no gap", "silent loss", "untold loss", "repeats", "no epoch", "announces again",
		"forgets members", "forgets leaves", "hangs", "pretends", "ghosts",
		"misses sanctions", "forgets sanctions while away", "sanctions for later", "keeps flushed sanctions",
	} {
		t.Run("flaw "+flaw, func(t *testing.T) {
			var found string
			for _, c := range append(faultContracts(), sanctionFaultContracts()...) {
				synctest.Test(t, func(t *testing.T) {
					r := record(t, func(t testing.TB) { c.run(t, networked(flaw), virtual) })
					if r.skipped {
						t.Errorf("%s was skipped", c.name)
					}
					if r.Failed() && found == "" {
						found = c.name + ": " + r.text()
					}
				})
			}
			if (found != "") != (flaw != "") {
				t.Errorf("found %q", found)
			}
			t.Logf("%.300s", found)
		})
	}
}
