package telemetry

import (
	"encoding/binary"
	"fmt"
	"math"
	"sync/atomic"
	"time"
)

// Sampler is the share of messages that become traces. It looks at the message
// id only, the way OTel's probability sampling does (the 56 rightmost bits
// against a threshold), so that every instance and every collector on the way
// comes to the same answer. The zero Sampler has no say.
type Sampler uint64

const (
	sampleBits = 56
	sampleMask = 1<<sampleBits - 1
)

// Share makes a Sampler from a number between 0 and 1.
func Share(p float64) Sampler {
	switch {
	case !(p > 0):
		return 1 + 1<<sampleBits
	case p >= 1:
		return 1
	}
	return 1 + Sampler(math.Round((1-p)*(1<<sampleBits)))
}

// takes is true for its share of ids; low is the second half of one.
func (s Sampler) takes(low uint64) bool {
	return s != 0 && Sampler(low&sampleMask) >= s-1
}

// ClientMode says what a client's traceparent is good for.
type ClientMode uint8

// What an endpoint does with the traceparent of a client.
const (
	Ignore ClientMode = iota
	Link              // the message's own trace links to the client's
	Trust             // the message's spans join the client's trace, and its decision to sample holds
)

// ParseClientMode reads trust, link or ignore; empty is ignore.
func ParseClientMode(s string) (ClientMode, error) {
	switch s {
	case "", "ignore":
		return Ignore, nil
	case "link":
		return Link, nil
	case "trust":
		return Trust, nil
	}
	return Ignore, fmt.Errorf("client %q: must be trust, link or ignore", s)
}

// EntranceOptions are an endpoint's say in tracing.
type EntranceOptions struct {
	Sample Sampler
	Client ClientMode

	// ClientRate is how many traceparents a second are looked at over all
	// connections of the endpoint; those beyond are ignored, so that a client
	// that asks for a trace with every message gets no more than this. Default
	// 100.
	ClientRate float64
}

// Entrance is an endpoint as tracing sees it. It outlives reloads: Update
// changes its options and keeps its bucket. All methods are safe for concurrent
// use, and a nil Entrance samples nothing.
type Entrance struct {
	opt    atomic.Pointer[EntranceOptions]
	bucket bucket
}

// NewEntrance makes one.
func NewEntrance(opt EntranceOptions) *Entrance {
	e := &Entrance{}
	e.Update(opt)
	return e
}

// Update puts other options in force.
func (e *Entrance) Update(opt EntranceOptions) {
	if opt.ClientRate <= 0 {
		opt.ClientRate = 100
	}
	e.bucket.set(opt.ClientRate)
	e.opt.Store(&opt)
}

// Origin is what is known of a message, as far as tracing goes, before a room
// has seen it.
type Origin struct {
	Sample Sampler // the endpoint's
	Debug  bool    // an admin asked for everything
	Parent Context // of a trusted client: to be continued
	Link   Context // of a client that is not trusted that far
}

// Origin looks at what a client sent along. traceparent may be empty or
// anything at all; now is used when it is not empty.
func (e *Entrance) Origin(traceparent []byte, now time.Time) Origin {
	if e == nil {
		return Origin{}
	}
	opt := e.opt.Load()
	o := Origin{Sample: opt.Sample}
	if len(traceparent) == 0 || opt.Client == Ignore {
		return o
	}
	c, ok := ParseTraceparent(traceparent)
	switch {
	case !ok || !e.bucket.take(now):
	case opt.Client == Trust:
		o.Parent = c
	default:
		o.Link = c
	}
	return o
}

// Decide says whether a message becomes a trace, before anything is recorded:
// by debug, else by a trusted parent's flag, else by the room's share, else by
// the endpoint's. The Context is what rides in the envelope: its span id is that
// of the publish span. It costs a few nanoseconds and allocates nothing; a nil
// Traces samples nothing.
func (t *Traces) Decide(id [16]byte, o *Origin, room Sampler) (c Context) {
	low := binary.BigEndian.Uint64(id[8:])
	c.TraceID = o.Parent.TraceID
	binary.BigEndian.PutUint64(c.SpanID[:], nonzero(low))
	if room == 0 {
		room = o.Sample
	}
	switch {
	case t == nil:
	case o.Debug:
		c.Flags = FlagSampled | FlagDebug
	case o.Parent.TraceID != [16]byte{}:
		c.Flags = o.Parent.Flags & FlagSampled
	case room.takes(low):
		c.Flags = FlagSampled
	}
	return c
}

// ProcessSpan is the id of the process span of a message.
func ProcessSpan(message [16]byte) [8]byte { return spanID(binary.BigEndian.Uint64(message[:8])) }

// PublishSpan is the id of the publish span of a message.
func PublishSpan(message [16]byte) [8]byte { return spanID(binary.BigEndian.Uint64(message[8:])) }

func spanID(n uint64) (id [8]byte) {
	binary.BigEndian.PutUint64(id[:], nonzero(n))
	return id
}

// nonzero keeps the one id in 2^64 valid that would not be.
func nonzero(n uint64) uint64 { return max(n, 1) }
