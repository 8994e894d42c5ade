package telemetry

import (
	"sync"
	"time"
)

const (
	// deliverCap is how long a delivery is followed; whoever has not got the
	// message by then is slow.
	deliverCap = 5 * time.Second
	// maxEvents bounds the receivers that a deliver span names.
	maxEvents = 16
	// maxWrites bounds the write spans of a message in debug.
	maxWrites = 100
	// maxNamed bounds the receivers whose names are kept while a delivery is
	// followed; those beyond are counted only. maxNames bounds them over all
	// deliveries: some 32 MiB.
	maxNamed = 4096
	maxNames = 1 << 20
	// usual is how many receivers have their place from the start.
	usual = 16
)

// DeliveryFacts are what a deliver span tells of a message.
type DeliveryFacts struct {
	ID     [16]byte
	Policy string // the room policy's match
	Room   string
	Seq    uint64
	Start  time.Time // the bus handed it over
}

// Delivery follows one message on one instance, from the bus until the last
// socket has it or five seconds have gone. Only traced messages have one: all
// methods of a nil *Delivery do nothing. They are safe for concurrent use and
// never block.
//
// For each receiver: Enqueued, then once Wrote or Dropped; or Dropped alone.
// Sent when there are no more receivers. Whoever comes after the end is not
// counted.
type Delivery struct {
	traces  *Traces
	facts   DeliveryFacts
	context Context // of the publish span, trace id filled in
	span    [8]byte
	reason  Reason

	// Guarded by openDeliveries.mu.
	prev, next *Delivery
	began      time.Time

	mu       sync.Mutex
	sent     bool // guarded by mu, as all below
	over     bool
	members  int
	enqueued int
	written  int
	dropped  int
	gone     int // of dropped: the receiver was not there any more
	slow     int
	first    time.Time
	last     time.Time
	ended    time.Time
	waiting  []string // who was enqueued, at most maxNamed
	done     []string // who is through with it, at most maxNamed
	named    int      // names kept in both
	blind    bool     // done lacks some: who has not got it is not known by name
	events   []receiverEvent
	writes   []receiverWrite // in debug
}

// receiverEvent is trouble with one receiver.
type receiverEvent struct {
	name string // slow, dropped
	conn string
	why  string
	at   time.Time
}

type receiverWrite struct {
	conn string
	at   time.Time
}

// Deliver begins to follow a sampled message. c is what rode in the envelope. It
// returns nil for messages that are not sampled.
func (t *Traces) Deliver(c Context, f DeliveryFacts) *Delivery {
	if t == nil || !c.Sampled() {
		return nil
	}
	d := &Delivery{traces: t, facts: f, context: c.Of(f.ID), span: randomSpanID()}
	names := make([]string, 2*usual)
	d.waiting, d.done = names[:0:usual], names[usual:usual]
	t.open.add(d, time.Now())
	return d
}

// Context is what a receiver's own spans have as parent; zero for nil.
func (d *Delivery) Context() Context {
	if d == nil {
		return Context{}
	}
	return Context{d.context.TraceID, d.span, FlagSampled}
}

// lock takes mu, unless there is no delivery or it is over.
func (d *Delivery) lock() bool {
	if d == nil {
		return false
	}
	d.mu.Lock()
	if d.over {
		d.mu.Unlock()
		return false
	}
	return true
}

// Enqueued notes that the message waits for a receiver to read.
func (d *Delivery) Enqueued(conn string) {
	if !d.lock() {
		return
	}
	defer d.mu.Unlock()
	d.enqueued++
	if len(d.waiting) < maxNamed && d.traces.open.name() {
		d.waiting = append(d.waiting, conn)
		d.named++
	}
}

// Wrote notes that a receiver's socket has taken the message.
func (d *Delivery) Wrote(conn string, at time.Time) {
	if !d.lock() {
		return
	}
	defer d.mu.Unlock()
	d.written++
	if d.first.IsZero() || at.Before(d.first) {
		d.first = at
	}
	if at.After(d.last) {
		d.last = at
	}
	if d.traces.TooSlow(d.facts.Start, at) {
		d.slow++
		d.note(receiverEvent{"slow", conn, "written late", at})
	}
	if d.context.Debug() && len(d.writes) < maxWrites {
		d.writes = append(d.writes, receiverWrite{conn, at})
	}
	d.settle(conn)
}

// closed is why a receiver does not get a message whose connection has ended, as
// one does every moment: nobody is there to miss it.
const closed = "closed"

// Dropped notes that a receiver does not get the message, and why: shed,
// slow_consumer, closed.
func (d *Delivery) Dropped(conn, why string) {
	if !d.lock() {
		return
	}
	defer d.mu.Unlock()
	d.dropped++
	if why == closed {
		d.gone++
	}
	d.note(receiverEvent{"dropped", conn, why, time.Now()})
	d.settle(conn)
}

// Sent says that all receivers have been told of, and how many members' sockets
// there are.
func (d *Delivery) Sent(members int) {
	if !d.lock() {
		return
	}
	defer d.mu.Unlock()
	d.members, d.sent = members, true
	d.finish()
}

// settle counts a receiver out. mu is held.
func (d *Delivery) settle(conn string) {
	if len(d.done) < maxNamed && d.traces.open.name() {
		d.done = append(d.done, conn)
		d.named++
	} else {
		d.blind = true
	}
	d.finish()
}

func (d *Delivery) note(e receiverEvent) {
	if len(d.events) < maxEvents {
		d.events = append(d.events, e)
	}
}

// finish ends the delivery when nobody is waited for. mu is held.
func (d *Delivery) finish() {
	if d.sent && !d.over && d.written+d.dropped >= d.enqueued {
		d.close(time.Now())
	}
}

// expire ends the delivery although some have not got the message.
func (d *Delivery) expire(now time.Time) {
	if !d.lock() {
		return
	}
	defer d.mu.Unlock()
	left := d.enqueued - d.written - d.dropped
	if left > 0 {
		d.slow += left
		if d.blind {
			d.waiting = d.waiting[:0]
		}
		for _, conn := range missing(d.waiting, d.done, maxEvents-len(d.events)) {
			d.note(receiverEvent{"slow", conn, "not written", now})
		}
	}
	d.close(now)
}

// close hands it over to be exported. mu is held.
func (d *Delivery) close(now time.Time) {
	d.over, d.ended = true, now
	d.traces.open.forget(d.named)
	d.waiting, d.done = nil, nil
	d.traces.open.remove(d)
	d.traces.queue.put(d, 1+len(d.writes))
}

// missing lists at most n of those in all that are not in done.
func missing(all, done []string, n int) []string {
	if n <= 0 {
		return nil
	}
	through := make(map[string]int, len(done))
	for _, c := range done {
		through[c]++
	}
	var left []string
	for _, c := range all {
		if through[c]--; through[c] < 0 && len(left) < n {
			left = append(left, c)
		}
	}
	return left
}

// DroppedFor tells that one receiver did not get a message that was not sampled:
// a deliver span of its own with that one event, if the bucket for promotions
// has a token and the receiver is still there. Only then are the facts asked for.
func (t *Traces) DroppedFor(c Context, conn, why string, now time.Time, facts func() DeliveryFacts) {
	if why == closed || c.Sampled() || !t.Promote(now) { // a sampled one has a Delivery that knows
		return
	}
	f := facts()
	d := &Delivery{traces: t, facts: f, context: c.Of(f.ID), span: randomSpanID(), reason: Dropped}
	if d.facts.Start.IsZero() {
		d.facts.Start = now
	}
	d.dropped, d.over, d.ended = 1, true, now
	d.events = []receiverEvent{{"dropped", conn, why, now}}
	t.queue.put(d, 1)
}
