package gateway

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/wsrelay/relay/auth"
	"github.com/wsrelay/relay/internal/bus"
	"github.com/wsrelay/relay/internal/room"
	"github.com/wsrelay/relay/internal/wire"
)

// The handlers below run one at a time per session. What they return is sent as
// an error that echoes the request's id.

func (s *session) create(ctx context.Context, req *wire.Request) *wire.Error {
	id := string(req.RoomID)
	switch {
	case id == "" && len(req.Key) > 0:
		return &wire.Error{Code: wire.BadRequest, Message: "key: needs a roomId of your own choice, or a repeat could not find the room again"}
	case id == "":
		id = randomName(26)
	}
	if e := s.mayEnter(id); e != nil {
		return e
	}
	if s.seat(req.RoomID) != nil {
		return &wire.Error{Code: wire.RoomExists, RoomID: id, Message: "a room of this id exists, and you are in it"}
	}
	a := s.actor.Load()
	seat, e := s.gw.opt.Rooms.Create(ctx, a, s, id, string(req.Key), func(at *bus.Entered) *wire.Frame {
		return (&wire.Created{
			ID: req.ID, RoomID: id, User: a.User, Epoch: at.Epoch, Seq: at.Seq, Members: at.Members, Count: at.Count,
		}).Frame()
	})
	return s.take(ctx, seat, e)
}

func (s *session) join(ctx context.Context, req *wire.Request) *wire.Error {
	id := string(req.RoomID)
	if e := s.mayEnter(id); e != nil {
		return e
	}
	var resume *bus.Position
	if req.Resume.Present {
		resume = &bus.Position{Epoch: string(req.Resume.Epoch), Seq: req.Resume.Seq}
	}
	a := s.actor.Load()
	reply := func(at *bus.Entered) *wire.Frame {
		return (&wire.Joined{
			ID: req.ID, RoomID: id, User: a.User, Epoch: at.Epoch, Seq: at.Seq, Members: at.Members, Count: at.Count,
			Recovered: at.Recovered, Messages: room.WireEvents(at.Missed),
		}).Frame()
	}
	if seat := s.seat(req.RoomID); seat != nil {
		e := seat.Rejoin(ctx, resume, reply)
		if e != nil && seat.Gone() { // the next try is a join like any other
			s.drop(seat)
		}
		return e
	}
	seat, e := s.gw.opt.Rooms.Join(ctx, a, s, id, resume, reply)
	return s.take(ctx, seat, e)
}

// mayEnter checks what the endpoint and the connection allow, before the room's
// policy is asked.
func (s *session) mayEnter(roomID string) *wire.Error {
	ep := s.ep.Load()
	if !ep.Rooms.Allows(roomID) {
		return &wire.Error{Code: wire.Forbidden, RoomID: roomID, Message: "this room may not be joined here"}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if find(s.seats, roomID) == nil && ep.RoomsPerConnection > 0 && len(s.seats) >= ep.RoomsPerConnection {
		return &wire.Error{Code: wire.RateLimited, RoomID: roomID, Message: "this connection is in as many rooms as it may be; exit one first"}
	}
	return nil
}

// take notes a seat, or gives it back when the socket closed meanwhile. One that
// was taken away meanwhile is not kept: Evicted may have come too early to find it.
func (s *session) take(ctx context.Context, seat *room.Seat, e *wire.Error) *wire.Error {
	if e != nil {
		return e
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		seat.Leave(ctx, true)
		return nil
	}
	if s.seats == nil {
		s.seats = make(seats, 0, 1)
	}
	s.seats = append(s.seats, seat)
	s.mu.Unlock()
	if seat.Gone() {
		s.drop(seat)
	}
	return nil
}

// drop forgets a seat.
func (s *session) drop(seat *room.Seat) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seats.remove(seat)
}

func (s *session) chat(req *wire.Request, now time.Time) *wire.Error {
	a := s.actor.Load()
	c := room.Chat{Message: bytes.Clone(req.Message), Key: string(req.Key), Trace: s.trace(req, now)}
	ack := s.acker(req)
	if n := s.inFlight.Add(1); n >= maxInFlight && s.stalled.CompareAndSwap(false, true) {
		s.conn.Pause()
	}
	var e *wire.Error
	if seat := s.seat(req.RoomID); seat != nil {
		e = seat.Publish(c, ack)
	} else if e = s.mayReach(string(req.RoomID)); e != nil {
		s.gw.opt.Rooms.Refused(a, string(req.RoomID), c, e)
	} else {
		e = s.gw.opt.Rooms.PublishFrom(a, s.outsideLane(), string(req.RoomID), c, ack)
	}
	if e != nil {
		s.resolved()
	}
	return e
}

// trace is what a chat brings along for tracing.
func (s *session) trace(req *wire.Request, now time.Time) room.Trace {
	t := room.Trace{Start: now, Origin: s.ep.Load().Trace.Origin(req.Traceparent, now)}
	t.Origin.Debug = s.debug != nil && now.Before(*s.debug) ||
		len(req.Debug) > 0 && !s.gw.opt.Debug.Until(string(req.Debug), now).IsZero()
	if s.handshake != nil {
		t.Handshake = *s.handshake
	}
	return t
}

// refused tells of a chat that goes no further than this session, once it is
// known whose it is.
func (s *session) refused(req *wire.Request, now time.Time, e *wire.Error) {
	if a := s.actor.Load(); a != nil && req.Type == wire.TypeChat {
		s.gw.opt.Rooms.Refused(a, string(req.RoomID), room.Chat{Message: req.Message, Trace: s.trace(req, now)}, e)
	}
}

// outsideLane is made when it is first needed, by the one goroutine that reads.
func (s *session) outsideLane() *room.Lane {
	l := s.outside.Load()
	if l == nil {
		l = new(room.Lane)
		s.outside.Store(l)
	}
	return l
}

// mayReach says whether a room that the session is not in may be spoken to from
// this endpoint at all.
func (s *session) mayReach(roomID string) *wire.Error {
	if !s.ep.Load().Rooms.Allows(roomID) {
		return &wire.Error{Code: wire.NotMember, RoomID: roomID, Message: "join the room first"}
	}
	return nil
}

// acker makes the function that answers a chat once its fate is known.
func (s *session) acker(req *wire.Request) room.Ack {
	id, roomID := bytes.Clone(req.ID), string(req.RoomID)
	return func(res room.Accepted, e *wire.Error) {
		switch {
		case e != nil:
			s.fail(id, e)
		case id != nil:
			s.conn.Send((&wire.Ack{
				ID: id, RoomID: roomID, Seq: res.Seq, MessageID: res.ID, Time: res.Time, Message: res.Message, Duplicate: res.Duplicate,
			}).Frame())
		}
		s.resolved()
	}
}

// resolved counts a message whose fate is known, and reads on when enough are.
func (s *session) resolved() {
	if n := s.inFlight.Add(-1); n <= maxInFlight/2 && s.stalled.CompareAndSwap(true, false) {
		s.conn.Resume()
	}
}

func (s *session) signal(req *wire.Request) *wire.Error {
	seat := s.seat(req.RoomID)
	if seat == nil {
		return notMember(req.RoomID)
	}
	return seat.Signal(bytes.Clone(req.Data))
}

func (s *session) exit(ctx context.Context, req *wire.Request) *wire.Error {
	seat := s.seat(req.RoomID)
	if seat == nil {
		return notMember(req.RoomID)
	}
	s.drop(seat)
	seat.Leave(ctx, false)
	s.conn.Send((&wire.Exited{ID: req.ID, RoomID: seat.Room()}).Frame())
	return nil
}

func (s *session) members(ctx context.Context, req *wire.Request) *wire.Error {
	seat := s.seat(req.RoomID)
	if seat == nil {
		return notMember(req.RoomID)
	}
	page, e := seat.Members(ctx, string(req.Cursor))
	if e != nil {
		return e
	}
	s.conn.Send((&wire.Members{ID: req.ID, RoomID: seat.Room(), Members: page.Members, Count: page.Count, Cursor: page.Cursor}).Frame())
	return nil
}

func (s *session) history(ctx context.Context, req *wire.Request) *wire.Error {
	seat := s.seat(req.RoomID)
	if seat == nil {
		return notMember(req.RoomID)
	}
	page, e := seat.History(ctx, bus.HistoryQuery{Before: req.Before, After: req.After, Oldest: req.HasAfter && req.After == 0, Limit: req.Limit})
	if e != nil {
		return e
	}
	s.conn.Send((&wire.History{ID: req.ID, RoomID: seat.Room(), Epoch: page.Epoch, Messages: room.WireEvents(page.Events)}).Frame())
	return nil
}

func (s *session) redact(ctx context.Context, req *wire.Request) *wire.Error {
	seat := s.seat(req.RoomID)
	if seat == nil {
		return notMember(req.RoomID)
	}
	id, roomID, target := req.ID, seat.Room(), req.MessageID
	return seat.Redact(ctx, target, req.Seq, string(req.Reason), func(at bus.Position) {
		if id != nil {
			s.conn.Send((&wire.Ack{ID: id, RoomID: roomID, Seq: at.Seq, MessageID: target}).Frame())
		}
	})
}

// authenticate takes a token: the first one where the endpoint waits for it, or
// a fresh one for the same user.
func (s *session) authenticate(ctx context.Context, req *wire.Request) *wire.Error {
	ep := s.ep.Load()
	id, err := ep.Auth.Authenticate(ctx, auth.Credentials{Bearer: map[auth.Source]string{auth.Message: string(req.Token)}})
	if err != nil {
		s.refuse(req.ID, err)
		return nil
	}
	if old := s.actor.Load(); old != nil {
		if auth.Refresh(old.Identity, id) != nil {
			return &wire.Error{Code: wire.UserMismatch, Message: "token: belongs to another user than this connection"}
		}
	}
	if e := s.become(id); e != nil {
		return e
	}
	a := s.actor.Load()
	s.conn.Send((&wire.Authenticated{ID: req.ID, User: a.User, ExpiresAt: unixMilli(id.Expires)}).Frame())
	for _, seat := range s.snapshot() {
		s.gw.opt.Rooms.Recheck(ctx, seat, a)
	}
	return nil
}

func (s *session) snapshot() []*room.Seat {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.seats)
}

func notMember(roomID []byte) *wire.Error {
	return &wire.Error{Code: wire.NotMember, RoomID: string(roomID), Message: "join the room first"}
}

func unixMilli(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}
