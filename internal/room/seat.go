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
	pending   []*receipt // messages without an ack, in the order of publishing

	publish atomic.Pointer[publishAnswer]
	limit   *limiter

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
// up to it is in joined, everything after it follows.
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
	s.sink.Send(joined)
	for _, h := range afterJoin(s.held, at) {
		s.sink.Send(h.f)
	}
	s.live, s.held, s.heldBytes = true, nil, 0
	return true
}

// afterJoin drops from held what the joined reply already tells: sequenced
// events up to its position, member events up to its version, and everything
// before the start of its epoch if that passed by meanwhile.
func afterJoin(held []heldFrame, at *bus.Entered) []heldFrame {
	for i, h := range held {
		if h.e.Kind == bus.Notice && h.e.Notice == bus.NoticeEpoch && h.e.Epoch == at.Epoch {
			held = held[i+1:]
			break
		}
	}
	keep := held[:0]
	for _, h := range held {
		e := h.e
		switch {
		case e.Sequenced() && e.Epoch == at.Epoch && e.Seq <= at.Seq:
		case e.Version != 0 && e.Version <= at.Version:
		case e.Kind == bus.Notice && e.Notice == bus.NoticeLost && e.Epoch == at.Epoch && e.To <= at.Seq:
		default:
			keep = append(keep, h)
		}
	}
	return keep
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
