package telemetry

import (
	"time"
)

// Facts are what a trace tells of a message, apart from what happened to it.
type Facts struct {
	ID         [16]byte  // of the message
	Start      time.Time // its request was read
	Endpoint   string    // path
	Connection string    // id; empty when no socket is behind it
	Policy     string    // the room policy's match
	Room       string
	User       string // identity id
	Guest      bool
	Size       int     // of the body in bytes
	Handshake  Context // of the connection, if that was traced: a link
	Link       Context // Origin.Link
}

// Message is one message on the instance that took it, while it is on its way.
// Only traced messages have one: all methods of a nil *Message do nothing, so
// that callers need not ask. They may be called from any goroutine, one at a
// time; End is the last.
type Message struct {
	traces   *Traces
	facts    Facts
	parent   Context // of a trusted client
	context  Context // trace id filled in, span id of publish
	promoted Reason  // empty: it was sampled

	policy    []PolicyStep
	filters   []FilterStep
	published Publication
	outcome   Outcome
}

// PolicyStep is a question to the room's policy.
type PolicyStep struct {
	Action     string // publish, ...
	Rule       string // the expression or keyword in relay.yaml
	Result     string // allowed, forbidden, muted, banned, too_large, rate_limited
	Start, End time.Time
}

// FilterStep is what one filter did with a message. Its fields are those of
// room.Step.
type FilterStep struct {
	Filter     string
	Mode       string // enforce, observe, async
	Start, End time.Time
	Action     string
	Code       string
	Failure    string        // timeout, crash, error, overload: no verdict; empty otherwise
	Elapsed    time.Duration // in the plugin, as it says itself
	Queued     time.Duration // before it was sent
	Batch      int
	Generation int
	SpanID     [8]byte // zero: nobody was told of it, and any will do
	Plugin     bool    // a process judged
	Traces     bool    // the plugin draws its own part
}

// Publication is a message's way to the bus and back.
type Publication struct {
	Start, End time.Time // zero Start: when the last filter or policy step was done
	System     string    // redis or memory
	Operation  string    // EVALSHA, PUBLISH, SPUBLISH
	Pipeline   int       // messages that shared the round trip; 0: unknown
	Seq        uint64    // 0 in plain rooms
	Duplicate  bool
	Error      string // error.type: unavailable, unknown_outcome, ...; empty: taken
}

// Outcome is how a message ended for its sender.
type Outcome struct {
	End    time.Time // zero: now
	Error  string    // error.type: the code of the error the sender got; empty: it was acked
	Detail string    // a sentence for the span's status; never anything a client sent
	Action string    // what filters made of it: modify, drop, shadow; empty: nothing
}

// Reason says why a message that was not sampled is told all the same.
type Reason string

// The reasons to promote.
const (
	Rejected Reason = "rejected" // by policy, limit or filter
	Failed   Reason = "failed"   // the bus, or a filter that could not judge
	Slow     Reason = "slow"     // longer than TracesOptions.Slow from request to answer
	Dropped  Reason = "dropped"  // by a filter without a word, or for a receiver that did not keep up
)

// Message begins the record of a message. c is what Decide said; when it is not
// sampled, the message has been promoted. A nil Traces has none.
func (t *Traces) Message(c Context, o *Origin, f Facts) *Message {
	if t == nil {
		return nil
	}
	m := &Message{traces: t, facts: f, parent: o.Parent, context: c.Of(f.ID)}
	if m.facts.Link.IsZero() {
		m.facts.Link = o.Link
	}
	return m
}

// Promote asks whether a message that was not sampled, and ended like that, is to
// become a trace after all. It takes a token. If it says yes, make a Message and
// tell it what is known.
func (t *Traces) Promote(now time.Time) bool {
	return t != nil && t.grant(&t.promote, now)
}

// grant takes a token of a bucket, and counts whether there was one.
func (t *Traces) grant(b *bucket, now time.Time) bool {
	if b.take(now) {
		t.granted.Add(1)
		return true
	}
	t.denied.Add(1)
	return false
}

// TooSlow reports whether a message took longer than what counts as slow, at any
// moment of its life.
func (t *Traces) TooSlow(start, now time.Time) bool {
	if t == nil {
		return false
	}
	slow := time.Duration(t.slow.Load())
	return slow > 0 && now.Sub(start) > slow
}

// Context is that of the publish span, with the trace id filled in; zero for a
// nil Message.
func (m *Message) Context() Context {
	if m == nil {
		return Context{}
	}
	return m.context
}

// Promoted notes why a message that was not sampled is told.
func (m *Message) Promoted(why Reason) {
	if m != nil {
		m.promoted = why
	}
}

// Policy notes a question to the room's policy.
func (m *Message) Policy(p PolicyStep) {
	if m != nil && len(m.policy) < maxSteps {
		m.policy = append(m.policy, p)
	}
}

// Filter notes what a filter did.
func (m *Message) Filter(f FilterStep) {
	if m != nil && len(m.filters) < maxSteps {
		m.filters = append(m.filters, f)
	}
}

// Published notes what became of it on the bus.
func (m *Message) Published(p Publication) {
	if m != nil {
		m.published = p
	}
}

// End hands the message over to be exported. It never blocks.
func (m *Message) End(o Outcome) {
	if m == nil {
		return
	}
	if o.End.IsZero() {
		o.End = time.Now()
	}
	m.outcome = o
	m.traces.queue.put(m, m.spans())
}

// LateFilters adds what filters said when the message was through: observers and
// those in mode async. c is what rode in the envelope. Only for sampled
// messages; others are dropped without a word.
func (t *Traces) LateFilters(message [16]byte, c Context, steps ...FilterStep) {
	if t == nil || !c.Sampled() || len(steps) == 0 {
		return
	}
	steps = steps[:min(len(steps), maxSteps)]
	l := &lateFilters{parent: Context{c.Of(message).TraceID, ProcessSpan(message), c.Flags}, steps: steps}
	t.queue.put(l, l.spans())
}

// maxSteps bounds the spans of one message of a kind.
const maxSteps = 64

// lateFilters are spans that come after their parent's end.
type lateFilters struct {
	parent Context // the process span
	steps  []FilterStep
}

func (l *lateFilters) spans() int { return 2 * len(l.steps) }

// spans is how many it makes at most.
func (m *Message) spans() int { return 2 + len(m.policy) + 2*len(m.filters) }
