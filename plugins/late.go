package plugins

import (
	"sync/atomic"
	"time"

	"github.com/wsrelay/relay/internal/room"
	"github.com/wsrelay/relay/plugins/filter"
)

// late is where an async filter's verdicts on one message go.
type late struct {
	stage *stage
	q     *room.Query
	until time.Time
	back  atomic.Bool // it took the message back already: once is enough
}

// aside takes what a filter says that nobody waits for.
func (r *run) aside(c *call, o *outcome) {
	step, late := r.note(c, o)
	if late {
		r.tellLate(c, o, &step)
		return
	}
	if c.late == nil {
		return // the ruling has its step, and nothing else counts
	}
	if kept := *o; !r.await(func() { r.tellLate(c, &kept, nil) }) {
		r.tellLate(c, &kept, nil)
	}
}

// await keeps f until the room has its ruling, unless it has it already.
func (r *run) await(f func()) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.finished {
		r.waiting = append(r.waiting, f)
	}
	return !r.finished
}

// tellLate tells the room what came after the ruling: of an async filter its
// verdict, of an observer that it has spoken, for metrics and the trace. step is
// nil when the ruling had it already.
func (r *run) tellLate(c *call, o *outcome, step *room.Step) {
	ruling := &room.Ruling{Filter: c.stage.opts.Name}
	if step != nil {
		ruling.Steps = []room.Step{*step}
	}
	if c.late != nil && o.failure == "" {
		// Of a message that nobody got there is nothing to take back.
		passed := r.ruling.Action == filter.ActionAllow || r.ruling.Action == filter.ActionModify
		c.late.fill(ruling, &o.verdict, passed)
	}
	if r.q.Late != nil && says(ruling) {
		r.q.Late(ruling)
	}
}

// fill makes a ruling of a verdict.
func (l *late) fill(ruling *room.Ruling, v *filter.Verdict, takeBack bool) {
	name := l.stage.opts.Name
	if takeBack && (v.Action == filter.ActionReject || v.Action == filter.ActionDrop) && l.back.CompareAndSwap(false, true) {
		ruling.Action, ruling.Code, ruling.Reason = filter.ActionReject, v.Code, v.Reason
	}
	for _, f := range v.Flags {
		ruling.Flags = append(ruling.Flags, room.Flag{Filter: name, Flag: f})
	}
	for _, s := range v.Sanctions {
		ruling.Sanctions = append(ruling.Sanctions, room.FilterSanction{Filter: name, Sanction: s})
	}
}

// says reports whether there is anything in a late ruling.
func says(r *room.Ruling) bool {
	return r.Action != filter.ActionAllow || len(r.Flags) > 0 || len(r.Sanctions) > 0 || len(r.Steps) > 0
}

// later takes a second verdict on the message, which may be no more than a
// refusal, flags and sanctions.
func (l *late) later(v filter.Verdict) error {
	s := l.stage
	if v.Action == filter.ActionReject || v.Action == filter.ActionDrop {
		if !s.opts.Redact {
			s.tally.forbidden.Add(1)
			return filter.ErrNotLater
		}
	} else {
		v.Action = filter.ActionAllow
	}
	if err := s.permitSanctions(v.Sanctions); err != nil {
		s.tally.forbidden.Add(1)
		return err
	}
	if l.q.Late == nil || time.Now().After(l.until) {
		s.tally.tooLate.Add(1)
		return filter.ErrNotLater
	}
	if n := tidy(&v); n > 0 {
		s.tally.mended.Add(uint64(n))
	}
	ruling := &room.Ruling{Filter: s.opts.Name}
	l.fill(ruling, &v, true)
	s.tally.late.Add(1)
	if says(ruling) {
		l.q.Late(ruling)
	}
	return nil
}
