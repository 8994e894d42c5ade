package membus

import (
	"container/list"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/wsrelay/relay/internal/bus"
)

// room is what the broker knows of a room; guarded by its shard's lock. A
// record without exists only carries subscriptions.
type room struct {
	shard *shard
	name  string
	subs  []sub

	exists    bool
	createdBy key    // member and Entry.CreateKey; zero where neither was given
	epoch     string // set once the room keeps history
	stream    stream
	keys      keys

	published time.Time     // last message with history
	keepFor   time.Duration // of the latest retention
	idle      time.Duration // of the latest Entry
	emptied   time.Time     // when the last member went, or the room began without one
	tending   alarm         // idle, history and keys
	inStreams *list.Element // of shard.streams; nil: holds no history
	inEmpty   *list.Element // of shard.empty; nil: has members

	members members
}

// sub is one instance's subscription.
type sub struct {
	bus   *Bus
	count int
	last  bus.Position // of what it was last told, to notice a new epoch
}

func (r *room) sub(b *Bus) int {
	for i := range r.subs {
		if r.subs[i].bus == b {
			return i
		}
	}
	return -1
}

func (r *room) position() bus.Position {
	if r.epoch == "" {
		return bus.Position{}
	}
	return bus.Position{Epoch: r.epoch, Seq: r.stream.last}
}

// errCrowded asks for forgetLongestEmpty and another try.
var errCrowded = fmt.Errorf("%w: no more rooms are kept in memory", bus.ErrUnavailable)

// create makes the room exist, without members.
func (r *room) create(now time.Time) error {
	b := r.shard.broker
	if b.rooms.Add(1) > b.opts.MaxRooms {
		b.rooms.Add(-1)
		return errCrowded
	}
	r.exists = true
	r.setEmpty(now)
	return nil
}

// keep makes the room one with history. changed tells that what is stored now
// lives longer or shorter, so that the room wants tending.
func (r *room) keep(retention bus.Retention) (changed bool) {
	if r.epoch == "" {
		r.epoch = rand.Text()
	}
	changed = r.keepFor != retention.For
	r.keepFor = retention.For
	return changed
}

func (r *room) setEmpty(now time.Time) {
	r.emptied = now
	r.inEmpty = r.shard.empty.PushBack(r)
	r.shard.restampEmpty()
}

func (r *room) setOccupied() {
	if r.inEmpty != nil {
		r.shard.empty.Remove(r.inEmpty)
		r.inEmpty = nil
		r.shard.restampEmpty()
	}
}

// forget ends an empty room: its stream and epoch are gone. Its idempotency
// keys keep their time: their promise was not tied to anyone staying.
func (r *room) forget() {
	r.dropOldest(r.stream.n)
	r.shard.broker.rooms.Add(-1)
	r.setOccupied()
	r.exists, r.epoch, r.idle, r.keepFor, r.published = false, "", 0, 0, time.Time{}
	r.stream, r.members, r.createdBy = stream{}, members{}, key{}
	r.shard.tidy(r)
}

// tend does what is due in the room and sets the alarm for what comes next. It
// is called at changes that may bring the next deadline forward, and by the
// alarm; a publish only moves deadlines back, which the alarm finds out.
func (r *room) tend(now time.Time) {
	var next time.Time
	sooner := func(at time.Time) {
		if next.IsZero() || at.Before(next) {
			next = at
		}
	}
	if r.inEmpty != nil {
		if at := r.forgetAt(); at.After(now) {
			sooner(at)
		} else {
			r.forget()
		}
	}
	if r.stream.n > 0 && r.keepFor > 0 {
		at := r.published.Add(r.keepFor)
		if !at.After(now) {
			r.dropOldest(r.stream.n)
		} else {
			sooner(at)
		}
	}
	r.shard.broker.keys.Add(-int64(r.keys.expire(now)))
	if at, some := r.keys.next(); some {
		sooner(at)
	}
	if !next.IsZero() {
		r.shard.setAlarm(&r.tending, next)
	}
	r.shard.tidy(r)
}

// forgetAt is when the empty room is to be forgotten: idle after its last
// member, but not before its history has run out. History without an age counts
// from its last message as the room does from its last member, so that a message
// to an empty room is there for who comes next.
func (r *room) forgetAt() time.Time {
	at := r.emptied.Add(r.idle)
	if r.published.IsZero() {
		return at
	}
	kept := r.keepFor
	if kept == 0 {
		kept = max(r.idle, bus.KeyTTL)
	}
	if until := r.published.Add(kept); until.After(at) {
		return until
	}
	return at
}

// deliver hands an event without a place in the stream to all subscribers.
func (s *shard) deliver(e *bus.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.rooms[e.Room]; r != nil {
		r.deliver(e)
	}
}

func (r *room) deliver(e *bus.Event) {
	for i := range r.subs {
		sub := &r.subs[i]
		h := *sub.bus.handler.Load()
		if e.Sequenced() {
			// Only a room that was forgotten begins a new epoch here.
			if sub.last.Epoch != e.Epoch && sub.last.Epoch != "" {
				h.Deliver(&bus.Event{
					Kind: bus.Notice, Room: r.name, Notice: bus.NoticeEpoch,
					Position: bus.Position{Epoch: e.Epoch}, To: sub.last.Seq, Anew: true,
				})
			}
			sub.last = e.Position
		}
		h.Deliver(e)
	}
}
