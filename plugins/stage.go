package plugins

import (
	"context"
	"errors"
	"hash/fnv"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/wsrelay/relay/plugins/filter"
)

// stage is one filter as a set has it: its options, and who judges. It does not
// change once the set is made.
type stage struct {
	opts  Options
	desc  filter.Description
	log   *slog.Logger
	tally *tally // of the filter's name, over all sets

	// Exactly one of both judges.
	builtin *builtin
	unit    *unit
	fresh   *link // a process that takes over in unit when the set is committed

	events    [filter.Join + 1]bool
	actions   [filter.ActionShadow + 1]bool
	sanctions [filter.Ban + 1]bool
}

// builtin is a filter that judges in process. It may be of several sets, when a
// reload did not touch it: it remembers what it has seen.
type builtin struct {
	plugin filter.Plugin
	judge  filter.Judge
	config string
	refs   atomic.Int32 // sets that hold it; the last one closes it
}

func (b *builtin) release() {
	if b.refs.Add(-1) == 0 && b.plugin.Close != nil {
		b.plugin.Close()
	}
}

// limit works out what the filter may do, from what the operator allows and what
// the plugin says of itself.
func (s *stage) limit() {
	events := s.opts.Events
	switch {
	case s.opts.All:
		events = s.desc.Events
	case len(events) == 0:
		events = []filter.Event{filter.Chat}
	}
	for _, e := range events {
		s.events[e] = true
	}
	s.actions[filter.ActionAllow] = true
	for _, a := range s.opts.Actions {
		s.actions[a] = s.actions[a] || slices.Contains(s.desc.Actions, a)
	}
	for _, k := range s.opts.Sanctions {
		s.sanctions[k] = slices.Contains(s.desc.Sanctions, k)
	}
}

// mode is how the verdict on this user's message counts.
func (s *stage) mode(userID string) Mode {
	if s.opts.Mode != Enforce || s.opts.Enforce >= 100 {
		return s.opts.Mode
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(s.opts.Name))
	_, _ = h.Write([]byte{0})
	_, _ = h.Write([]byte(userID))
	if float64(h.Sum64()%10_000) < s.opts.Enforce*100 {
		return Enforce
	}
	return Observe
}

// judgeHere asks a built-in, on this goroutine.
func (s *stage) judgeHere(c *call) (o outcome) {
	o.verdict, o.err = s.builtin.judge.Run(context.Background(), c.msg)
	o.end = c.start.Add(o.verdict.Elapsed)
	if errors.Is(o.err, context.DeadlineExceeded) {
		o.failure = Timeout
	} else if o.err != nil {
		o.failure = Failed
	}
	return o
}

// call is one message on its way to one filter and back.
type call struct {
	run   *run
	stage *stage
	msg   *filter.Message
	mode  Mode
	at    int       // which of the chain's stages, from 1
	step  int       // in run.steps
	start time.Time // when it reached the filter
	late  *late     // in mode async

	// What follows belongs to the unit that the call is queued in, and is guarded
	// by its mu.
	sent       time.Time
	n          uint64 // its call number in the session
	slots      *slots // of the session that it is in flight in
	batch      int
	generation int
	state      callState
	retried    bool
	prev, next *call // by deadline
}

func (c *call) deadline() time.Time { return c.start.Add(c.stage.opts.Timeout) }

// outcome is what came of a call: a verdict, or the reason why there is none.
type outcome struct {
	verdict filter.Verdict
	failure string
	err     error // why, where failure alone does not tell
	end     time.Time
}

// install lets the process that was started for this set take over.
func (s *stage) install() {
	if s.fresh != nil {
		s.unit.install(s.fresh)
		s.fresh = nil
	}
}

// release lets go of who judges, and returns when that has ended, unless somebody
// else holds it.
func (s *stage) release() {
	if s.builtin != nil {
		s.builtin.release()
	}
	if s.fresh != nil {
		s.fresh.end(s.unit.host.hard, s.log, s.unit.host.times.end)
	}
	if s.unit != nil {
		s.unit.release()
	}
}

func (s *stage) status() Status {
	st := s.tally.status()
	st.Filter, st.Mode, st.Builtin = s.opts.Name, s.opts.Mode, s.builtin != nil
	st.Name, st.Version = s.desc.Name, s.desc.Version
	if s.unit != nil {
		s.unit.status(&st)
	}
	return st
}
