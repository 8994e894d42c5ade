package plugins

import (
	"encoding/hex"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wsrelay/relay/internal/bus"
	"github.com/wsrelay/relay/plugins/filter"
	pb "github.com/wsrelay/relay/plugins/filter/filterpb"
)

// The bounds of what one plugin's queue holds. Beyond either, a message is
// Overload at once.
const (
	maxQueued      = 4096
	maxQueuedBytes = 32 << 20 // bodies, of what waits and what is in flight
)

// callState is where a call is.
type callState uint8

const (
	queued  callState = iota
	flying            // in a session's slots
	settled           // answered, or out of time
)

// unit keeps one plugin judging: it is the queue in front of it, and sees to it
// that there is a process behind. It outlives the plugin's processes and
// configurations: a set that changes a filter puts another process into its unit,
// so that whoever still holds an older chain asks the new one.
type unit struct {
	host  *Host
	log   *slog.Logger
	tally *tally
	refs  atomic.Int32 // sets that hold it

	kick chan struct{} // tells the supervisor to look
	over chan struct{} // closed when the supervisor has ended
	work sync.WaitGroup

	mu         sync.Mutex
	queue      []*call // in order, from head on; settled ones are skipped. guarded by mu, like all below
	head       int
	queued     int   // of queue, those that are not settled
	bytes      int64 // of what is not settled
	soonest    deadlines
	timer      *time.Timer // runs sweep; nil until the first call
	armed      time.Time   // when it fires; zero when it does not
	session    *session    // that takes calls; nil while there is none
	spec       *spec       // of the next process
	breaker    breaker
	down       bool // no process, and none is to be soon
	closed     bool
	generation int
	lastError  string
	lates      lates
}

func newUnit(h *Host, log *slog.Logger, t *tally) *unit {
	u := &unit{host: h, log: log, tally: t, kick: make(chan struct{}, 1), over: make(chan struct{})}
	u.refs.Store(1)
	return u
}

// put queues a call, which is answered in time then, be it before put returns. Or
// it says why it cannot be queued.
func (u *unit) put(c *call) (refused string) {
	now := c.start
	u.mu.Lock()
	defer u.mu.Unlock()
	if why := u.refuse(c, now); why != "" {
		return why
	}
	u.queue = append(u.queue, c)
	u.queued++
	u.bytes += int64(len(c.msg.Body))
	u.soonest.add(c)
	u.arm()
	if c.late != nil && c.run.q.Late != nil && !c.run.q.ID.IsZero() {
		u.tally.evicted.Add(u.lates.add(c.run.q.ID, c.late, now))
	}
	u.wake()
	return ""
}

// refuse says why a call cannot be queued, if it cannot. mu is held.
func (u *unit) refuse(c *call, now time.Time) string {
	switch {
	case u.closed:
		return Crash
	case u.down, u.queued >= maxQueued, u.bytes+int64(len(c.msg.Body)) > maxQueuedBytes, !u.breaker.admit(now):
		return Overload
	}
	return ""
}

// wake tells the session that there is something to do. mu is held.
func (u *unit) wake() {
	if s := u.session; s != nil && s.idle {
		s.idle = false
		s.signal()
	}
}

// arm sees to it that sweep runs when the first deadline has passed. It lets a
// timer that fires too early be: with messages that are answered in time, that is
// one timer per budget and not one per message. mu is held.
func (u *unit) arm() {
	first := u.soonest.first
	if first == nil || !u.armed.IsZero() && !first.deadline().Before(u.armed) {
		return
	}
	u.armed = first.deadline()
	d := time.Until(u.armed)
	if u.timer == nil {
		u.timer = time.AfterFunc(d, u.sweep)
	} else {
		u.timer.Reset(d)
	}
}

// sweep settles the calls whose time is over.
func (u *unit) sweep() {
	now := time.Now()
	u.mu.Lock()
	why := Timeout
	if u.session == nil {
		why = Crash
	}
	var late []*call
	for c := u.soonest.first; c != nil && !c.deadline().After(now); c = u.soonest.first {
		u.settle(c)
		late = append(late, c)
	}
	u.trim()
	opened := false
	if why == Timeout { // what waits for a process that starts says nothing of it
		opened = u.breaker.failed(len(late), now)
	}
	u.armed = time.Time{}
	u.arm()
	s := u.session
	u.mu.Unlock()
	if opened {
		u.log.Warn("the filter is not asked for a while: too many messages in a row without a verdict")
		if s != nil {
			s.ping()
		}
	}
	for _, c := range late {
		c.run.answer(c, outcome{failure: why, end: now})
	}
}

// settle takes a call out of everything. In a session's slots it stays as one
// that the plugin is still at work on. mu is held.
func (u *unit) settle(c *call) {
	switch {
	case c.state == queued:
		u.queued--
	case c.slots != nil:
		c.slots.abandon(c.n)
	}
	c.state, c.slots = settled, nil
	u.bytes -= int64(len(c.msg.Body))
	u.soonest.remove(c)
}

// trim forgets the settled calls at the front of the queue. mu is held.
func (u *unit) trim() {
	n := 0
	for u.head+n < len(u.queue) && u.queue[u.head+n].state == settled {
		n++
	}
	u.drop(n)
}

// drop takes n calls off the front of the queue. mu is held.
func (u *unit) drop(n int) {
	clear(u.queue[u.head : u.head+n])
	u.head += n
	switch {
	case u.head == len(u.queue):
		u.queue, u.head = u.queue[:0], 0
	case u.head > len(u.queue)/2:
		kept := copy(u.queue, u.queue[u.head:])
		clear(u.queue[kept:])
		u.queue, u.head = u.queue[:kept], 0
	}
}

// again puts calls of a session that was lost back into the queue, in front of
// what came after them. mu is held.
func (u *unit) again(list []*call) {
	for _, c := range list {
		m := *c.msg // the lost session's sender may still read the old one
		c.state, c.retried, c.sent, c.msg = queued, true, time.Time{}, &m
	}
	u.queued += len(list)
	u.queue, u.head = slices.Concat(list, u.queue[u.head:]), 0
	u.tally.retries.Add(uint64(len(list)))
	u.wake()
}

// verdicts takes what a session received. mu is not held.
func (u *unit) verdicts(s *session, list []verdict) {
	now := time.Now()
	calls := make([]*call, len(list))
	known := false
	u.mu.Lock()
	for i := range list {
		c := s.slots.take(list[i].call)
		if c == nil {
			u.tally.unknown.Add(1)
			continue
		}
		u.settle(c)
		calls[i], known = c, true
	}
	closed := known && u.breaker.succeeded()
	if s.idle && u.queued > 0 { // it had no slot left
		s.idle = false
		s.signal()
	}
	u.mu.Unlock()
	if closed {
		u.log.Info("the filter is asked again")
	}
	for i, c := range calls {
		if c == nil {
			continue
		}
		o := outcome{verdict: list[i].Verdict, err: list[i].err, end: now}
		if o.err != nil {
			o.failure = Failed
		}
		c.run.answer(c, o)
	}
}

// later takes a later verdict.
func (u *unit) later(p *pb.Late) {
	id, v := filter.LateFromProto(p)
	u.mu.Lock()
	l := u.lates.find(id)
	u.mu.Unlock()
	if l == nil {
		u.tally.tooLate.Add(1)
		return
	}
	_ = l.later(v) // counted there
}

// deadlines is a list of calls by deadline, the soonest first. Calls come nearly
// in that order, since a filter's budget is the same for all.
type deadlines struct{ first, last *call }

func (d *deadlines) add(c *call) {
	at := d.last
	for at != nil && at.deadline().After(c.deadline()) {
		at = at.prev
	}
	c.prev = at
	if at == nil {
		c.next, d.first = d.first, c
	} else {
		c.next, at.next = at.next, c
	}
	if c.next == nil {
		d.last = c
	} else {
		c.next.prev = c
	}
}

func (d *deadlines) remove(c *call) {
	if c.prev == nil {
		d.first = c.next
	} else {
		c.prev.next = c.next
	}
	if c.next == nil {
		d.last = c.prev
	} else {
		c.next.prev = c.prev
	}
	c.prev, c.next = nil, nil
}

// lates remembers async messages for as long as there may be later verdicts.
type lates struct {
	by    map[bus.MessageID]*late
	order []lateID
}

type lateID struct {
	id    bus.MessageID
	until time.Time
}

// maxLates bounds them: some 15 MiB of one filter.
const maxLates = 1 << 16

// add remembers one, and says how many had to go before their time.
func (l *lates) add(id bus.MessageID, what *late, now time.Time) (evicted uint64) {
	l.prune(now)
	if len(l.order) >= maxLates {
		delete(l.by, l.order[0].id)
		l.order = l.order[1:]
		evicted = 1
	}
	if l.by == nil {
		l.by = map[bus.MessageID]*late{}
	}
	l.by[id] = what
	l.order = append(l.order, lateID{id, what.until})
	return evicted
}

// prune forgets those whose time is over.
func (l *lates) prune(now time.Time) {
	n := 0
	for n < len(l.order) && l.order[n].until.Before(now) {
		delete(l.by, l.order[n].id)
		n++
	}
	if l.order = l.order[n:]; len(l.order) == 0 {
		l.order = nil
	}
}

func (l *lates) find(id string) *late {
	var m bus.MessageID
	if n, err := hex.Decode(m[:], []byte(id[:min(len(id), 2*len(m))])); err != nil || n != len(m) {
		return nil
	}
	return l.by[m]
}
