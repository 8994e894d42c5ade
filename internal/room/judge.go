package room

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/wsrelay/relay/internal/bus"
	"github.com/wsrelay/relay/internal/room/policy"
	"github.com/wsrelay/relay/internal/wire"
	"github.com/wsrelay/relay/plugins/filter"
	"github.com/wsrelay/relay/telemetry"
)

// wants reports whether the room's filters look at an event at all.
func (ru *rules) wants(e filter.Event) bool { return ru.filters != nil && ru.filters.Wants(e) }

// query describes a message to the filters.
func (g *Registry) query(ev filter.Event, a *Actor, ru *rules, m *bus.Event, input func() *policy.Input) *Query {
	c := traceOf(m)
	return &Query{
		Event: ev, ID: m.ID, Room: m.Room, Actor: a, Body: m.Body, Text: ru.policy.Text, Input: input,
		Sampled: c.Sampled(), TraceID: c.TraceID, traces: g.opt.Traces,
	}
}

// enqueue lets the filters judge a message in its place, and then publishes it,
// or does with it as they say. publish is called with the message as the filters
// left it, end when it is refused or cannot be, quiet when it is to vanish or be
// shown to its sender alone.
func (g *Registry) enqueue(l *Lane, ru *rules, q *Query, m *bus.Message, publish func(*Ruling) *wire.Error, end func(*Ruling, *wire.Error), quiet func(*Ruling)) {
	g.judging.Add(1)
	l.push(&job{
		judge: func(done func(*Ruling)) {
			if ru.filters == nil || !ru.filters.Wants(q.Event) { // behind judged ones, for its place alone
				done(&Ruling{})
				return
			}
			ru.filters.Judge(q, done)
		},
		carry: func(r *Ruling) {
			defer g.judging.Done()
			defer g.consequences(q, r) // after the message: a mute is for the ones that follow
			switch r.Action {
			case filter.ActionReject:
				g.stats.Refused.Add(1)
				end(r, g.rejection(r, m.Event.Room))
			case filter.ActionDrop, filter.ActionShadow:
				quiet(r)
			default:
				if r.Action == filter.ActionModify {
					m.Event.Body = r.Body
				}
				if e := publish(r); e != nil {
					end(r, e)
				}
			}
		},
	})
}

// rejection is what the sender of a refused message is told.
func (g *Registry) rejection(r *Ruling, roomID string) *wire.Error {
	e := &wire.Error{Code: wire.Rejected, RoomID: roomID, Message: "a filter refused this", Reason: r.Reason, ReasonCode: r.Code}
	if r.Unavailable {
		e = &wire.Error{Code: wire.FilterUnavailable, RoomID: roomID, Retry: true, Message: "the message could not be checked right now; try again"}
	}
	if g.opt.Hints && r.Filter != "" {
		e.Hint = "filters." + r.Filter
	}
	return e
}

// askJoin lets the filters judge a join.
func (g *Registry) askJoin(ctx context.Context, a *Actor, ru *rules, roomID string) *wire.Error {
	if !ru.wants(filter.Join) {
		return nil
	}
	q := &Query{Event: filter.Join, Room: roomID, Actor: a, Input: func() *policy.Input { return g.input(ru, a, roomID) }}
	answer := make(chan *Ruling, 1)
	ru.filters.Judge(q, func(r *Ruling) { answer <- r })
	select {
	case r := <-answer:
		g.consequences(q, r)
		if r.Action != filter.ActionAllow && r.Action != filter.ActionModify {
			g.stats.Refused.Add(1)
			return g.rejection(r, roomID)
		}
		return nil
	case <-ctx.Done():
		return refusal(ctx.Err(), roomID)
	}
}

// consequences carries out what goes with any verdict: flags are logged for
// people, sanctions take force.
func (g *Registry) consequences(q *Query, r *Ruling) {
	for i := range r.Steps {
		g.times.filter(&r.Steps[i], q.trace())
	}
	for _, f := range r.Flags {
		g.stats.Flagged.Add(1)
		g.log.Info("flagged", append([]any{"filter", f.Filter, "label", f.Label, "score", f.Score, "room", q.Room, "user", q.Actor.Identity.ID, "connection", q.Actor.Conn}, q.About()...)...)
	}
	for _, s := range r.Sanctions {
		g.sentence(q, s)
	}
}

// trace is the context of what is judged.
func (q *Query) trace() telemetry.Context {
	c := telemetry.Context{TraceID: q.TraceID}
	if q.Sampled {
		c.Flags = telemetry.FlagSampled
	}
	return c
}

// sentence makes a filter's sanction one of the bus.
func (g *Registry) sentence(q *Query, f FilterSanction) {
	s := &bus.Sanction{
		Kind: sanctionKinds[f.Kind], Member: q.Actor.Identity.ID, IP: q.Actor.Bound, Room: q.Room, Reason: f.Reason, By: "filter:" + f.Filter,
	}
	if f.Everywhere {
		s.Room = ""
	}
	now := time.Now()
	s.ID = sentenceID(s, now)
	if f.For > 0 {
		s.Until = now.Add(f.For).UnixMilli()
	}
	g.aside("sanction", func(ctx context.Context) error {
		if _, err := g.bus.Sanction(ctx, s); err != nil {
			return err
		}
		g.audit(s.Kind.String(), s.By, s.Member, s.Room, s.Reason, q.About()...)
		return nil
	})
}

// sentenceID is the same for what a filter says of one user within a few seconds:
// it may be of the same mind about each message that is under way.
func sentenceID(s *bus.Sanction, now time.Time) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%s\x00%s\x00%d", s.By, s.Kind, s.Member, s.Room, now.Unix()/5))
	return base32.StdEncoding.EncodeToString(sum[:10])
}

var sanctionKinds = map[filter.SanctionKind]bus.SanctionKind{
	filter.Warn: bus.Warn, filter.Mute: bus.Mute, filter.Kick: bus.Kick, filter.Ban: bus.Ban,
}

// audit writes the line that tells who did what to whom, when it is done. more is
// attributes of the line.
func (g *Registry) audit(what, actor, target, room, reason string, more ...any) {
	if i := slices.Index(auditActions[:], what); i >= 0 {
		g.stats.audits[i].Add(1)
	}
	g.log.Info("audit", append([]any{"action", what, "actor", actor, "target", target, "room", room, "reason", reason}, more...)...)
}

// About names what is judged in a log line, with a link to its trace where there
// is a place to look at traces.
func (q *Query) About() []any {
	if q.ID.IsZero() {
		return nil
	}
	c := q.trace().Of(q.ID)
	args := []any{"message", q.ID.String(), "trace_id", hex.EncodeToString(c.TraceID[:])}
	if url := q.traces.URL(c); url != "" {
		args = append(args, "trace", url)
	}
	return args
}

// aside runs what needs the network and nobody waits for, a bounded number at a
// time. What cannot be done is logged and counted, never dropped silently.
func (g *Registry) aside(what string, f func(context.Context) error) {
	select {
	case g.asides <- struct{}{}:
	default:
		g.stats.AsideDropped.Add(1)
		g.log.Error("too much under way; dropped", "what", what)
		return
	}
	g.judging.Add(1)
	go func() {
		defer g.judging.Done()
		defer func() { <-g.asides }()
		ctx, cancel := context.WithTimeout(context.Background(), asideTimeout)
		defer cancel()
		if err := f(ctx); err != nil {
			g.stats.AsideDropped.Add(1)
			g.log.Error("could not be carried out", "what", what, "error", err)
		}
	}()
}

const (
	maxAsides    = 256
	asideTimeout = 5 * time.Second
)

// afterwards is what an async filter's late ruling needs to know: where the
// message is stored, which may become known after the ruling.
type afterwards struct {
	g     *Registry
	q     *Query
	keeps bus.Retention
	trace bus.Trace

	mu      sync.Mutex
	known   bool // guarded by mu, like all below
	pos     bus.Position
	waiting []*Ruling // at most one for each filter
}

// late takes a ruling that came after the message.
func (w *afterwards) late(r *Ruling) {
	w.g.consequences(w.q, r)
	for _, s := range r.Steps {
		w.g.opt.Traces.LateFilters(w.q.ID, telemetry.Context(w.trace), filterStep(s))
	}
	if r.Action != filter.ActionReject && r.Action != filter.ActionDrop {
		return
	}
	w.mu.Lock()
	if !w.known {
		w.waiting = append(w.waiting, r)
		w.mu.Unlock()
		return
	}
	w.mu.Unlock()
	w.redact(r)
}

// published notes where the message is; that of a message which was not stored,
// or was the repeat of another, is nowhere.
func (w *afterwards) published(res bus.Result) {
	if w == nil {
		return
	}
	w.mu.Lock()
	w.known = true
	if res.Err == nil && res.ID == w.q.ID {
		w.pos = res.Position
	}
	list := w.waiting
	w.waiting = nil
	w.mu.Unlock()
	for _, r := range list {
		w.redact(r)
	}
}

func (w *afterwards) redact(r *Ruling) {
	if w.pos.Seq == 0 {
		w.g.stats.AsideDropped.Add(1)
		w.g.log.Warn("a filter took back a message that is stored nowhere", append([]any{"filter", r.Filter, "room", w.q.Room}, w.q.About()...)...)
		return
	}
	by := "filter:" + r.Filter
	w.g.aside("redaction", func(ctx context.Context) error {
		_, err := w.g.bus.Redact(ctx, &bus.Redaction{
			Room: w.q.Room, Target: w.q.ID, Seq: w.pos.Seq, Reason: r.Reason, By: bus.Sender{Member: by}, Retention: w.keeps,
		})
		if err == nil {
			w.g.audit("redact", by, w.q.Actor.Identity.ID, w.q.Room, r.Reason, w.q.About()...)
		}
		return err
	})
}
