package redisbus

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/wsrelay/relay/internal/bus"
)

// outgoing is something on its way to Redis through a publisher.
type outgoing struct {
	room    string
	channel string // of what is published without a script
	payload []byte // envelope, or what goes onto channel
	id      bus.MessageID
	time    int64
	receipt bus.Receipt // nil: nobody waits

	script *stored // nil: published without a script, at most once

	number uint64    // given when first sent, to what has a script
	since  time.Time // when it was first sent; zero: it never left
	shared int       // how many went with it, the last time that was answered
}

// stored is what a script needs to know besides the envelope.
type stored struct {
	sha  string
	meta string // KEYS[1]
	part int
	keep int
	life int64  // ms
	arg7 string // see publish.lua, redact.lua
	arg8 string

	redacted chan<- redacted // of a redaction, instead of a receipt
}

type redacted struct {
	position bus.Position
	err      error
}

// overhead is about what an outgoing takes besides its payload.
const overhead = 300

func (o *outgoing) size() int { return overhead + len(o.payload) + len(o.room) }

// resolve ends it. err is nil only with a reply of a script, or without script.
func (o *outgoing) resolve(reply string, err error) (mark bool) {
	if o.script == nil {
		o.tell(bus.Result{ID: o.id, Time: o.time, Err: err})
		return false
	}
	if err != nil {
		o.tell(bus.Result{Err: err})
		return false
	}
	r := bus.Result{ID: o.id, Time: o.time}
	kind, rest := byte(0), ""
	if reply != "" {
		kind, rest = reply[0], reply[1:]
	}
	ok := true
	switch kind {
	case 'S':
		rest, mark = strings.CutSuffix(rest, "!")
		r.Position, ok = parsePosition(rest)
	case 'D':
		ok = len(rest) > 32
		if ok {
			r.Duplicate = true
			copy(r.ID[:], rest[16:32])
			at, position, _ := strings.Cut(rest[32:], " ")
			r.Time, _ = strconv.ParseInt(at, 10, 64)
			r.Position, ok = parsePosition(position)
		}
	case 'K':
		r = bus.Result{Err: bus.ErrKeyReused}
	case 'H':
		r = bus.Result{Err: bus.ErrNoHistory}
	case 'N':
		r = bus.Result{Err: bus.ErrNotFound}
	case 'X':
		// It was given up or overtaken, so this is not a reply anyone waits for.
		r = bus.Result{Err: fmt.Errorf("%w: overtaken by a later message", bus.ErrUnavailable)}
	default:
		ok = false
	}
	if !ok {
		r = bus.Result{Err: fmt.Errorf("%w: unexpected reply of a script", bus.ErrUnknownOutcome)}
	}
	o.tell(r)
	return mark
}

func (o *outgoing) tell(r bus.Result) {
	r.Pipeline = o.shared
	switch {
	case o.script != nil && o.script.redacted != nil:
		o.script.redacted <- redacted{r.Position, r.Err} // has room for it
	case o.receipt != nil:
		o.receipt.Published(r)
	}
}

func parsePosition(s string) (bus.Position, bool) {
	epoch, digits, _ := strings.Cut(s, " ")
	seq, err := strconv.ParseUint(digits, 10, 63)
	return bus.Position{Epoch: epoch, Seq: seq}, err == nil && epoch != ""
}

// Publish encodes the message and queues it for its partition's server.
func (b *Bus) Publish(m *bus.Message, r bus.Receipt) error {
	e := &m.Event
	if err := b.open(); err != nil {
		return fmt.Errorf("publishing to room %q: %w", e.Room, err)
	}
	o := &outgoing{room: e.Room, id: e.ID, time: e.Time, receipt: r}
	e2 := *e
	e2.Key = m.Key
	size := envelopeHeader + 96 + len(e.Body) + len(e.Sender.User) + len(e.Sender.Member) + len(e.Sender.Conn) + len(e.Reason) + len(e2.Key)
	if e.Kind == bus.Chat && m.Retention.Kept() {
		o.payload = appendEnvelope(make([]byte, 0, size), &e2)
		o.script = &stored{sha: b.scripts.publish.sha, keep: m.Retention.Keep, life: m.Retention.For.Milliseconds()}
		if m.Key != "" {
			o.script.arg7 = idempotency(e.Room, e.Sender.Member, m.Key)
			o.script.arg8 = string(m.Digest[:]) + string(e.ID[:]) + strconv.FormatInt(e.Time, 10)
		}
		o.script.route(b, e.Room)
	} else {
		o.payload = appendEnvelope(append(make([]byte, 0, size+1), 'u'), &e2)
		o.channel = b.keys.channel(e.Room)
	}
	if err := b.lane(e.Room).publisher.take(o); err != nil {
		b.stats.Refused.Add(1)
		return fmt.Errorf("publishing to room %q: %w", e.Room, err)
	}
	return nil
}

func (s *stored) route(b *Bus, room string) {
	s.part = partitionOf(room)
	s.meta = b.keys.partition[s.part] + "m:" + room
}

// Signal queues a signal in place of an older one of the same sender, if that
// has not left yet. A bus that is away loses it.
func (b *Bus) Signal(e *bus.Event) error {
	if err := b.ready(e.Room); err != nil {
		return fmt.Errorf("signalling in room %q: %w", e.Room, err)
	}
	e2 := *e
	e2.Kind = bus.Signal
	o := &outgoing{room: e.Room, channel: b.keys.channel(e.Room)}
	o.payload = appendEnvelope(append(make([]byte, 0, 128+len(e.Body)+len(e.Sender.User)), 'u'), &e2)
	b.lane(e.Room).publisher.signal(signalKey{e.Room, e.Sender.Member}, o)
	return nil
}

// Redact goes the way of messages, so that it has its place among them.
func (b *Bus) Redact(ctx context.Context, r *bus.Redaction) (bus.Position, error) {
	at, err := b.redact(ctx, r)
	if err != nil {
		return bus.Position{}, fmt.Errorf("redacting seq %d in room %q: %w", r.Seq, r.Room, err)
	}
	return at, nil
}

func (b *Bus) redact(ctx context.Context, r *bus.Redaction) (bus.Position, error) {
	if err := b.ready(r.Room); err != nil {
		return bus.Position{}, err
	}
	e := &bus.Event{
		Kind: bus.Redacted, Room: r.Room, ID: bus.NewMessageID(), Time: time.Now().UnixMilli(),
		Sender: r.By, Reason: r.Reason, Target: r.Target, TargetSeq: r.Seq,
	}
	answer := make(chan redacted, 1)
	o := &outgoing{
		room: r.Room, id: e.ID, time: e.Time, payload: appendEnvelope(nil, e),
		script: &stored{
			sha: b.scripts.redact.sha, keep: max(1, r.Retention.Keep), life: r.Retention.For.Milliseconds(),
			arg7: string(r.Target[:]), arg8: strconv.FormatUint(r.Seq, 10), redacted: answer,
		},
	}
	o.script.route(b, r.Room)
	if err := b.lane(r.Room).publisher.take(o); err != nil {
		return bus.Position{}, err
	}
	select {
	case a := <-answer:
		return a.position, a.err
	case <-ctx.Done():
		return bus.Position{}, fmt.Errorf("%w: %w", bus.ErrUnknownOutcome, ctx.Err())
	}
}
