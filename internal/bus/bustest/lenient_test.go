package bustest

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wsrelay/relay/internal/bus"
	"github.com/wsrelay/relay/internal/bus/membus"
)

// lenient does all that the contract allows a bus over a network: deliveries
// and receipts come late and from other goroutines, a subscription lingers, a
// stream holds more than it has to, versions do not start at one.
type lenient struct {
	bus.Bus
	deliveries, receipts *line
}

func newLenient(b bus.Bus) *lenient { return &lenient{b, newLine(), newLine()} }

// line runs functions one after the other, each after a random while.
type line struct {
	mu     sync.Mutex
	queue  []func()
	closed bool
	more   chan struct{}
	ended  chan struct{}
}

func newLine() *line {
	l := &line{more: make(chan struct{}, 1), ended: make(chan struct{})}
	go l.run()
	return l
}

func (l *line) add(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue = append(l.queue, f)
	l.wake()
}

func (l *line) wake() {
	select {
	case l.more <- struct{}{}:
	default:
	}
}

func (l *line) run() {
	defer close(l.ended)
	for range l.more {
		for {
			l.mu.Lock()
			if len(l.queue) == 0 {
				closed := l.closed
				l.mu.Unlock()
				if closed {
					return
				}
				break
			}
			f := l.queue[0]
			l.queue = l.queue[1:]
			l.mu.Unlock()
			time.Sleep(time.Duration(rand.IntN(2000)) * time.Microsecond) // virtual
			f()
		}
	}
}

// close runs or drops what is queued and ends.
func (l *line) close(drop bool) {
	l.mu.Lock()
	if drop {
		l.queue = nil
	}
	l.closed = true
	l.wake()
	l.mu.Unlock()
	<-l.ended
}

func (b *lenient) Start(ctx context.Context, h bus.Handler) error {
	return b.Bus.Start(ctx, lateHandler{to: h, line: b.deliveries})
}

type lateHandler struct {
	bus.AtOnce
	to   bus.Handler
	line *line
}

func (h lateHandler) Deliver(e *bus.Event) {
	c := clone(e)
	if c.Version != 0 {
		c.Version += 1000
	}
	h.line.add(func() { h.to.Deliver(&c) })
}

// What it is told of sanctions must be in force when it is, so it is not late.
func (h lateHandler) Sanctioned(s *bus.Sanction) { h.to.Sanctioned(s) }
func (h lateHandler) Lifted(s *bus.Sanction)     { h.to.Lifted(s) }

func (b *lenient) Publish(m *bus.Message, r bus.Receipt) error {
	c := *m
	c.Retention.Keep *= 3
	return b.Bus.Publish(&c, altered{r, func(to bus.Receipt, got bus.Result) {
		b.receipts.add(func() { to.Published(got) })
	}})
}

func (b *lenient) Redact(ctx context.Context, q *bus.Redaction) (bus.Position, error) {
	c := *q
	c.Retention.Keep *= 3
	return b.Bus.Redact(ctx, &c)
}

func (b *lenient) Enter(ctx context.Context, e *bus.Entry) (*bus.Entered, error) {
	entered, err := b.Bus.Enter(ctx, e)
	if err == nil {
		entered.Version += 1000
	}
	return entered, err
}

func (b *lenient) Members(ctx context.Context, room, cursor string, limit int) (bus.MemberPage, error) {
	page, err := b.Bus.Members(ctx, room, cursor, limit)
	if page.Version != 0 {
		page.Version += 1000
	}
	return page, err
}

func (b *lenient) Unsubscribe(room string) {
	time.AfterFunc(50*time.Millisecond, func() { b.Bus.Unsubscribe(room) })
}

func (b *lenient) Close(ctx context.Context) error {
	err := b.Bus.Close(ctx)
	b.receipts.close(false)
	b.deliveries.close(true)
	return err
}

// TestTheSuiteAllowsWhatTheContractAllows: a suite that only the simplest bus
// passes would be about that bus.
func TestTheSuiteAllowsWhatTheContractAllows(t *testing.T) {
	Run(t, func(t testing.TB, n int) *Backend {
		broker := membus.NewBroker(membus.Options{Lease: time.Second, MaxSanctions: 20})
		t.Cleanup(broker.Close)
		b := &Backend{}
		for range n {
			b.Instances = append(b.Instances, newLenient(broker.Instance()))
		}
		b.Another = func() bus.Bus { return newLenient(broker.Instance()) }
		return b
	}, Capabilities{Bubble: synctest.Test, Lease: time.Second, MaxSanctions: 20})
}

// TestTheSuiteRunsInRealTime: as it does over a network.
func TestTheSuiteRunsInRealTime(t *testing.T) {
	Run(t, planted(mutant{}), Capabilities{Lease: 100 * time.Millisecond, Short: 50 * time.Millisecond, ExactKeep: true, MaxSanctions: 20})
}
