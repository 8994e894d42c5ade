package room

import (
	"context"
	"crypto/sha256"
	"time"

	"github.com/wsrelay/relay/internal/bus"
	"github.com/wsrelay/relay/internal/room/policy"
	"github.com/wsrelay/relay/internal/wire"
)

// Chat is a message that a client wants published.
type Chat struct {
	Message []byte // raw JSON; kept, so it must not be a reused buffer
	Key     string
	Trace   bus.Trace
}

// Ack hears what became of a message. It is called once, in the place that the
// message has in the sender's own stream, and must not block.
type Ack func(bus.Result, *wire.Error)

// publishAnswer is what a publish rule said of an actor, where that cannot
// change: it is good for these rules and this actor only, so that one that was
// under way during a reload cannot outlive it.
type publishAnswer struct {
	rules *rules
	actor *Actor
	ok    bool
}

// Publish checks a message against the room's rules and hands it to the bus.
// An error means that it went no further and ack will not be called.
func (s *Seat) Publish(c Chat, ack Ack) *wire.Error {
	a, ru := s.actor.Load(), s.room.rules.Load()
	if !s.mayPublish(a, ru) {
		return s.room.reg.refuse(wire.Forbidden, s.room.id, "you may not publish in this room")
	}
	m, err := s.room.reg.message(a, ru.policy, s.room.id, s.limit, c)
	if err != nil {
		return err
	}
	p := &receipt{seat: s, ack: ack, id: m.Event.ID}
	s.expect(p)
	if err := s.room.reg.bus.Publish(m, p); err != nil {
		s.withdraw(p)
		s.room.reg.stats.PublishFailed.Add(1)
		return refusal(err, s.room.id)
	}
	return nil
}

func (s *Seat) mayPublish(a *Actor, ru *rules) bool {
	if ru.policy == nil {
		return false
	}
	if known := s.publish.Load(); known != nil && known.rules == ru && known.actor == a {
		return known.ok
	}
	ok := ru.policy.Allow(policy.Publish, ru.input(s.room, a, true)).Allowed
	if ru.policy.Static(policy.Publish) {
		s.publish.Store(&publishAnswer{ru, a, ok})
	}
	return ok
}

// message applies size and rate and builds what the bus takes.
func (g *Registry) message(a *Actor, p *policy.Policy, roomID string, l *limiter, c Chat) (*bus.Message, *wire.Error) {
	if p.MaxMessage > 0 && int64(len(c.Message)) > p.MaxMessage {
		return nil, g.refuse(wire.TooLarge, roomID, "message: too large for this room")
	}
	if wait := g.limits.take(l, p.Rate, p.Burst); wait > 0 {
		e := g.refuse(wire.RateLimited, roomID, "too many messages in this room")
		e.Retry, e.RetryAfter = true, wait
		return nil, e
	}
	m := &bus.Message{
		Event: bus.Event{
			Kind: bus.Chat, Room: roomID, ID: bus.NewMessageID(), Time: time.Now().UnixMilli(),
			Sender: bus.Sender{Member: a.Identity.ID, User: a.User, Conn: a.Conn},
			Key:    c.Key, Body: c.Message, Trace: c.Trace,
		},
		Retention: retention(p), Key: c.Key,
	}
	if c.Key != "" {
		sum := sha256.Sum256(c.Message)
		m.Digest = [16]byte(sum[:16])
	}
	return m, nil
}

// PublishFrom publishes for somebody who has no seat in the room, where the
// room's publish rule says so. The ack comes when the bus has the message.
func (g *Registry) PublishFrom(a *Actor, roomID string, c Chat, ack Ack) *wire.Error {
	p, params := g.policies.Load().Match(roomID)
	if p == nil || !g.allow(p, params, policy.Publish, a, roomID) {
		return g.refuse(wire.NotMember, roomID, "join the room first")
	}
	l := g.limits.pin(roomID, a.Identity.ID)
	defer g.limits.unpin(l)
	m, err := g.message(a, p, roomID, l, c)
	if err != nil {
		return err
	}
	if err := g.bus.Publish(m, outsider{g, roomID, ack}); err != nil {
		g.stats.PublishFailed.Add(1)
		return refusal(err, roomID)
	}
	return nil
}

// Signal tells the room something worth losing. It is under the same rules as
// a message.
func (s *Seat) Signal(data []byte) *wire.Error {
	a, ru := s.actor.Load(), s.room.rules.Load()
	g := s.room.reg
	if !s.mayPublish(a, ru) {
		return g.refuse(wire.Forbidden, s.room.id, "you may not publish in this room")
	}
	m, refused := g.message(a, ru.policy, s.room.id, s.limit, Chat{Message: data})
	if refused != nil {
		return refused
	}
	m.Event.Kind = bus.Signal
	if err := g.bus.Signal(&m.Event); err != nil {
		return refusal(err, s.room.id)
	}
	return nil
}

// Members lists who is in the room, a page at a time.
func (s *Seat) Members(ctx context.Context, cursor string) (bus.MemberPage, *wire.Error) {
	page, err := s.room.reg.bus.Members(ctx, s.room.id, cursor, bus.MembersListed)
	if err != nil {
		return page, refusal(err, s.room.id)
	}
	if p := s.room.rules.Load().policy; p == nil || !p.Presence {
		page.Members, page.Cursor = nil, ""
	}
	return page, nil
}

// History reads stored messages, within the bounds that hold for a resume too;
// q.Room and q.Bytes are filled in.
func (s *Seat) History(ctx context.Context, q bus.HistoryQuery) (bus.HistoryPage, *wire.Error) {
	p := s.room.rules.Load().policy
	if p == nil || p.History == nil {
		return bus.HistoryPage{}, refusal(bus.ErrNoHistory, s.room.id)
	}
	g := s.room.reg
	q.Room, q.Bytes = s.room.id, g.opt.ResumeBytes
	if q.Limit <= 0 {
		q.Limit = defaultPage
	}
	q.Limit = min(q.Limit, g.opt.ResumeMax)
	page, err := g.bus.History(ctx, q)
	if err != nil {
		return page, refusal(err, s.room.id)
	}
	return page, nil
}

// defaultPage is how many messages history returns where limit is not given.
const defaultPage = 100

// Redact removes a message for good and tells the room. ack comes in its place
// in the stream, like that of a message.
func (s *Seat) Redact(ctx context.Context, target bus.MessageID, seq uint64, reason string, ack func(bus.Position)) *wire.Error {
	a, ru := s.actor.Load(), s.room.rules.Load()
	g := s.room.reg
	if ru.policy == nil || !ru.policy.Allow(policy.Moderate, ru.input(s.room, a, true)).Allowed {
		return g.refuse(wire.Forbidden, s.room.id, "you may not moderate this room")
	}
	pos, err := g.bus.Redact(ctx, &bus.Redaction{
		Room: s.room.id, Target: target, Seq: seq, Reason: reason,
		By:        bus.Sender{Member: a.Identity.ID, User: a.User, Conn: a.Conn},
		Retention: retention(ru.policy),
	})
	if err != nil {
		return refusal(err, s.room.id)
	}
	s.room.mu.Lock()
	defer s.room.mu.Unlock()
	s.room.after(pos, func() { ack(pos) })
	return nil
}
