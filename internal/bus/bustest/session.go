package bustest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/wsrelay/relay/internal/bus"
)

// session is one test's instances, started, and its words for using them. Its
// methods that take a node end the test on an error and so belong to the test's
// goroutine; those of node return errors and may be used from any.
type session struct {
	testing.TB
	caps    Capabilities
	backend *Backend
	nodes   []*node
	ctx     context.Context
	cancel  context.CancelFunc
	side    sync.WaitGroup
}

// node is one instance with its handler.
type node struct {
	bus.Bus
	index int
	tap   *tap

	mu       sync.Mutex
	receipts []*receipt // of all that was sent, for verify
}

func newSession(t testing.TB, factory Factory, caps Capabilities, n int) *session {
	t.Helper()
	s := &session{TB: t, caps: caps, backend: factory(t, n)}
	// Operations get longer than deliveries: a bus that hangs is to be told
	// from one that lost something.
	s.ctx, s.cancel = context.WithTimeout(context.Background(), 3*caps.Timeout)
	for i, b := range s.backend.Instances {
		nd := &node{Bus: b, index: i, tap: newTap()}
		nd.tap.verdicts.of = b
		s.nodes = append(s.nodes, nd)
		if err := b.Start(s.ctx, nd.tap); err != nil {
			t.Fatalf("starting instance %d: %v", i, err)
		}
	}
	return s
}

func (s *session) close() {
	for _, n := range s.nodes {
		if err := n.Close(s.ctx); err != nil {
			s.Errorf("closing instance %d: %v", n.index, err)
		}
		if open := n.tap.gathering(); open != 0 {
			s.Errorf("instance %d: after Close, Gather has been called %d times more than Flush", n.index, open)
		}
	}
	s.side.Wait()
	s.cancel()
}

// beside runs f next to the test, which may end early: close joins it. What f
// does must end when its instance is closed.
func (s *session) beside(f func()) (done <-chan struct{}) {
	ended := make(chan struct{})
	s.side.Go(func() {
		defer close(ended)
		f()
	})
	return ended
}

// sayBeside publishes n chats next to the test.
func (s *session) sayBeside(n *node, room string, count int, keep bus.Retention) (done <-chan struct{}) {
	return s.beside(func() {
		for i := range count {
			if _, err := n.send(chat(room, "speaker", fmt.Sprint(i), keep)); err != nil {
				s.Errorf("instance %d: publishing: %v", n.index, err)
				return
			}
		}
	})
}

// verify checks what must hold in every test, whatever it did.
func (s *session) verify() {
	s.Helper()
	for _, n := range s.nodes {
		if err := n.breach(); err != nil {
			s.Errorf("instance %d: %v", n.index, err)
		}
	}
}

// breach is a broken rule of Handler or Receipt.
func (n *node) breach() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range n.receipts {
		if times := r.calls(); times > 1 {
			return fmt.Errorf("a receipt was called %d times", times)
		}
	}
	return n.tap.breach()
}

// receipt records the fate of one message.
type receipt struct {
	mu     sync.Mutex
	times  int
	result bus.Result
	done   chan struct{} // closed by the first call
}

func (r *receipt) Published(result bus.Result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.times++; r.times == 1 {
		r.result = result
		r.result.Pipeline = 0 // how many went along is the bus's own matter
		close(r.done)
	}
}

func (r *receipt) calls() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.times
}

// send publishes without waiting.
func (n *node) send(m *bus.Message) (*receipt, error) {
	r := &receipt{done: make(chan struct{})}
	if err := n.Publish(m, r); err != nil {
		return nil, err
	}
	n.mu.Lock()
	n.receipts = append(n.receipts, r)
	n.mu.Unlock()
	return r, nil
}

// wait returns the result, or an error after the timeout.
func (r *receipt) wait(timeout time.Duration) (bus.Result, error) {
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	select {
	case <-r.done:
		return r.result, nil
	case <-deadline.C:
		return bus.Result{}, errors.New("the receipt was not called")
	}
}

// publish sends and returns the result, which may carry an error.
func (n *node) publish(m *bus.Message, timeout time.Duration) (bus.Result, error) {
	r, err := n.send(m)
	if err != nil {
		return bus.Result{}, err
	}
	return r.wait(timeout)
}

func (s *session) publish(n *node, m *bus.Message) bus.Result {
	s.Helper()
	result := s.tryPublish(n, m)
	if result.Err != nil {
		s.Fatalf("instance %d: publishing %s: %v", n.index, show(&m.Event), result.Err)
	}
	return result
}

func (s *session) tryPublish(n *node, m *bus.Message) bus.Result {
	s.Helper()
	result, err := n.publish(m, s.caps.Timeout)
	if err != nil {
		s.Fatalf("instance %d: publishing %s: %v", n.index, show(&m.Event), err)
	}
	return result
}

// say publishes n chats and returns their results.
func (s *session) say(n *node, room string, count int, keep bus.Retention) []bus.Result {
	s.Helper()
	sent := make([]*receipt, count)
	for i := range sent {
		var err error
		if sent[i], err = n.send(chat(room, "speaker", fmt.Sprintf(`"%d"`, i), keep)); err != nil {
			s.Fatalf("instance %d: publishing: %v", n.index, err)
		}
	}
	results := make([]bus.Result, count)
	for i, r := range sent {
		var err error
		if results[i], err = r.wait(s.caps.Timeout); err == nil {
			err = results[i].Err
		}
		if err != nil {
			s.Fatalf("instance %d: message %d of %d: %v", n.index, i, count, err)
		}
	}
	return results
}

func (s *session) subscribe(n *node, room string, keeps bool) bus.Position {
	s.Helper()
	at, err := n.Subscribe(s.ctx, room, keeps)
	if err != nil {
		s.Fatalf("instance %d: subscribing to %q: %v", n.index, room, err)
	}
	return at
}

func (s *session) subscribeAll(room string, keeps bool) {
	s.Helper()
	for _, n := range s.nodes {
		s.subscribe(n, room, keeps)
	}
}

func (s *session) enter(n *node, e *bus.Entry) *bus.Entered {
	s.Helper()
	entered, err := n.Enter(s.ctx, e)
	if err != nil {
		s.Fatalf("instance %d: entering %q as %s: %v", n.index, e.Room, e.Member, err)
	}
	return entered
}

func (s *session) leave(n *node, room, member string, grace time.Duration) {
	s.Helper()
	if err := n.Leave(s.ctx, &bus.Leaving{Room: room, Member: member, Grace: grace}); err != nil {
		s.Fatalf("instance %d: leaving %q as %s: %v", n.index, room, member, err)
	}
}

func (s *session) history(n *node, q bus.HistoryQuery) bus.HistoryPage {
	s.Helper()
	page, err := n.History(s.ctx, q)
	if err != nil {
		s.Fatalf("instance %d: reading history %+v: %v", n.index, q, err)
	}
	return page
}

// await waits for a state of what instance n was given for the room.
func (s *session) await(n *node, room, what string, cond func([]*bus.Event) bool) []*bus.Event {
	s.Helper()
	events, ok := n.tap.wait(room, s.caps.Timeout, cond)
	if !ok {
		s.Fatalf("instance %d, room %q: waited %v for %s; delivered:%s", n.index, room, s.caps.Timeout, what, showAll(events))
	}
	return events
}

// fence publishes a last message and returns what each instance was given
// before it. Nothing that was ordered before can come after.
func (s *session) fence(room string, keep bus.Retention) [][]*bus.Event {
	s.Helper()
	m := chat(room, "fence", `"fence"`, keep)
	s.publish(s.nodes[0], m)
	all := make([][]*bus.Event, len(s.nodes))
	for i, n := range s.nodes {
		events := s.await(n, room, "the last message", func(events []*bus.Event) bool {
			return index(events, m.Event.ID) >= 0
		})
		all[i] = events[:index(events, m.Event.ID)]
	}
	return all
}

// eventually polls a state that no delivery announces.
func (s *session) eventually(what string, cond func() bool) {
	s.Helper()
	deadline := time.NewTimer(s.caps.Timeout)
	defer deadline.Stop()
	tick := time.NewTicker(max(s.caps.Short/10, time.Millisecond))
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline.C:
			s.Fatalf("waited %v for %s", s.caps.Timeout, what)
		}
	}
}
