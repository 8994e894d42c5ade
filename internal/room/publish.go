package room

import (
	"context"
	"crypto/sha256"
	"time"

	"github.com/wsrelay/relay/internal/bus"
	"github.com/wsrelay/relay/internal/room/policy"
	"github.com/wsrelay/relay/internal/wire"
	"github.com/wsrelay/relay/plugins/filter"
)

// Chat is a message that a client wants published.
type Chat struct {
	Message []byte // raw JSON; kept, so it must not be a reused buffer
	Key     string
	Trace   Trace
}

// Accepted is the good fate of a message.
type Accepted struct {
	bus.Result
	Message []byte // what it became, when a filter changed it
}

// Ack hears what became of a message. It is called once, in the place that the
// message has in the sender's own stream, and must not block.
type Ack func(Accepted, *wire.Error)

// publishAnswer is what a publish rule said of an actor, where that cannot
// change: it is good for these rules and this actor only, so that one that was
// under way during a reload cannot outlive it.
type publishAnswer struct {
	rules *rules
	actor *Actor
	ok    bool
}

// Publish checks a message against the room's rules, lets its filters judge it,
// and hands it to the bus. An error means that it went no further and ack will
// not be called.
func (s *Seat) Publish(c Chat, ack Ack) *wire.Error {
	a, ru, g := s.actor.Load(), s.room.rules.Load(), s.room.reg
	m, e := s.accept(a, ru, &c)
	if e != nil {
		g.tellRefused(a, ru, s.room.id, &c, e)
		return e
	}
	t := g.beginTale(a, ru, &m.Event, &c)
	if ru.wants(filter.Chat) || !s.speak().lane.empty() {
		s.submit(a, ru, m, ack, t)
		return nil
	}
	if e = s.send(m, ack, nil, nil, &t); e != nil {
		g.endTale(&t, &m.Event, asked(e), filter.ActionAllow, e)
	}
	return e
}

// asked is an empty result where the bus was asked and did not take a message,
// nil where the message never came so far.
func asked(e *wire.Error) *bus.Result {
	if e.Code == wire.NotMember {
		return nil
	}
	return new(bus.Result)
}

// submit lets filters judge a message before it goes to the bus. It is apart from
// Publish because what it keeps lives on the heap.
func (s *Seat) submit(a *Actor, ru *rules, m *bus.Message, ack Ack, t tale) {
	g, v := s.room.reg, s.speak()
	q := g.query(filter.Chat, a, ru, &m.Event, func() *policy.Input { return ru.input(s.room, a, true) })
	w := &afterwards{g: g, q: q, keeps: m.Retention, trace: m.Event.Trace}
	q.Late = w.late
	if ru.filters != nil {
		q.Recent = s.room.lately(ru.filters.Recent())
	}
	v.begin()
	var refused *bus.Result // the bus was asked, and did not take it
	ended := func(r *Ruling, e *wire.Error) {
		t.steps = r.Steps
		g.endTale(&t, &m.Event, refused, r.Action, e)
		ack(Accepted{}, e)
		v.end()
	}
	publish := func(r *Ruling) *wire.Error {
		if e := g.sanctioned(a, s.room.id, bus.Ban, bus.Mute); e != nil { // for a message right before this one
			return e
		}
		var changed []byte
		if r.Action == filter.ActionModify {
			changed = r.Body
		}
		t.steps = r.Steps
		e := s.send(m, ack, changed, w, &t)
		if e != nil {
			refused = asked(e)
			return e
		}
		v.end()
		return nil
	}
	g.enqueue(&v.lane, ru, q, m, publish, ended, func(r *Ruling) {
		t.steps = r.Steps
		g.endTale(&t, &m.Event, nil, r.Action, nil)
		s.pretend(m, ack, r)
	})
}

// accept applies everything that is decided before filters and bus: rules,
// sanctions, size, rate.
func (s *Seat) accept(a *Actor, ru *rules, c *Chat) (*bus.Message, *wire.Error) {
	g := s.room.reg
	if s.speak().over.Load() {
		return nil, left(s.room.id)
	}
	if !s.mayPublish(a, ru) {
		return nil, g.may(ru, policy.Publish, ru.input(s.room, a, true), "you may not publish in this room")
	}
	if e := g.sanctioned(a, s.room.id, bus.Ban, bus.Mute); e != nil {
		return nil, e
	}
	return g.message(a, ru, s.room.id, s.speak().limit, c)
}

// send hands a message to the bus. changed is what filters made of it, if they
// did; w, if not nil, wants to know where it is stored.
func (s *Seat) send(m *bus.Message, ack Ack, changed []byte, w *afterwards, t *tale) *wire.Error {
	g := s.room.reg
	g.leaves(t)
	p := &receipt{seat: s, ack: ack, event: &m.Event, changed: changed, after: w, tale: *t}
	if !s.expect(p) {
		return left(s.room.id)
	}
	if err := g.bus.Publish(m, p); err != nil {
		s.withdraw(p)
		g.stats.PublishFailed.Add(1)
		return refusal(err, s.room.id)
	}
	return nil
}

// pretend acks a message that filters let vanish, or show to its sender alone,
// as if it were like any other: with the newest number of the room, behind the
// acks that are due before it.
func (s *Seat) pretend(m *bus.Message, ack Ack, r *Ruling) {
	v := s.speak()
	defer v.end()
	if r.Action == filter.ActionShadow {
		e := m.Event
		e.Kind = bus.Shadow
		if err := s.room.reg.bus.Publish(&bus.Message{Event: e}, discard{}); err != nil {
			s.room.reg.stats.PublishFailed.Add(1)
		}
	}
	rm := s.room
	rm.mu.Lock()
	defer rm.mu.Unlock()
	answer := func() {
		ack(Accepted{Result: bus.Result{Position: rm.pos, ID: m.Event.ID, Time: m.Event.Time}}, nil)
	}
	if n := len(v.pending); n > 0 {
		last := v.pending[n-1]
		last.then = append(last.then, answer)
		return
	}
	s.inPlace(answer)
}

// discard is the receipt of what nobody waits for.
type discard struct{}

// Published implements bus.Receipt.
func (discard) Published(bus.Result) {}

func (s *Seat) mayPublish(a *Actor, ru *rules) bool {
	if ru.policy == nil {
		return false
	}
	v := s.speak()
	if known := v.publish.Load(); known != nil && known.rules == ru && known.actor == a {
		return known.ok
	}
	ok := ru.policy.Allow(policy.Publish, ru.input(s.room, a, true)).Allowed
	if ru.policy.Static(policy.Publish) {
		v.publish.Store(&publishAnswer{ru, a, ok})
	}
	return ok
}

// message applies size and rate and builds what the bus takes.
func (g *Registry) message(a *Actor, ru *rules, roomID string, l *limiter, c *Chat) (*bus.Message, *wire.Error) {
	p := ru.policy
	if p.MaxMessage > 0 && int64(len(c.Message)) > p.MaxMessage {
		return nil, g.refuse(wire.TooLarge, roomID, "message: too large for this room")
	}
	if wait := g.limits.take(l, p.Rate, p.Burst); wait > 0 {
		e := g.refuse(wire.RateLimited, roomID, "too many messages in this room")
		e.Retry, e.RetryAfter = true, wait
		return nil, e
	}
	now := time.Now()
	if c.Trace.Start.IsZero() {
		c.Trace.Start = now
	}
	m := &bus.Message{
		Event: bus.Event{
			Kind: bus.Chat, Room: roomID, ID: bus.NewMessageID(), Time: now.UnixMilli(),
			Sender: bus.Sender{Member: a.Identity.ID, User: a.User, Conn: a.Conn},
			Key:    c.Key, Body: c.Message,
		},
		Retention: retention(p), Key: c.Key,
	}
	m.Event.Trace = bus.Trace(g.opt.Traces.Decide(m.Event.ID, &c.Trace.Origin, ru.sample))
	if c.Key != "" {
		sum := sha256.Sum256(c.Message)
		m.Digest = [16]byte(sum[:16])
	}
	return m, nil
}

// PublishFrom publishes for somebody who has no seat in the room, where the
// room's publish rule says so. The ack comes when the bus has the message. l is
// the connection's lane for such messages.
func (g *Registry) PublishFrom(a *Actor, l *Lane, roomID string, c Chat, ack Ack) *wire.Error {
	ru := g.force.Load().match(roomID)
	m, e := g.acceptFrom(a, ru, roomID, &c)
	if e != nil {
		g.tellRefused(a, ru, roomID, &c, e)
		return e
	}
	o := outsider{g: g, event: &m.Event, ack: ack, tale: g.beginTale(a, ru, &m.Event, &c)}
	if ru.wants(filter.Chat) || !l.empty() {
		g.submitFrom(a, l, ru, m, o)
		return nil
	}
	if e = g.sendFrom(m, &o); e != nil {
		g.endTale(&o.tale, &m.Event, &bus.Result{}, filter.ActionAllow, e)
	}
	return e
}

// acceptFrom is to PublishFrom what accept is to Publish.
func (g *Registry) acceptFrom(a *Actor, ru *rules, roomID string, c *Chat) (*bus.Message, *wire.Error) {
	if e := g.may(ru, policy.Publish, g.input(ru, a, roomID), "join the room first"); e != nil {
		e.Code = wire.NotMember
		return nil, e
	}
	if e := g.sanctioned(a, roomID, bus.Ban, bus.Mute); e != nil {
		return nil, e
	}
	limit := g.limits.pin(roomID, a.Identity.ID)
	defer g.limits.unpin(limit)
	return g.message(a, ru, roomID, limit, c)
}

// submitFrom is to PublishFrom what submit is to Publish.
func (g *Registry) submitFrom(a *Actor, l *Lane, ru *rules, m *bus.Message, o outsider) {
	q := g.query(filter.Chat, a, ru, &m.Event, func() *policy.Input { return g.input(ru, a, m.Event.Room) })
	o.after = &afterwards{g: g, q: q, keeps: m.Retention, trace: m.Event.Trace}
	q.Late = o.after.late
	var refused *bus.Result // the bus was asked, and did not take it
	g.enqueue(l, ru, q, m, func(r *Ruling) *wire.Error {
		if r.Action == filter.ActionModify {
			o.changed = r.Body
		}
		o.tale.steps = r.Steps
		e := g.sendFrom(m, &o)
		if e != nil {
			refused = new(bus.Result)
		}
		return e
	}, func(r *Ruling, e *wire.Error) {
		o.tale.steps = r.Steps
		g.endTale(&o.tale, &m.Event, refused, r.Action, e)
		o.ack(Accepted{}, e)
	}, func(r *Ruling) {
		o.tale.steps = r.Steps
		g.endTale(&o.tale, &m.Event, nil, r.Action, nil)
		o.ack(Accepted{Result: bus.Result{ID: m.Event.ID, Time: m.Event.Time}}, nil) // a shadow has no socket in the room to be seen at
	})
}

func (g *Registry) sendFrom(m *bus.Message, o *outsider) *wire.Error {
	g.leaves(&o.tale)
	if err := g.bus.Publish(m, *o); err != nil {
		g.stats.PublishFailed.Add(1)
		return refusal(err, m.Event.Room)
	}
	return nil
}

// Signal tells the room something worth losing. It is under the same rules as
// a message, and behind the sender's messages where filters look at signals.
func (s *Seat) Signal(data []byte) *wire.Error {
	a, ru, g := s.actor.Load(), s.room.rules.Load(), s.room.reg
	m, e := s.accept(a, ru, &Chat{Message: data})
	if e != nil {
		return e
	}
	m.Event.Kind, m.Event.Trace = bus.Signal, bus.Trace{} // signals are no traces: a filter's span would have no parent
	send := func(*Ruling) *wire.Error {
		if err := g.bus.Signal(&m.Event); err != nil {
			return refusal(err, s.room.id)
		}
		return nil
	}
	if !ru.wants(filter.Signal) {
		return send(nil)
	}
	q := g.query(filter.Signal, a, ru, &m.Event, func() *policy.Input { return ru.input(s.room, a, true) })
	q.ID = bus.MessageID{}
	v := s.speak()
	v.begin()
	// Nobody waits for an answer to a signal: what filters refuse is gone.
	g.enqueue(&v.lane, ru, q, m, func(r *Ruling) *wire.Error { defer v.end(); _ = send(r); return nil }, func(*Ruling, *wire.Error) { v.end() }, func(*Ruling) { v.end() })
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
	if e := g.may(ru, policy.Moderate, ru.input(s.room, a, true), "you may not moderate this room"); e != nil {
		return e
	}
	pos, err := g.bus.Redact(ctx, &bus.Redaction{
		Room: s.room.id, Target: target, Seq: seq, Reason: reason,
		By:        bus.Sender{Member: a.Identity.ID, User: a.User, Conn: a.Conn},
		Retention: retention(ru.policy),
	})
	if err != nil {
		return refusal(err, s.room.id)
	}
	g.audit("redact", "user:"+a.Identity.ID, "message:"+target.String(), s.room.id, reason)
	s.room.mu.Lock()
	defer s.room.mu.Unlock()
	s.room.after(pos, func() { s.inPlace(func() { ack(pos) }) })
	return nil
}
