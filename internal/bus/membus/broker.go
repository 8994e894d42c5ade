// Package membus is the embedded bus: the contract of package bus kept in the
// memory of one process. It is what relay runs on when no Redis is configured,
// and in tests several instances share one Broker as they would share a Redis.
//
// A room belongs to one of 64 shards by the hash of its name, and the shard's
// lock is the order of its rooms: numbering, storing and delivering an event
// are one step under it. There is no queue and no goroutine; timers (grace,
// idle, history) are one [time.AfterFunc] per shard, so virtual time drives
// everything in tests.
//
// What callers must know beyond the contract:
//
//   - Publish, Signal, Enter, Leave and Redact call Handler.Deliver of every
//     subscribed instance on the calling goroutine before they return, Sanction
//     and Lift the Handler of every instance. A caller must hold no lock that
//     the Handler takes.
//   - Sanctions are kept in memory like everything else: a restart forgets them.
//   - Receipt.Published is called on the goroutine of Publish after the message
//     was delivered and outside the shard's lock, so it may use the Bus, Close
//     excepted. Again, hold no lock across Publish that Published takes.
//   - A message's slices are handed over, not copied: they are delivered and
//     stored as they are and must not be written to after Publish.
//   - Contexts are not consulted: nothing here waits, Close for receipts excepted.
package membus

import (
	"container/list"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"
)

const shardCount = 64 // a power of two

// Options bound what a Broker keeps in memory. Zero fields take the default.
type Options struct {
	// MaxHistoryBytes bounds all rooms' history together; default 256 MiB. Above
	// it the rooms published to longest ago lose the older half of theirs, which
	// shows as Entered.OldestHistory and Recovered.
	MaxHistoryBytes int64
	// MaxKeys bounds the idempotency keys remembered; default 1,048,576. When
	// they are used up, a message with a new key is refused as unavailable:
	// forgetting one would break the promise made for it.
	MaxKeys int64
	// MaxRooms bounds the rooms that exist; default 1,048,576. At the bound a
	// new room takes the place of the one that has been empty longest; where
	// all are occupied, it is refused as unavailable.
	MaxRooms int64
	// MaxSanctions bounds the sanctions in force; default 100,000. More are
	// refused with bus.ErrTooManySanctions.
	MaxSanctions int
	// Lease is how long the members of an instance that closed without leaving
	// are kept before their own grace begins; default 10 s. It matters only
	// where several instances share a Broker.
	Lease time.Duration
}

func (o Options) withDefaults() Options {
	if o.MaxHistoryBytes <= 0 {
		o.MaxHistoryBytes = 256 << 20
	}
	if o.MaxKeys <= 0 {
		o.MaxKeys = 1 << 20
	}
	if o.MaxRooms <= 0 {
		o.MaxRooms = 1 << 20
	}
	if o.MaxSanctions <= 0 {
		o.MaxSanctions = 100_000
	}
	if o.Lease <= 0 {
		o.Lease = 10 * time.Second
	}
	return o
}

// Broker is the state that instances share: what Redis is to redisbus.
type Broker struct {
	opts   Options
	seed   maphash.Seed
	shards [shardCount]shard

	sanctions sanctions

	historyBytes atomic.Int64
	keys         atomic.Int64
	rooms        atomic.Int64
}

// NewBroker makes an empty Broker. Close it when its last instance is closed.
func NewBroker(o Options) *Broker {
	b := &Broker{opts: o.withDefaults(), seed: maphash.MakeSeed()}
	for i := range b.shards {
		b.shards[i].init(b)
	}
	return b
}

// Instance adds an instance, to be started.
func (b *Broker) Instance() *Bus {
	return &Bus{broker: b, drained: make(chan struct{})}
}

// Close stops all timers: no grace ends and no room is forgotten after it.
// Idempotent.
func (b *Broker) Close() {
	for i := range b.shards {
		b.shards[i].close()
	}
}

func (b *Broker) shard(room string) *shard {
	return &b.shards[maphash.String(b.seed, room)&(shardCount-1)]
}

// trim brings the stored history under its bound, taking from the room that
// was published to longest ago over all shards. Called without any lock.
func (b *Broker) trim() {
	for b.historyBytes.Load() > b.opts.MaxHistoryBytes {
		var oldest *shard
		age := int64(never)
		for i := range b.shards {
			if at := b.shards[i].stalest.Load(); at < age {
				oldest, age = &b.shards[i], at
			}
		}
		if oldest == nil {
			return // others have trimmed it all meanwhile
		}
		oldest.trimStalest()
	}
}

// forgetLongestEmpty makes place for a new room, if a room is empty. Called
// without any lock.
func (b *Broker) forgetLongestEmpty() bool {
	var longest *shard
	since := int64(never)
	for i := range b.shards {
		if at := b.shards[i].longestEmpty.Load(); at < since {
			longest, since = &b.shards[i], at
		}
	}
	if longest == nil {
		return false
	}
	longest.mu.Lock()
	defer longest.mu.Unlock()
	if front := longest.empty.Front(); front != nil {
		front.Value.(*room).forget()
	}
	return true // or someone was faster, which is as good
}

// shard holds the rooms of one hash value. Its lock is their order, and is
// held while an event is delivered. No two shards are locked at once.
type shard struct {
	broker *Broker

	// When the front of streams was published to, and since when that of empty
	// is: Unix nanoseconds, or never. Written under mu, read without.
	stalest      atomic.Int64
	longestEmpty atomic.Int64

	mu      sync.Mutex
	closed  bool
	rooms   map[string]*room
	streams list.List // *room with history, the one published to longest ago first
	empty   list.List // *room that exists without members, longest empty first
	alarms  alarms
	timer   *time.Timer
	due     time.Time // when timer fires; zero: not set
}

const never = 1<<63 - 1

func (s *shard) init(b *Broker) {
	s.broker = b
	s.rooms = make(map[string]*room)
	s.stalest.Store(never)
	s.longestEmpty.Store(never)
}

// room finds the room, or makes a record of it that does not yet exist in the
// contract's sense. Callers end with tidy.
func (s *shard) room(name string) *room {
	r := s.rooms[name]
	if r == nil {
		r = &room{shard: s, name: name}
		r.tending.ring = r.tend
		s.rooms[name] = r
	}
	return r
}

// tidy drops the record of a room that neither exists nor has subscribers nor
// keys to remember.
func (s *shard) tidy(r *room) {
	if !r.exists && len(r.subs) == 0 && r.keys.len() == 0 {
		s.cancelAlarm(&r.tending)
		delete(s.rooms, r.name)
	}
}

// trimStalest drops the older half of the history of the room published to
// longest ago.
func (s *shard) trimStalest() {
	s.mu.Lock()
	defer s.mu.Unlock()
	front := s.streams.Front()
	if front == nil {
		return
	}
	r := front.Value.(*room)
	r.dropOldest((r.stream.n + 1) / 2)
}

// restampStreams and restampEmpty tell the Broker of a new front.
func (s *shard) restampStreams() {
	at := int64(never)
	if front := s.streams.Front(); front != nil {
		at = front.Value.(*room).published.UnixNano()
	}
	s.stalest.Store(at)
}

func (s *shard) restampEmpty() {
	at := int64(never)
	if front := s.empty.Front(); front != nil {
		at = front.Value.(*room).emptied.UnixNano()
	}
	s.longestEmpty.Store(at)
}

// close stops the timer. Holding the lock joins a running wake; one that comes
// later sees closed.
func (s *shard) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.timer != nil {
		s.timer.Stop()
	}
}
