package plugins

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/wsrelay/relay/internal/room"
	"github.com/wsrelay/relay/internal/room/policy"
	"github.com/wsrelay/relay/plugins/filter"
)

// run is one message's way through a chain. What is not guarded by mu belongs to
// the goroutine that goes on with the chain, of which there is one at a time.
type run struct {
	chain *Chain
	q     *room.Query
	done  func(*room.Ruling)

	at       int           // the next stage
	id       string        // the message's, in hex
	body     []byte        // as it stands
	texts    []filter.Text // of body
	parsed   bool          // texts are made
	modified bool
	labels   map[string]string // never written to: calls share it
	recent   []filter.Recent
	input    *policy.Input
	ruling   room.Ruling
	trial    *trial // nil but for Try

	mu       sync.Mutex
	steps    []room.Step // guarded by mu, like all below
	open     int         // steps without an end
	finished bool
	told     bool     // done has returned; of a trial alone
	waiting  []func() // what async filters said before finished
}

// call makes the call that asks s about the message as it stands.
func (r *run) call(s *stage) *call {
	c := &call{run: r, stage: s, at: r.at, msg: r.message(s), start: time.Now()}
	c.mode = s.mode(c.msg.User.ID)
	c.msg.DryRun = c.mode == Observe
	step := room.Step{Filter: s.opts.Name, Mode: c.mode.String(), Start: c.start, Plugin: s.unit != nil, Traces: s.desc.Traces}
	if r.q.Sampled {
		span := spanID()
		step.SpanID = span
		c.msg.Traceparent = traceparent(r.q.TraceID, span)
	}
	if c.mode == Async {
		c.late = &late{stage: s, q: r.q, until: c.start.Add(room.LateWindow)}
		if s.builtin != nil {
			c.msg.OnLater(c.late.later)
		}
	}
	r.mu.Lock()
	c.step = len(r.steps)
	if r.steps == nil {
		r.steps = make([]room.Step, 0, len(r.chain.stages))
	}
	r.steps = append(r.steps, step)
	r.open++
	r.mu.Unlock()
	return c
}

// message is the message as it stands, with what s asked for and no more.
func (r *run) message(s *stage) *filter.Message {
	if !r.parsed {
		r.texts, r.parsed = filter.TextsAt(r.body, r.q.Text), true
	}
	m := &filter.Message{
		Event: r.q.Event, Room: r.q.Room, Body: r.body, Texts: r.texts, ContentType: "application/json",
		Budget: s.opts.Timeout, Labels: r.labels, Recent: r.earlier(s.desc.Needs.Recent),
	}
	if !r.q.ID.IsZero() {
		if r.id == "" {
			r.id = r.q.ID.String()
		}
		m.ID = r.id
	}
	a := r.q.Actor
	if a == nil {
		return m
	}
	m.Endpoint = a.Endpoint
	if s.desc.Needs.IP {
		m.User.IP = a.IP
	}
	if id := a.Identity; id != nil {
		m.User.ID, m.User.Name, m.User.Roles, m.User.Guest = id.ID, id.Name, id.Roles, id.Guest
		m.User.Claims = chosen(id.Claims, s.desc.Needs.Claims)
	}
	return m
}

// chosen are the claims that a filter asked for, as JSON.
func chosen(claims map[string]any, names []string) map[string]json.RawMessage {
	if len(names) == 0 || len(claims) == 0 {
		return nil
	}
	out := make(map[string]json.RawMessage, len(names))
	for _, name := range names {
		if v, ok := claims[name]; ok {
			if raw, err := json.Marshal(v); err == nil { // they were JSON before
				out[name] = raw
			}
		}
	}
	return out
}

// earlier are the newest n of what the room gave along.
func (r *run) earlier(n int) []filter.Recent {
	if n == 0 || len(r.q.Recent) == 0 {
		return nil
	}
	if r.recent == nil {
		r.recent = make([]filter.Recent, len(r.q.Recent))
		for i, e := range r.q.Recent {
			r.recent[i] = filter.Recent{ID: e.ID.String(), UserID: e.Sender.Member, Body: e.Body, Time: time.UnixMilli(e.Time)}
		}
	}
	return r.recent[max(0, len(r.recent)-n):]
}

// settle brings a verdict within the bounds of the contract, and applies a
// modification to the call's message. An error says why it is no verdict.
func (c *call) settle(v *filter.Verdict) error {
	if err := c.permit(v); err != nil {
		return err
	}
	if n := tidy(v); n > 0 {
		c.stage.tally.mended.Add(uint64(n))
	}
	if v.Action != filter.ActionModify || c.mode != Enforce {
		return nil
	}
	if err := c.msg.Apply(*v); err != nil {
		return err
	}
	if most := c.run.chain.maxBody; most > 0 && int64(len(c.msg.Body)) > most {
		return fmt.Errorf("modify to %d bytes, of at most %d", len(c.msg.Body), most)
	}
	return nil
}

// permit refuses what the filter may not do.
func (c *call) permit(v *filter.Verdict) error {
	s := c.stage
	if int(v.Action) >= len(s.actions) {
		return fmt.Errorf("%v does not exist", v.Action)
	}
	allowed := s.actions[v.Action]
	if c.mode == Async {
		switch v.Action {
		case filter.ActionReject, filter.ActionDrop:
			allowed = s.opts.Redact
		case filter.ActionModify, filter.ActionShadow:
			return fmt.Errorf("%v is too late in mode async", v.Action)
		}
	}
	if !allowed {
		return fmt.Errorf("%v is not among the filter's actions", v.Action)
	}
	if c.msg.Event == filter.Join && v.Action != filter.ActionAllow && v.Action != filter.ActionReject {
		return fmt.Errorf("%v of a join", v.Action)
	}
	return s.permitSanctions(v.Sanctions)
}

func (s *stage) permitSanctions(list []filter.Sanction) error {
	for _, sn := range list {
		switch {
		case int(sn.Kind) >= len(s.sanctions) || !s.sanctions[sn.Kind]:
			return fmt.Errorf("%v is not among the filter's actions", sn.Kind)
		case sn.For < 0:
			return fmt.Errorf("%v for a negative time", sn.Kind)
		}
	}
	return nil
}

// merge adds labels to what there is, within the bounds of one message: earlier
// filters' stay, and a later one may change their values.
func merge(have, add map[string]string) map[string]string {
	out := maps.Clone(have)
	if out == nil {
		out = make(map[string]string, len(add))
	}
	for k, v := range add {
		if _, known := out[k]; known || len(out) < maxAllLabels {
			out[k] = v
		}
	}
	return out
}

// spanID makes a span's id, which is never all zero.
func spanID() (id [8]byte) {
	n := rand.Uint64() | 1
	for i := range id {
		id[i] = byte(n >> (8 * i))
	}
	return id
}

// traceparent is the W3C header of a sampled span.
func traceparent(trace [16]byte, span [8]byte) string {
	b := make([]byte, 0, 55)
	b = append(b, "00-"...)
	b = hex.AppendEncode(b, trace[:])
	b = append(b, '-')
	b = hex.AppendEncode(b, span[:])
	return string(append(b, "-01"...))
}
