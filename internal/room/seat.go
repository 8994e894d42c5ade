package room

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/wsrelay/relay/internal/bus"
	"github.com/wsrelay/relay/internal/wire"
	"github.com/wsrelay/relay/telemetry"
)

// Seat is one socket's place in one room. It is kept small: most who sit
// somewhere are quiet.
type Seat struct {
	room  *Room
	sink  Sink
	conn  string
	who   *presence
	actor atomic.Pointer[Actor] // replaced by Recheck alone
	voice atomic.Pointer[voice] // nil until the first message; written under Room.mu

	// Guarded by Room.mu.
	barrier   *barrier     // nil: joined has been queued
	at        bus.Position // of the joined reply
	atVersion uint64       // likewise, of the member list
	index     int32        // in Room.seats; -1: not there any more
	behind    bool         // this instance has yet to reach the epoch of at

	stage stage // guarded by who.mu
}

// stage is how far a seat has come in taking what enter takes for it (a count in
// who.sockets, a subscription, a share of the room) and in giving it back.
type stage uint8

const (
	coming  stage = 1 << iota // the bus has not said yet whether the member is in: enter gives back
	counted                   // in who.sockets
	settled                   // all was given back
)

// voice is what a seat needs to publish.
type voice struct {
	limit   *limiter
	lane    Lane // messages that filters judge
	publish atomic.Pointer[publishAnswer]
	over    atomic.Bool // the seat is left, or about to be: nothing more is accepted
	pending []*receipt  // messages without an ack, in the order of publishing; guarded by Room.mu

	mu       sync.Mutex
	inFlight int           // messages handed to the bus and not resolved; guarded by mu
	drained  chan struct{} // closed when inFlight reaches 0; guarded by mu
}

// speak is the seat's voice, made with its first message.
func (s *Seat) speak() *voice {
	if v := s.voice.Load(); v != nil {
		return v
	}
	r := s.room
	r.mu.Lock()
	defer r.mu.Unlock()
	v := s.voice.Load()
	if v == nil {
		limits := r.reg.limits
		v = &voice{limit: limits.pin(r.id, s.who.member)}
		if s.index < 0 { // it has left: detach has been and will not unpin
			limits.unpin(v.limit)
			v.over.Store(true)
		}
		s.voice.Store(v)
	}
	return v
}

// barrier holds back what comes by until joined has been queued.
type barrier struct {
	held     []heldFrame
	bytes    int
	overflow bool
}

type heldFrame struct {
	e     *bus.Event
	f     *wire.Frame
	track *telemetry.Delivery // nil: not followed
	then  func()              // instead of a frame: what has its place there
}

// Room is the id of the seat's room.
func (s *Seat) Room() string { return s.room.id }

// Gone reports whether the seat was taken away, or given up by a rejoin that
// failed: it is of no use any more.
func (s *Seat) Gone() bool {
	s.room.mu.Lock()
	defer s.room.mu.Unlock()
	return s.index < 0
}

// hold keeps a frame for a seat that is not live yet. Room.mu is held.
func (b *barrier) hold(h heldFrame, bound int) {
	b.bytes += len(h.f.Bytes())
	if b.bytes > bound {
		b.overflow = true
		b.abandon()
		return
	}
	b.held = append(b.held, h)
}

// abandon drops the frames, for a seat that is of no use; what has its place
// between them is due. Room.mu is held.
func (b *barrier) abandon() {
	held := b.held
	b.held = nil
	for _, h := range held {
		if h.then != nil {
			h.then()
		}
	}
}

// inPlace calls f when everything that has come by is queued to the seat: now,
// unless the join barrier holds it back. Room.mu is held, and is when f is called.
func (s *Seat) inPlace(f func()) {
	b := s.barrier
	if b == nil || b.overflow {
		f()
		return
	}
	b.held = append(b.held, heldFrame{e: new(bus.Event), then: f})
}

// goLive queues the joined reply and then what was held back and is not part
// of it; from here on the seat gets events as they come. It reports false when
// too much came by meanwhile: the seat is of no use then.
//
// This is the join barrier: joined speaks of one moment of the room, everything
// up to it is in joined, everything after it follows. The bus brings the reply
// and the events on different ways, so events of before may still come long
// after joined: tells drops them.
func (s *Seat) goLive(at *bus.Entered, joined *wire.Frame) bool {
	r := s.room
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.index < 0 || s.barrier.overflow {
		return false
	}
	held := s.barrier.held
	if at.Version >= r.version {
		r.count, r.version = at.Count, at.Version
	}
	s.at, s.atVersion = at.Position, at.Version
	if r.pos.Epoch == "" { // the room began with this very entry
		r.pos = at.Position
	}
	if s.behind = r.pos.Epoch != at.Epoch; !s.behind {
		s.at.Epoch = r.pos.Epoch // the same text, kept once for all seats
	}
	for _, h := range held {
		if h.e.Kind == bus.Notice && h.e.Notice == bus.NoticeEpoch && h.e.Epoch != at.Epoch {
			s.behind = false // the room has moved on since the reply was made
		}
	}
	s.sink.Send(joined)
	for i, h := range held {
		switch {
		case h.then != nil:
			h.then()
		case !epochAhead(held[i:], at.Epoch) && !s.tells(h.e):
			s.release(h)
		}
	}
	s.barrier = nil
	return true
}

// unhush ends the barrier for a seat whose rejoin failed: it was live before,
// and all that was held back is still owed to it.
func (s *Seat) unhush() bool {
	r := s.room
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.index < 0 || s.barrier.overflow {
		return false
	}
	for _, h := range s.barrier.held {
		switch {
		case h.then != nil:
			h.then()
		case !s.tells(h.e):
			s.release(h)
		}
	}
	s.barrier = nil
	return true
}

// release queues a frame that was held back: only now is it one of those that are
// waited for. Room.mu is held.
func (s *Seat) release(h heldFrame) {
	h.track.Enqueued(s.conn)
	s.sink.Send(h.f)
	if h.f.Chat() {
		s.room.reg.stats.Delivered.Add(1)
	}
}

// epochAhead reports whether the start of an epoch is still to come: what is
// before it belongs to an older one.
func epochAhead(held []heldFrame, epoch string) bool {
	for _, h := range held[1:] {
		if h.e.Kind == bus.Notice && h.e.Notice == bus.NoticeEpoch && h.e.Epoch == epoch {
			return true
		}
	}
	return false
}

// tells reports whether the seat's joined reply tells of an event already:
// sequenced ones up to its position, member events up to its version, and all of
// the stream while this instance has yet to reach the epoch of the reply.
// Room.mu is held.
func (s *Seat) tells(e *bus.Event) bool {
	switch {
	case e.Kind == bus.Resync:
		s.atVersion = e.Version
		return false
	case e.Version != 0:
		return e.Version <= s.atVersion
	case e.Kind == bus.Notice && e.Notice == bus.NoticeEpoch:
		// Any other epoch is a later one: two forks while a reply was on its way.
		s.behind = false
		if e.Epoch == s.at.Epoch {
			return true
		}
		s.atVersion = 0 // where everything was lost, versions begin anew
		return false
	case e.Kind == bus.Notice && e.Notice == bus.NoticeLost:
		return s.behind || e.Epoch == s.at.Epoch && e.To <= s.at.Seq
	case e.Sequenced():
		return s.behind || e.Epoch == s.at.Epoch && e.Seq <= s.at.Seq
	}
	return false
}

// Drained waits until every message published through the seat is resolved, so
// that no chat of a member comes after its member_left.
func (s *Seat) Drained(ctx context.Context) error {
	v := s.voice.Load()
	if v == nil {
		return nil
	}
	v.mu.Lock()
	if v.inFlight == 0 {
		v.mu.Unlock()
		return nil
	}
	if v.drained == nil {
		v.drained = make(chan struct{})
	}
	ch := v.drained
	v.mu.Unlock()
	select {
	case <-ch:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Leave gives the seat up. With grace, the member stays present for a while for
// the sake of those who come right back.
func (s *Seat) Leave(ctx context.Context, grace bool) {
	var l bus.Leaving
	if p := s.room.rules.Load().policy; grace && p != nil {
		l.Grace = p.Grace
	}
	s.leave(ctx, l)
}

// leave waits for the seat's messages, takes the seat away and, with the
// member's last seat on this instance, its presence. It reports false when
// somebody else did that already.
func (s *Seat) leave(ctx context.Context, l bus.Leaving) bool {
	if v := s.voice.Load(); v != nil {
		v.over.Store(true) // or who always has one under way is never drained
	}
	_ = s.Drained(ctx) // out of time: leave all the same
	return s.abandon(ctx, l)
}

// abandon is leave without the wait.
func (s *Seat) abandon(ctx context.Context, l bus.Leaving) bool {
	first := s.room.detach(s)
	s.settle(ctx, l)
	return first
}

// cancel is abandon for a join that asks the bus for nothing.
func (s *Seat) cancel(ctx context.Context) {
	s.who.mu.Lock()
	s.stage &^= coming
	s.who.mu.Unlock()
	s.abandon(ctx, bus.Leaving{})
}

// settle gives back what enter took, once. A seat may be taken away while enter
// still asks the bus, which holds who.mu meanwhile or is about to: then that is
// left to enter, or a Leave would come before the Enter that it is meant for.
func (s *Seat) settle(ctx context.Context, l bus.Leaving) {
	r := s.room
	s.who.mu.Lock()
	if s.stage&(coming|settled) != 0 {
		s.who.mu.Unlock()
		return
	}
	s.stage |= settled
	if s.stage&counted != 0 {
		if s.who.sockets--; s.who.sockets == 0 {
			l.Room, l.Member = r.id, s.who.member
			if err := r.reg.bus.Leave(ctx, &l); err != nil {
				r.reg.log.DebugContext(ctx, "leave will be carried out when the bus is back", "room", r.id, "error", err)
			}
		}
	}
	s.who.mu.Unlock()
	r.dropPresence(s.who)
	r.reg.bus.Unsubscribe(r.id)
	r.reg.release(r)
}
