package room

import (
	"slices"
	"strings"
	"time"

	"github.com/wsrelay/relay/internal/bus"
	"github.com/wsrelay/relay/internal/room/policy"
	"github.com/wsrelay/relay/internal/wire"
	"github.com/wsrelay/relay/plugins/filter"
	"github.com/wsrelay/relay/telemetry"
)

// Trace is what a chat brings along for tracing.
type Trace struct {
	Start     time.Time // the request was read; zero: when the room got it
	Origin    telemetry.Origin
	Handshake telemetry.Context // of the connection, if that was traced
}

// tale is what is kept of a message to tell its trace from: of nearly all
// messages just when they came, as whether a message is to be told may only turn
// out at its end.
type tale struct {
	msg   *telemetry.Message // nil: not sampled
	from  *Trace             // of one that is not sampled, if there is more to it than when it came
	a     *Actor
	ru    *rules
	start time.Time
	sent  time.Time // to the bus; zero: not yet, or nobody times it
	steps []Step
}

// beginTale starts the tale of a message that the room's rules allow.
func (g *Registry) beginTale(a *Actor, ru *rules, m *bus.Event, c *Chat) tale {
	t := tale{a: a, ru: ru, start: c.Trace.Start}
	if !traceOf(m).Sampled() {
		if o := &c.Trace.Origin; !o.Parent.IsZero() || !o.Link.IsZero() || !c.Trace.Handshake.IsZero() {
			from := c.Trace // or every chat would be allocated for it
			t.from = &from
		}
		return t
	}
	t.msg = g.opt.Traces.Message(telemetry.Context(m.Trace), &c.Trace.Origin, g.facts(&t, m, c.Trace.Handshake))
	t.msg.Policy(telemetry.PolicyStep{
		Action: policy.Publish.String(), Rule: ru.policy.Expr(policy.Publish), Result: "allowed", Start: t.start, End: time.Now(),
	})
	return t
}

// leaves notes that a message goes to the bus, where the way there is timed.
func (g *Registry) leaves(t *tale) {
	if t.msg != nil || g.times.metrics != nil {
		t.sent = time.Now()
	}
}

func (g *Registry) facts(t *tale, m *bus.Event, handshake telemetry.Context) telemetry.Facts {
	return telemetry.Facts{
		ID: m.ID, Start: t.start, Endpoint: t.a.Endpoint, Connection: t.a.Conn, Policy: t.ru.policy.Match, Room: m.Room,
		User: t.a.Identity.ID, Guest: t.a.Identity.Guest, Size: len(m.Body), Handshake: handshake,
	}
}

// endTale tells a message that was sampled, or is worth telling now that its end is
// known. res is what the bus said, if it was asked; action what filters made of
// it; e the error that the sender got.
func (g *Registry) endTale(t *tale, m *bus.Event, res *bus.Result, action filter.Action, e *wire.Error) {
	if t.a == nil {
		return
	}
	now := time.Now()
	c := traceOf(m)
	t.ru.meters.ended(now.Sub(t.start), action, e, c)
	if res != nil {
		g.times.published(now.Sub(t.sent), e, c)
	}
	if g.opt.Traces == nil {
		return
	}
	if t.msg == nil {
		why := g.worth(t, now, action, e)
		if why == "" || !g.opt.Traces.Promote(now) {
			return
		}
		from := t.from
		if from == nil {
			from = new(Trace)
		}
		t.msg = g.opt.Traces.Message(telemetry.Context(m.Trace), &from.Origin, g.facts(t, m, from.Handshake))
		t.msg.Promoted(why)
	}
	for _, s := range t.steps {
		t.msg.Filter(filterStep(s))
	}
	if res != nil {
		p := telemetry.Publication{Start: t.sent, End: now, System: g.opt.System, Operation: g.opt.Publish[1], Pipeline: res.Pipeline, Seq: res.Seq, Duplicate: res.Duplicate}
		if t.ru.policy.History != nil {
			p.Operation = g.opt.Publish[0]
		}
		if e != nil {
			p.Error = string(e.Code)
		}
		t.msg.Published(p)
	}
	o := telemetry.Outcome{End: now}
	if action != filter.ActionAllow && action != filter.ActionReject {
		o.Action = action.String()
	}
	if e != nil {
		o.Error, o.Detail = string(e.Code), e.Message
	}
	g.hint(e, t.msg)
	t.msg.End(o)
}

// hint tells developers where the trace of what went wrong is. e may be nil.
func (g *Registry) hint(e *wire.Error, m *telemetry.Message) {
	if e == nil || !g.opt.Hints {
		return
	}
	c := telemetry.Context{TraceID: m.Context().TraceID, Flags: telemetry.FlagSampled} // though it may have been promoted
	e.Hint = strings.TrimSpace(e.Hint + " " + g.opt.Traces.URL(c))
}

// worth says why a message that was not sampled is told all the same.
func (g *Registry) worth(t *tale, now time.Time, action filter.Action, e *wire.Error) telemetry.Reason {
	switch {
	case e != nil && failure(e), slices.ContainsFunc(t.steps, func(s Step) bool { return s.Failure != "" }):
		return telemetry.Failed
	case e != nil:
		return telemetry.Rejected
	case action == filter.ActionDrop || action == filter.ActionShadow:
		return telemetry.Dropped
	case g.opt.Traces.TooSlow(t.start, now):
		return telemetry.Slow
	}
	return ""
}

// Refused counts and tells a message that got no further than its session: it was
// beyond the connection's rate, for a room that the endpoint does not reach, or
// in the name of another user.
func (g *Registry) Refused(a *Actor, roomID string, c Chat, e *wire.Error) {
	g.stats.Refused.Add(1)
	g.tellRefused(a, g.force.Load().match(roomID), roomID, &c, e)
}

// tellRefused tells a message that rules, sanctions, size or rate refused, as far
// as promotions go. It never had an id before.
func (g *Registry) tellRefused(a *Actor, ru *rules, roomID string, c *Chat, e *wire.Error) {
	now := time.Now()
	if c.Trace.Start.IsZero() {
		c.Trace.Start = now
	}
	ru.meters.ended(now.Sub(c.Trace.Start), filter.ActionAllow, e, telemetry.Context{})
	if g.opt.Traces == nil || ru.policy == nil || !g.opt.Traces.Promote(now) {
		return
	}
	t := tale{a: a, ru: ru, start: c.Trace.Start}
	m := &bus.Event{ID: bus.NewMessageID(), Room: roomID, Body: c.Message}
	msg := g.opt.Traces.Message(telemetry.Context{TraceID: c.Trace.Origin.Parent.TraceID}, &c.Trace.Origin, g.facts(&t, m, c.Trace.Handshake))
	msg.Promoted(telemetry.Rejected)
	msg.Policy(telemetry.PolicyStep{
		Action: policy.Publish.String(), Rule: ru.policy.Expr(policy.Publish), Result: string(e.Code), Start: t.start, End: now,
	})
	g.hint(e, msg)
	msg.End(telemetry.Outcome{End: now, Error: string(e.Code), Detail: e.Message})
}

func filterStep(s Step) telemetry.FilterStep {
	return telemetry.FilterStep{
		Filter: s.Filter, Mode: s.Mode, Start: s.Start, End: s.End, Action: s.Action.String(), Code: s.Code, Failure: s.Failure,
		Elapsed: s.Elapsed, Queued: s.Queued, Batch: s.Batch, Generation: s.Generation, SpanID: s.SpanID, Plugin: s.Plugin, Traces: s.Traces,
	}
}

// follow makes the frames of a chat tell what becomes of them: to a deliver span
// where the message is sampled, else only if a socket drops them.
func (g *Registry) follow(ru *rules, e *bus.Event, frames ...*wire.Frame) *telemetry.Delivery {
	if g.opt.Traces == nil || e.Kind != bus.Chat {
		return nil
	}
	c := telemetry.Context(e.Trace)
	if !c.Sampled() {
		for _, f := range frames {
			f.Track(fate{g}, e, false)
		}
		return nil
	}
	facts := deliveryFacts(ru, e)
	facts.Start = time.Now()
	d := g.opt.Traces.Deliver(c, facts)
	for _, f := range frames {
		f.Track(fate{g}, d, true)
	}
	return d
}

func deliveryFacts(ru *rules, e *bus.Event) telemetry.DeliveryFacts {
	f := telemetry.DeliveryFacts{ID: e.ID, Room: e.Room, Seq: e.Seq}
	if ru.policy != nil {
		f.Policy = ru.policy.Match
	}
	return f
}

// fate hears of the frames of all chats. It knows a sampled one by its delivery,
// any other by its event: nothing is made for what will nearly always be written.
type fate struct{ g *Registry }

// Wrote implements wire.Fate.
func (fate) Wrote(about any, conn string, at time.Time) {
	if d, ok := about.(*telemetry.Delivery); ok {
		d.Wrote(conn, at)
	}
}

// Dropped implements wire.Fate.
func (f fate) Dropped(about any, conn, why string) {
	switch x := about.(type) {
	case *telemetry.Delivery:
		x.Dropped(conn, why)
	case *bus.Event:
		f.g.opt.Traces.DroppedFor(telemetry.Context(x.Trace), conn, why, time.Now(), func() telemetry.DeliveryFacts {
			return deliveryFacts(f.g.force.Load().match(x.Room), x) // a room may not be asked: its order may be held
		})
	}
}
