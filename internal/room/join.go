package room

import (
	"context"
	"errors"

	"github.com/wsrelay/relay/internal/bus"
	"github.com/wsrelay/relay/internal/room/policy"
	"github.com/wsrelay/relay/internal/wire"
)

// Reply encodes the answer to a create or join. It is called while the room's
// order is held.
type Reply func(*bus.Entered) *wire.Frame

// Create makes a room and seats its creator. key, when not empty, makes a
// repeat of the same create by the same user succeed.
func (g *Registry) Create(ctx context.Context, a *Actor, sink Sink, roomID, key string, reply Reply) (*Seat, *wire.Error) {
	ru := g.force.Load().match(roomID)
	if e := g.may(ru, policy.Create, g.input(ru, a, roomID), "this room may not be created by you"); e != nil {
		return nil, e
	}
	if e := g.admit(ctx, a, ru, roomID); e != nil {
		return nil, e
	}
	e := entry(ru.policy, a, roomID)
	e.Create, e.CreateKey = bus.MustCreate, key
	return g.enter(ctx, a, sink, ru, e, reply)
}

// Join seats an actor in a room, which is made where the policy lets the actor
// create it. resume, when set, asks for what came after it.
//
// Who may not join is told forbidden before anything is looked up, so that
// nobody can find out which rooms exist.
func (g *Registry) Join(ctx context.Context, a *Actor, sink Sink, roomID string, resume *bus.Position, reply Reply) (*Seat, *wire.Error) {
	ru := g.force.Load().match(roomID)
	in := g.input(ru, a, roomID)
	if e := g.may(ru, policy.Join, in, "this room may not be joined by you"); e != nil {
		return nil, e
	}
	if e := g.admit(ctx, a, ru, roomID); e != nil {
		return nil, e
	}
	e := entry(ru.policy, a, roomID)
	g.resume(e, resume)
	e.Create = bus.MustExist
	if ru.policy.Allow(policy.Create, in).Allowed {
		e.Create = bus.MayCreate
	}
	return g.enter(ctx, a, sink, ru, e, reply)
}

// admit asks sanctions and filters about somebody whom the rules let in.
func (g *Registry) admit(ctx context.Context, a *Actor, ru *rules, roomID string) *wire.Error {
	if e := g.sanctioned(a, roomID, bus.Ban); e != nil {
		return e
	}
	return g.askJoin(ctx, a, ru, roomID)
}

// Rejoin answers a join for a seat that is taken already: the state of the room
// now, and what came after resume.
func (s *Seat) Rejoin(ctx context.Context, resume *bus.Position, reply Reply) *wire.Error {
	r, a := s.room, s.actor.Load()
	p := r.rules.Load().policy
	if p == nil {
		return r.reg.refuse(wire.Forbidden, r.id, "this room may not be joined by you")
	}
	e := entry(p, a, r.id)
	r.reg.resume(e, resume)
	e.Create = bus.MayCreate
	if !r.hush(s) {
		return left(r.id)
	}
	s.who.mu.Lock()
	if s.stage&settled != 0 { // its Leave has been sent: an Enter now would stand for nobody
		s.who.mu.Unlock()
		return left(r.id)
	}
	at, err := r.reg.bus.Enter(ctx, e)
	s.who.mu.Unlock()
	if err != nil {
		if !s.unhush() {
			s.leave(ctx, bus.Leaving{})
		}
		return refusal(err, r.id)
	}
	if !s.goLive(at, reply(at)) {
		s.leave(ctx, bus.Leaving{})
		return r.reg.overflowed(r.id)
	}
	return nil
}

// hush puts a live seat behind the join barrier again.
func (r *Room) hush(s *Seat) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.index < 0 {
		return false
	}
	s.barrier = new(barrier)
	return true
}

// may asks a rule, and says what is wrong where it does not allow something: to
// developers in dev mode with the rule that decided.
func (g *Registry) may(ru *rules, act policy.Action, in *policy.Input, message string) *wire.Error {
	d := policy.Decision{Rule: "rooms", Why: "no entry matches this room, and what none matches is forbidden"}
	if ru.policy != nil {
		if d = ru.policy.Allow(act, in); d.Allowed {
			return nil
		}
	}
	e := g.refuse(wire.Forbidden, in.RoomID, message)
	if g.opt.Hints {
		e.Hint = d.Rule + ": " + d.Why
	}
	return e
}

// input is what rules see of somebody who is not in the room.
func (g *Registry) input(ru *rules, a *Actor, roomID string) *policy.Input {
	return &policy.Input{
		User: a.Identity, RoomID: roomID, Params: ru.params, Members: g.count(roomID),
		Endpoint: a.Endpoint, ClientIP: a.IP,
	}
}

// count is the number of members of a room as last heard here, 0 for a room
// that nobody here is in.
func (g *Registry) count(roomID string) int {
	sh := g.shardOf(roomID)
	sh.mu.RLock()
	r := sh.rooms[roomID]
	sh.mu.RUnlock()
	if r == nil {
		return 0
	}
	return r.memberCount()
}

func entry(p *policy.Policy, a *Actor, roomID string) *bus.Entry {
	e := &bus.Entry{Room: roomID, Member: a.Identity.ID, User: a.User}
	terms(e, p)
	return e
}

// terms are what a policy says of an entry.
func terms(e *bus.Entry, p *policy.Policy) {
	e.Max, e.Presence, e.Announce = p.MembersMax, p.Presence, p.Announce && p.Presence
	e.Retention, e.Idle, e.Grace = retention(p), p.Idle, p.Grace
}

func retention(p *policy.Policy) bus.Retention {
	if p.History == nil {
		return bus.Retention{}
	}
	return bus.Retention{Keep: p.History.Keep, For: p.History.For}
}

func (g *Registry) resume(e *bus.Entry, from *bus.Position) {
	if from != nil {
		e.Resume, e.ResumeMax, e.ResumeBytes = from, g.opt.ResumeMax, g.opt.ResumeBytes
	}
}

// enter is the join barrier of ARCHITECTURE.md: subscription confirmed, seat
// attached and buffering, presence and position in one step, joined queued,
// what was buffered and is newer, live.
func (g *Registry) enter(ctx context.Context, a *Actor, sink Sink, ru *rules, e *bus.Entry, reply Reply) (*Seat, *wire.Error) {
	r := g.acquire(e.Room)
	e.Room = r.id // the same text, kept once for all members
	pos, err := g.bus.Subscribe(ctx, e.Room, e.Retention.Kept())
	if err != nil {
		g.release(r)
		return nil, refusal(err, e.Room)
	}
	s := &Seat{room: r, sink: sink, conn: a.Conn, who: r.presenceOf(e.Member), barrier: new(barrier), stage: coming}
	s.actor.Store(a)
	r.attach(s, pos)
	ru, refused := g.stillMay(r, a, ru, e)
	if refused != nil {
		s.cancel(ctx)
		return nil, refused
	}
	g.recall(ctx, r, ru)

	s.who.mu.Lock()
	at, err := g.bus.Enter(ctx, e)
	s.stage &^= coming
	if err == nil || errors.Is(err, bus.ErrUnknownOutcome) {
		s.who.sockets++ // settle gives it back
		s.stage |= counted
	}
	s.who.mu.Unlock()
	switch {
	case err != nil:
		s.abandon(ctx, bus.Leaving{})
		return nil, refusal(err, e.Room)
	case !s.goLive(at, reply(at)):
		if !s.abandon(ctx, bus.Leaving{}) { // kicked, or the like, before it was in
			return nil, left(e.Room)
		}
		return nil, g.overflowed(e.Room)
	}
	return s, nil
}

// stillMay asks again what may have changed since it was asked first: a ban or a
// reload from now on finds the seat, but one that has come meanwhile did not. It
// returns the rules that hold now.
func (g *Registry) stillMay(r *Room, a *Actor, ru *rules, e *bus.Entry) (*rules, *wire.Error) {
	if refused := g.sanctioned(a, r.id, bus.Ban); refused != nil {
		return nil, refused
	}
	now := r.rules.Load()
	if now.policy == ru.policy { // of one reload: rules are matched anew for every room and join
		return now, nil
	}
	act, in := policy.Join, now.input(r, a, false)
	if e.Create == bus.MustCreate {
		act = policy.Create
	}
	if refused := g.may(now, act, in, "this room may not be joined by you"); refused != nil {
		return nil, refused
	}
	if e.Create == bus.MayCreate && !now.policy.Allow(policy.Create, in).Allowed {
		e.Create = bus.MustExist
	}
	terms(e, now.policy)
	return now, nil
}

// recall reads the newest messages for filters that want them, before the first
// member of the room on this instance can say anything. Without an answer they
// see fewer.
func (g *Registry) recall(ctx context.Context, r *Room, ru *rules) {
	if ru.filters == nil || ru.filters.Recent() == 0 || ru.policy.History == nil || len(r.lately(1)) > 0 {
		return
	}
	page, err := g.bus.History(ctx, bus.HistoryQuery{Room: r.id, Limit: ru.filters.Recent(), Bytes: g.opt.ResumeBytes})
	if err != nil {
		g.log.WarnContext(ctx, "filters see no earlier messages", "room", r.id, "error", err)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.recent) == 0 {
		r.recent = page.Events
	}
}

func (g *Registry) overflowed(roomID string) *wire.Error {
	g.stats.JoinOverflow.Add(1)
	return &wire.Error{Code: wire.Unavailable, RoomID: roomID, Retry: true, Message: "the room was too busy to join; try again"}
}

// left is the answer to who has lost the seat that the request is about.
func left(roomID string) *wire.Error {
	return &wire.Error{Code: wire.NotMember, RoomID: roomID, Message: "you left this room meanwhile"}
}

// refuse makes the error for something that a rule forbids, and counts it.
func (g *Registry) refuse(code wire.Code, roomID, message string) *wire.Error {
	g.stats.Refused.Add(1)
	return &wire.Error{Code: code, RoomID: roomID, Message: message}
}

// refusal puts an error of the bus into the client's words.
func refusal(err error, roomID string) *wire.Error {
	e := &wire.Error{RoomID: roomID}
	switch {
	case errors.Is(err, bus.ErrRoomExists):
		e.Code, e.Message = wire.RoomExists, "a room of this id exists; join it, or choose another id"
	case errors.Is(err, bus.ErrRoomNotFound):
		e.Code, e.Message = wire.RoomNotFound, "there is no such room, and you may not create it"
	case errors.Is(err, bus.ErrRoomFull):
		e.Code, e.Message, e.Retry = wire.RoomFull, "the room is full", true
	case errors.Is(err, bus.ErrKeyReused):
		e.Code, e.Message = wire.BadRequest, "key: was used with another message in the last 10 minutes; use a new key for a new message"
	case errors.Is(err, bus.ErrNoHistory):
		e.Code, e.Message = wire.HistoryUnavailable, "this room keeps no history"
	case errors.Is(err, bus.ErrNotFound):
		e.Code, e.Message = wire.BadRequest, "messageId: no such message in this room's history at this seq"
	case errors.Is(err, bus.ErrUnknownOutcome):
		e.Code, e.Message, e.Retry, e.Outcome = wire.Unavailable, "no answer came in time; it may have happened", true, wire.OutcomeUnknown
	case errors.Is(err, bus.ErrUnavailable), errors.Is(err, bus.ErrClosed), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		e.Code, e.Message, e.Retry = wire.Unavailable, "rooms cannot be reached right now; try again", true
	default:
		e.Code, e.Message = wire.Internal, "internal error"
	}
	return e
}
