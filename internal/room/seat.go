package room

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/wsrelay/relay/internal/bus"
	"github.com/wsrelay/relay/internal/wire"
)

// Seat is one socket's place in one room.
type Seat struct {
	room   *Room
	sink   Sink
	member string
	conn   string
	who    *presence
	actor  atomic.Pointer[Actor] // replaced by Recheck

	// Guarded by Room.mu.
	index     int  // in Room.seats; -1: not there any more
	live      bool // joined has been queued
	held      []heldFrame
	heldBytes int
	overflow  bool
	at        bus.Position // of the joined reply
	atVersion uint64       // likewise, of the member list
	behind    bool         // this instance has yet to reach the epoch of at
	pending   []*receipt   // messages without an ack, in the order of publishing

	publish atomic.Pointer[publishAnswer]
	limit   *limiter
	lane    Lane // messages that filters judge

	mu       sync.Mutex
	inFlight int           // messages handed to the bus and not resolved; guarded by mu
	drained  chan struct{} // closed when inFlight reaches 0; guarded by mu
}

// heldFrame waits for the joined reply of a seat that is not live yet.
type heldFrame struct {
	e *bus.Event
	f *wire.Frame
}

// Room is the id of the seat's room.
func (s *Seat) Room() string { return s.room.id }

// hold keeps a frame for a seat that is not live yet. Room.mu is held.
func (s *Seat) hold(e *bus.Event, f *wire.Frame, bound int) {
	s.heldBytes += len(f.Bytes())
	if s.heldBytes > bound {
		s.overflow, s.held = true, nil
		return
	}
	s.held = append(s.held, heldFrame{e, f})
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
	if s.overflow || s.index < 0 {
		return false
	}
	if at.Version >= r.version {
		r.count, r.version = at.Count, at.Version
	}
	s.at, s.atVersion = at.Position, at.Version
	if r.pos.Epoch == "" { // the room began with this very entry
		r.pos = at.Position
	}
	s.behind = r.pos.Epoch != at.Epoch
	for _, h := range s.held {
		if h.e.Kind == bus.Notice && h.e.Notice == bus.NoticeEpoch && h.e.Epoch != at.Epoch {
			s.behind = false // the room has moved on since the reply was made
		}
	}
	s.sink.Send(joined)
	for i, h := range s.held {
		if !epochAhead(s.held[i:], at.Epoch) && !s.tells(h.e) {
			s.sink.Send(h.f)
		}
	}
	s.live, s.held, s.heldBytes = true, nil, 0
	return true
}

// unhush ends the barrier for a seat whose rejoin failed: it was live before,
// and all that was held back is still owed to it.
func (s *Seat) unhush() bool {
	r := s.room
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.overflow || s.index < 0 {
		return false
	}
	for _, h := range s.held {
		if !s.tells(h.e) {
			s.sink.Send(h.f)
		}
	}
	s.live, s.held, s.heldBytes = true, nil, 0
	return true
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
	s.mu.Lock()
	if s.inFlight == 0 {
		s.mu.Unlock()
		return nil
	}
	if s.drained == nil {
		s.drained = make(chan struct{})
	}
	ch := s.drained
	s.mu.Unlock()
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
	_ = s.Drained(ctx) // out of time: leave all the same
	r := s.room
	if !r.detach(s) {
		return false
	}
	s.who.mu.Lock()
	if s.who.sockets--; s.who.sockets == 0 {
		l.Room, l.Member = r.id, s.member
		if err := r.reg.bus.Leave(ctx, &l); err != nil {
			r.reg.log.DebugContext(ctx, "leave will be carried out when the bus is back", "room", r.id, "error", err)
		}
	}
	s.who.mu.Unlock()
	r.dropPresence(s.member, s.who)
	r.reg.bus.Unsubscribe(r.id)
	r.reg.limits.unpin(s.limit)
	r.reg.release(r)
	return true
}
