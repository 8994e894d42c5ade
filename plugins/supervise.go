package plugins

import (
	"context"
	"fmt"
	"time"
)

const (
	watchEvery   = 250 * time.Millisecond // a process's memory and health
	firstBackoff = 50 * time.Millisecond
	maxBackoff   = 10 * time.Second
)

// look makes the supervisor look.
func (u *unit) look() {
	select {
	case u.kick <- struct{}{}:
	default:
	}
}

// supervise sees to it that there is a process, until the unit is closed.
func (u *unit) supervise() {
	defer close(u.over)
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	pinged := time.Now()
	var last *session
	var delay backoff
	for {
		u.mu.Lock()
		closed, s := u.closed, u.session
		u.mu.Unlock()
		switch {
		case closed:
			u.bury(last, s)
			return
		case s != nil:
			u.bury(last, s)
			last = s
			select {
			case <-u.kick:
			case now := <-tick.C:
				if now.Sub(pinged) >= u.host.times.ping {
					pinged = now
					s.ping()
				}
				u.inspect(s)
			}
		default:
			if last != nil {
				delay.died(time.Since(last.link.since) < u.host.times.short)
				u.bury(last, nil)
				last = nil
			}
			if !u.restart(delay.next()) {
				delay.died(true)
			}
		}
	}
}

// backoff is how long the next start waits.
type backoff struct{ short int } // processes in a row that lived shortly, or not at all

func (b *backoff) died(short bool) {
	if !short {
		b.short = 0
		return
	}
	b.short++
}

func (b *backoff) next() time.Duration {
	if b.short < 2 {
		return 0
	}
	return min(firstBackoff<<min(b.short-2, 16), maxBackoff)
}

// bury removes what is left of a session's process, when another took its place.
// Those that are drained see to that themselves.
func (u *unit) bury(last, now *session) {
	if last == nil || last == now {
		return
	}
	u.mu.Lock()
	drained := last.draining
	u.mu.Unlock()
	if !drained {
		u.work.Go(func() {
			last.link.end(u.host.hard, u.log, 0)
			u.log.Warn("a process of the plugin ended", "pid", last.link.child.pid(), "how", last.link.child.how())
		})
	}
}

// restart starts a process after a while. It reports false when that failed.
// Somebody else's process, or the end of the unit, ends it early.
func (u *unit) restart(after time.Duration) bool {
	u.mu.Lock()
	sp, why := u.spec, u.lastError
	u.down = after > 0
	u.mu.Unlock()
	u.log.Warn("the plugin's process is gone; starting another", "error", why, "in", after)
	if !u.pause(after) {
		return true
	}
	ctx, cancel := context.WithCancel(u.host.hard)
	defer cancel()
	began := time.Now()
	type result struct {
		l   *link
		err error
	}
	up := make(chan result, 1)
	go func() {
		l, problems, err := u.host.launch(ctx, sp, u.log)
		if err == nil && l == nil {
			err = fmt.Errorf("it refuses its configuration: %w", problems[0])
		}
		up <- result{l, err}
	}()
	var r result
	for waiting := true; waiting; {
		select {
		case r = <-up:
			waiting = false
		case <-u.kick:
			if !u.orphaned() {
				cancel()
			}
		}
	}
	u.mu.Lock()
	switch {
	case u.closed || u.session != nil: // somebody was faster
		u.mu.Unlock()
		if r.l != nil {
			r.l.end(u.host.hard, u.log, 0)
		}
		return true
	case r.err != nil:
		u.down, u.lastError = true, r.err.Error()
		u.tally.failures.Add(1)
		u.mu.Unlock()
		u.log.Error("starting the plugin", "error", r.err)
		return false
	}
	u.attach(r.l)
	generation := u.generation
	u.mu.Unlock()
	u.log.Info("the plugin is back", "pid", r.l.child.pid(), "generation", generation, "after", time.Since(began).Round(time.Millisecond))
	return true
}

// pause waits, and reports whether there is still no process.
func (u *unit) pause(d time.Duration) bool {
	if d == 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			return true
		case <-u.kick:
			if !u.orphaned() {
				return false
			}
		}
	}
}

// orphaned reports whether the unit needs a process.
func (u *unit) orphaned() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return !u.closed && u.session == nil
}

// inspect looks after a process that should be well.
func (u *unit) inspect(s *session) {
	now := time.Now()
	u.mu.Lock()
	if s.slots.reclaim(now) > 0 && s.idle && u.queued > 0 {
		s.idle = false
		s.signal()
	}
	u.lates.prune(now)
	u.mu.Unlock()
	if s.link.stream != nil {
		s.suspect()
	}
	limit := s.link.spec.opts.Memory
	if limit <= 0 {
		return
	}
	if has := residentBytes(s.link.child.pid()); has > limit {
		u.log.Error("the plugin uses more memory than it may", "pid", s.link.child.pid(), "resident_bytes", has, "limit_bytes", limit)
		s.kill("it used more memory than it may")
	}
}

// install puts a process in that a set brought, and drains the one before.
func (u *unit) install(l *link) {
	u.mu.Lock()
	old := u.attach(l)
	if old != nil {
		old.draining = true
	}
	u.mu.Unlock()
	if old != nil {
		u.work.Go(old.drain)
	}
	u.look()
}

// release lets go of the unit. The last one who does drains and ends it.
func (u *unit) release() {
	if u.refs.Add(-1) > 0 {
		return
	}
	u.mu.Lock()
	u.closed = true
	s := u.session
	if s != nil {
		s.draining = true
	}
	u.mu.Unlock()
	u.look()
	<-u.over
	if s != nil {
		s.drain()
	}
	u.mu.Lock()
	u.session = nil
	rest := u.queue[u.head:]
	u.queue, u.head = nil, 0
	var left []*call
	for _, c := range rest {
		if c.state != settled {
			u.settle(c)
			left = append(left, c)
		}
	}
	if u.timer != nil {
		u.timer.Stop()
	}
	u.mu.Unlock()
	for _, c := range left {
		c.run.answer(c, outcome{failure: Crash, end: time.Now()})
	}
	u.work.Wait()
}

// hold takes part in a unit, unless that has ended.
func (u *unit) hold() bool {
	for {
		n := u.refs.Load()
		if n == 0 {
			return false
		}
		if u.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// runs reports whether what a unit runs is as sp wants it.
func (u *unit) runs(sp *spec) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.spec.same(sp)
}

func (u *unit) status(st *Status) {
	u.mu.Lock()
	st.Generation, st.LastError, st.Queued, st.Breaker = u.generation, u.lastError, u.queued, u.breaker.String()
	if u.down {
		st.Breaker = "open"
	}
	s := u.session
	if s != nil {
		st.InFlight, st.Unary = s.slots.taken, s.link.stream == nil
	}
	u.mu.Unlock()
	if s != nil {
		st.PID = s.link.child.pid()
		st.Resident = residentBytes(st.PID)
	}
}
