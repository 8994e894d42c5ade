package plugins

import (
	"fmt"
	"time"

	"github.com/wsrelay/relay/internal/room"
	"github.com/wsrelay/relay/plugins/filter"
)

// Chain is the filters that a room's policy names, in their order. It implements
// room.Filters.
type Chain struct {
	set     *Set
	stages  []*stage
	maxBody int64
	recent  int
	events  [filter.Join + 1]bool
}

var _ room.Filters = (*Chain)(nil)

// Chain makes the chain of the filters with these names, in this order. A filter
// may not make a message larger than maxBody bytes. An error names a filter that
// the set does not have.
func (s *Set) Chain(names []string, maxBody int64) (*Chain, error) {
	c := &Chain{set: s, maxBody: maxBody}
	for _, name := range names {
		st, ok := s.stages[name]
		if !ok {
			return nil, fmt.Errorf("no filter named %q", name)
		}
		c.stages = append(c.stages, st)
		c.recent = max(c.recent, st.desc.Needs.Recent)
		for e, on := range st.events {
			c.events[e] = c.events[e] || on
		}
	}
	return c, nil
}

// Wants implements room.Filters.
func (c *Chain) Wants(e filter.Event) bool { return int(e) < len(c.events) && c.events[e] }

// Recent implements room.Filters.
func (c *Chain) Recent() int { return c.recent }

// Judge implements room.Filters.
func (c *Chain) Judge(q *room.Query, done func(*room.Ruling)) {
	c.set.active.enter()
	r := &run{chain: c, q: q, done: done, body: q.Body}
	r.advance()
}

// advance asks filter after filter, until one has to be waited for, or ends it.
// Whoever brings the verdict that was waited for goes on with it.
func (r *run) advance() {
	for r.at < len(r.chain.stages) {
		s := r.chain.stages[r.at]
		r.at++
		if !s.events[r.q.Event] {
			r.trial.skip(s, r.at, "event")
			continue
		}
		if s.opts.Exempt != nil && r.q.Input != nil {
			if r.input == nil {
				r.input = r.q.Input()
			}
			if s.opts.Exempt(r.input) {
				s.tally.exempt.Add(1)
				r.trial.skip(s, r.at, "exempt")
				continue
			}
		}
		if r.ask(s) {
			return
		}
	}
	r.finish(filter.ActionAllow)
}

// ask hands the message to a filter. It reports whether the chain is over or waits
// for the filter: then r is not this goroutine's any more.
func (r *run) ask(s *stage) (gone bool) {
	c := r.call(s)
	enforced := c.mode == Enforce
	var o outcome
	if s.builtin != nil {
		o = s.judgeHere(c)
	} else if why := s.unit.put(c); why == "" {
		return enforced
	} else {
		o = outcome{failure: why, end: c.start}
	}
	c.weigh(&o)
	if !enforced {
		r.aside(c, &o)
		return false
	}
	return r.apply(c, &o)
}

// answer takes what came of a call that a unit took, from any goroutine, once.
func (r *run) answer(c *call, o outcome) {
	c.weigh(&o)
	if c.mode != Enforce {
		r.aside(c, &o)
	} else if ended := r.apply(c, &o); !ended {
		r.advance()
	}
}

// weigh makes sure that a verdict is one, and counts what came of the call.
func (c *call) weigh(o *outcome) {
	if o.failure == "" {
		if err := c.settle(&o.verdict); err != nil {
			o.failure, o.err = Failed, err
		}
	}
	c.stage.tally.count(c.mode, o)
	c.run.trial.add(c, o)
	if o.err != nil {
		c.stage.complain(c, o)
	}
}

// apply does as an enforced filter says. It reports whether the chain ends.
func (r *run) apply(c *call, o *outcome) (ended bool) {
	r.note(c, o)
	if o.failure != "" {
		if c.stage.opts.OnError.of(o.failure) == Pass {
			return false
		}
		r.ruling.Filter, r.ruling.Unavailable = c.stage.opts.Name, true
		r.finish(filter.ActionReject)
		return true
	}
	r.collect(c, &o.verdict)
	switch o.verdict.Action {
	case filter.ActionReject, filter.ActionDrop, filter.ActionShadow:
		r.ruling.Filter, r.ruling.Code, r.ruling.Reason = c.stage.opts.Name, o.verdict.Code, o.verdict.Reason
		r.finish(o.verdict.Action)
		return true
	case filter.ActionModify:
		r.body, r.texts, r.parsed, r.modified = c.msg.Body, c.msg.Texts, true, true
	}
	if o.verdict.Final {
		r.finish(filter.ActionAllow)
		return true
	}
	return false
}

// collect keeps what goes with any verdict.
func (r *run) collect(c *call, v *filter.Verdict) {
	for _, f := range v.Flags {
		r.ruling.Flags = append(r.ruling.Flags, room.Flag{Filter: c.stage.opts.Name, Flag: f})
	}
	for _, s := range v.Sanctions {
		r.ruling.Sanctions = append(r.ruling.Sanctions, room.FilterSanction{Filter: c.stage.opts.Name, Sanction: s})
	}
	if len(v.Labels) > 0 {
		r.labels = merge(r.labels, v.Labels)
	}
}

// finish tells the room. What observers and async filters say from now on goes
// to Query.Late.
func (r *run) finish(a filter.Action) {
	if a == filter.ActionAllow && r.modified {
		a, r.ruling.Body = filter.ActionModify, r.body
	}
	r.ruling.Action = a
	r.mu.Lock()
	r.finished = true
	r.ruling.Steps = r.answered()
	waiting := r.waiting
	r.waiting = nil
	r.mu.Unlock()
	ruling := r.ruling // r lives as long as an observer; what the room holds need not keep it
	r.chain.set.active.leave()
	r.done(&ruling)
	for _, f := range waiting {
		f()
	}
	if r.trial != nil {
		r.mu.Lock()
		r.told = true
		r.conclude()
		r.mu.Unlock()
	}
}

// conclude ends a trial when everybody has spoken. mu is held.
func (r *run) conclude() {
	if r.trial != nil && r.told && r.open == 0 {
		close(r.trial.over)
	}
}

// answered are the steps that are complete. mu is held.
func (r *run) answered() []room.Step {
	if r.open == 0 {
		return r.steps
	}
	list := make([]room.Step, 0, len(r.steps))
	for i := range r.steps {
		if !r.steps[i].End.IsZero() {
			list = append(list, r.steps[i])
		}
	}
	return list
}

// note fills in a call's step, and returns it, and whether it comes too late for
// the ruling.
func (r *run) note(c *call, o *outcome) (step room.Step, late bool) {
	if o.end.IsZero() {
		o.end = time.Now()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	st := &r.steps[c.step]
	st.End, st.Failure = o.end, o.failure
	if o.failure == "" {
		st.Action, st.Code = o.verdict.Action, o.verdict.Code
	}
	st.Elapsed, st.Batch, st.Generation = o.verdict.Elapsed, c.batch, c.generation
	if !c.sent.IsZero() {
		st.Queued = c.sent.Sub(c.start)
	}
	r.open--
	r.conclude()
	return *st, r.finished
}
