package membus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/wsrelay/relay/internal/bus"
)

var _ bus.Bus = (*Bus)(nil)

// Bus is one instance's end of a Broker.
type Bus struct {
	bus.AtOnce

	broker *Broker
	alone  bool // the broker is this instance's own: closed with it

	handler atomic.Pointer[bus.Handler] // set once, by Start

	// calls counts methods under way; once closed is set it only falls, and
	// drained is closed when it reaches zero.
	calls   atomic.Int64
	closed  atomic.Bool
	drained chan struct{}
	once    sync.Once // closes drained
}

// New makes an embedded bus for one instance.
func New(o Options) *Bus {
	b := NewBroker(o).Instance()
	b.alone = true
	return b
}

// Start begins to deliver to h. It fails only when called twice or after Close.
func (b *Bus) Start(_ context.Context, h bus.Handler) error {
	if b.closed.Load() {
		return fmt.Errorf("starting the embedded bus: %w", bus.ErrClosed)
	}
	if !b.handler.CompareAndSwap(nil, &h) {
		return errors.New("starting the embedded bus: started already")
	}
	b.broker.sanctions.attach(b)
	return nil
}

// Close ends the instance: nothing is delivered to its handler after it. It
// waits for the receipts of calls under way, at most as long as ctx allows.
func (b *Bus) Close(ctx context.Context) error {
	b.closed.Store(true)
	if b.calls.Load() == 0 {
		b.once.Do(func() { close(b.drained) })
	}
	select {
	case <-b.drained:
	case <-ctx.Done():
	}
	var err error
	select {
	case <-b.drained: // a late ctx does no harm when nothing is left
	default:
		err = fmt.Errorf("closing the embedded bus: receipts still being called: %w", ctx.Err())
	}
	for i := range b.broker.shards {
		b.broker.shards[i].detach(b)
	}
	b.broker.sanctions.detach(b)
	if b.alone {
		b.broker.Close()
	}
	return err
}

// detach removes an instance's subscriptions, and has its members reaped.
func (s *shard) detach(b *Bus) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.rooms {
		if i := r.sub(b); i >= 0 {
			r.subs = slices.Delete(r.subs, i, i+1)
		}
		if !b.alone {
			r.reap(b, s.broker.opts.Lease)
		}
		s.tidy(r)
	}
}

// begin starts a call, to be ended with end.
func (b *Bus) begin() error {
	b.calls.Add(1)
	if b.closed.Load() {
		b.end()
		return bus.ErrClosed
	}
	if b.handler.Load() == nil {
		b.end()
		return fmt.Errorf("%w: not started", bus.ErrUnavailable)
	}
	return nil
}

func (b *Bus) end() {
	if b.calls.Add(-1) == 0 && b.closed.Load() {
		b.once.Do(func() { close(b.drained) })
	}
}

// Subscribe never fails on a started bus.
func (b *Bus) Subscribe(_ context.Context, name string, keeps bool) (bus.Position, error) {
	if err := b.begin(); err != nil {
		return bus.Position{}, fmt.Errorf("subscribing to room %q: %w", name, err)
	}
	defer b.end()
	s := b.broker.shard(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.room(name)
	i := r.sub(b)
	if i < 0 {
		i = len(r.subs)
		r.subs = append(r.subs, sub{bus: b})
	}
	r.subs[i].count++
	if !keeps {
		return bus.Position{}, nil
	}
	// Deliveries are under the same lock: everything up to here was delivered.
	r.subs[i].last = r.position()
	return r.position(), nil
}

// Unsubscribe takes effect at once when it is the last.
func (b *Bus) Unsubscribe(name string) {
	if b.begin() != nil {
		return
	}
	defer b.end()
	s := b.broker.shard(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.rooms[name]
	if r == nil {
		return
	}
	i := r.sub(b)
	if i < 0 {
		return
	}
	if r.subs[i].count--; r.subs[i].count == 0 {
		r.subs = slices.Delete(r.subs, i, i+1)
		s.tidy(r)
	}
}

// Publish delivers the message before it returns; see the package comment.
func (b *Bus) Publish(m *bus.Message, receipt bus.Receipt) error {
	if err := b.begin(); err != nil {
		return fmt.Errorf("publishing: %w", err)
	}
	defer b.end()
	e := m.Event
	e.Position = bus.Position{}
	e.Key = m.Key
	s := b.broker.shard(e.Room)
	var result bus.Result
	if e.Kind == bus.Chat && m.Retention.Kept() {
		var err error
		result, err = s.append(m, &e)
		for errors.Is(err, errCrowded) && b.broker.forgetLongestEmpty() {
			result, err = s.append(m, &e)
		}
		if err != nil {
			return fmt.Errorf("publishing to room %q: %w", e.Room, err)
		}
		b.broker.trim()
	} else {
		s.deliver(&e)
		result = bus.Result{ID: e.ID, Time: e.Time}
	}
	receipt.Published(result)
	return nil
}

// Signal delivers before it returns.
func (b *Bus) Signal(event *bus.Event) error {
	if err := b.begin(); err != nil {
		return fmt.Errorf("signalling: %w", err)
	}
	defer b.end()
	e := *event
	e.Kind, e.Position = bus.Signal, bus.Position{}
	b.broker.shard(e.Room).deliver(&e)
	return nil
}

// Health is nil between Start and Close.
func (b *Bus) Health() error {
	switch {
	case b.closed.Load():
		return bus.ErrClosed
	case b.handler.Load() == nil:
		return fmt.Errorf("%w: not started", bus.ErrUnavailable)
	}
	return nil
}
