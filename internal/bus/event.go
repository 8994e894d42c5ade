package bus

// Kind tells what an Event is.
type Kind uint8

// The kinds of events. Values are part of the envelope: never renumber.
const (
	Chat     Kind = 1 // a message; sequenced in rooms with history
	Signal   Kind = 2 // typing, cursors: never stored
	Joined   Kind = 3 // a member came: Sender, Count, Version
	Left     Kind = 4 // a member went: Sender, Count, Version, Reason
	Redacted Kind = 5 // Target is gone; sequenced
	Closed   Kind = 6 // the room was closed: Reason
	// Shadow is a chat that its sender's own sockets alone are shown. It has no
	// place in any stream: it is published with a zero Retention, in rooms with
	// history too, and an instance that is cut off at that moment misses it.
	Shadow Kind = 7

	// Made by the receiving bus, never published:

	Notice Kind = 32 // something is missing: Notice, From, To
	Resync Kind = 33 // the member list may have changed unseen: Members, Count, Version
)

// NoticeKind tells what a Notice is about.
type NoticeKind uint8

// The kinds of notices.
const (
	// NoticeEpoch: a new epoch begins; it precedes the first chat of it. To is
	// the seq at which the old one ended.
	NoticeEpoch NoticeKind = 1 + iota
	// NoticeLost: From to To, inclusive, are gone: history no longer holds them,
	// or they were in an epoch that a failover dropped.
	NoticeLost
	// NoticeGap: a plain room was cut off for a while; unknown messages are
	// missing.
	NoticeGap
)

// Sender is who caused an event.
type Sender struct {
	Member string // identity id
	User   []byte // the JSON object that others see
	Conn   string // connection id, empty when no socket is behind it
}

// Trace is the W3C trace context that an event carries between instances. The
// trace id is the MessageID unless TraceID is set.
type Trace struct {
	TraceID [16]byte // zero: the MessageID
	SpanID  [8]byte  // of the publishing span
	Flags   byte     // 1: sampled
}

// Event is one thing that happened in a room. Which fields are set depends on
// Kind; see there.
type Event struct {
	Kind Kind
	Room string
	Position
	ID     MessageID
	Time   int64 // milliseconds since the Unix epoch, of the accepting instance
	Sender Sender
	Key    string // the sender's idempotency key, shown to its own sockets
	Body   []byte // Chat: message, Signal: data; the sender's JSON as it came
	Trace  Trace
	Reason string

	Target    MessageID // Redacted
	TargetSeq uint64    // Redacted

	Count   int    // Joined, Left, Resync
	Version uint64 // Joined, Left, Resync
	Members [][]byte

	Notice NoticeKind
	From   uint64
	To     uint64
	Anew   bool // NoticeEpoch: nothing of the old epoch holds, and numbers may begin anew
}

// Sequenced reports whether the event has a place in the room's stream.
func (e *Event) Sequenced() bool { return e.Seq != 0 && (e.Kind == Chat || e.Kind == Redacted) }
