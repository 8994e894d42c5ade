package room

import (
	"time"

	"github.com/wsrelay/relay/internal/bus"
	"github.com/wsrelay/relay/internal/room/policy"
	"github.com/wsrelay/relay/plugins/filter"
	"github.com/wsrelay/relay/telemetry"
)

// Filters is the chain of filters that a room's policy names. Package plugins
// implements it; a room only knows that somebody judges.
type Filters interface {
	// Wants reports whether any filter looks at such events at all. Where none
	// does, nothing is asked.
	Wants(e filter.Event) bool

	// Recent is how many earlier messages of the room the filters want with each.
	Recent() int

	// Judge hands q to the filters and returns at once. done is called exactly
	// once, from any goroutine, perhaps before Judge returns; it must not block.
	// It is called when every filter that may change the message has had its say
	// or its time; filters in mode observe or async go on beside it.
	//
	// q must not change after Judge is called.
	Judge(q *Query, done func(*Ruling))
}

// Query is one event to judge, as the room knows it.
type Query struct {
	Event filter.Event
	ID    bus.MessageID // zero for joins and signals
	Room  string
	Actor *Actor
	Body  []byte   // JSON; empty for joins
	Text  []string // JSON pointers to what people read, as the room's policy says

	// Recent lists earlier chats, newest last, at most Filters.Recent of them.
	Recent []*bus.Event

	// Input is what an exempt expression looks at. It is made only when one does.
	Input func() *policy.Input

	// Sampled says that the message is traced, so that each Step needs a span id
	// and plugins get a traceparent. TraceID is what the spans belong to.
	Sampled bool
	TraceID [16]byte
	traces  *telemetry.Traces // for links to them; nil: none

	// Late takes what an async filter says after done, with Redact or without,
	// within LateWindow, and the steps that are over only then, an observer's too.
	// It must not block. Nil where nothing late is possible.
	Late func(*Ruling)
}

// LateWindow is how long after a message an async filter may take it back.
const LateWindow = 60 * time.Second

// Ruling is what all filters together say of a Query.
type Ruling struct {
	// Action is Allow, or Modify with Body what the message becomes, or what one
	// filter (Filter) ended it with: Reject, Drop or Shadow. Of a late ruling,
	// Reject takes the message back.
	Action filter.Action
	Body   []byte
	Filter string
	Code   string // a word for programs
	Reason string // a sentence for the user

	// Unavailable, with Reject: no filter refused, one could not judge, and its
	// on_error says reject.
	Unavailable bool

	Flags     []Flag
	Sanctions []FilterSanction
	Steps     []Step // in the order in which the filters were asked
}

// Flag marks a message for people to look at.
type Flag struct {
	Filter string
	filter.Flag
}

// FilterSanction is what a filter decided against the author of a message.
type FilterSanction struct {
	Filter string
	filter.Sanction
}

// Step is what one filter did with a message.
type Step struct {
	Filter     string
	Mode       string // enforce, observe, async
	Start, End time.Time
	Action     filter.Action
	Code       string
	Failure    string        // timeout, crash, error, overload: no verdict, on_error decided; empty otherwise
	Elapsed    time.Duration // in the plugin, as it says itself
	Queued     time.Duration // before it was sent
	Batch      int           // messages in the batch it went with
	Generation int           // of the plugin's process
	SpanID     [8]byte       // zero unless the Query was sampled
	Plugin     bool          // a process judged, not a built-in
	Traces     bool          // the plugin draws its own part of the trace
}
