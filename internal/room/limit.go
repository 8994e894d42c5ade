package room

import (
	"hash/maphash"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// limiter holds one user's rate in one room: a token bucket in the form of the
// generic cell rate algorithm (ITU-T I.371, annex A), which needs one number:
// the theoretical arrival time of the next message. It is a compare-and-swap,
// not a lock, because all sockets of a user share it.
type limiter struct {
	tat  atomic.Int64 // nanoseconds since the limiters' start
	pins int          // seats that hold it; guarded by the table's lock
	key  limitKey
}

type limitKey struct{ room, user string }

// limiters finds the limiter of a user in a room. It outlives the seat: who
// leaves and joins again does not get a fresh burst. One that is as good as new
// is forgotten, which loses nothing. Who has no seat asks for each message, so
// the table is in parts: no lock is everybody's.
type limiters struct {
	now   func() time.Time
	start time.Time
	seed  maphash.Seed
	parts [shards]limiterTable
}

// limiterTable is one part of limiters.
type limiterTable struct {
	all *limiters
	max int

	mu    sync.Mutex            // taken inside Room.mu
	known map[limitKey]*limiter // guarded by mu
	sweep int                   // size at which the next sweep happens; guarded by mu
}

func newLimiters(maxKept int, now func() time.Time) *limiters {
	if maxKept <= 0 {
		maxKept = 1 << 20
	}
	l := &limiters{now: now, start: now(), seed: maphash.MakeSeed()}
	for i := range l.parts {
		t := &l.parts[i]
		t.all, t.max, t.known = l, max(1, maxKept/shards), make(map[limitKey]*limiter)
		t.sweep = t.next()
	}
	return l
}

func (l *limiters) part(k limitKey) *limiterTable {
	return &l.parts[maphash.Comparable(l.seed, k)%shards]
}

// pin returns the limiter of user in room and keeps it until unpin.
func (l *limiters) pin(room, user string) *limiter {
	k := limitKey{room, user}
	t := l.part(k)
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.known[k]
	if x == nil {
		t.makeRoom()
		x = &limiter{key: k}
		t.known[k] = x
	}
	x.pins++
	return x
}

func (l *limiters) unpin(x *limiter) {
	t := l.part(x.key)
	t.mu.Lock()
	defer t.mu.Unlock()
	if x.pins--; x.pins == 0 && x.tat.Load() <= l.since() {
		delete(t.known, x.key)
	}
}

// makeRoom forgets limiters that are as good as new. When the table is at its
// bound and none is, the unpinned ones go: a bound that held is worth more than
// the rest of a burst. mu is held.
func (t *limiterTable) makeRoom() {
	if len(t.known) < t.sweep {
		return
	}
	now := t.all.since()
	for k, x := range t.known {
		if x.pins == 0 && (x.tat.Load() <= now || len(t.known) >= t.max) {
			delete(t.known, k)
		}
	}
	t.sweep = t.next()
}

// next is the size at which to sweep after this one. mu is held.
func (t *limiterTable) next() int { return max(1024/shards, min(2*len(t.known), t.max)) }

func (l *limiters) since() int64 { return int64(l.now().Sub(l.start)) }

// take spends one message at perSecond with the given burst. It returns 0, or
// how long to wait before the next try. A perSecond of 0 means no limit.
func (l *limiters) take(x *limiter, perSecond float64, burst int) time.Duration {
	if perSecond <= 0 {
		return 0
	}
	every := int64(math.Round(float64(time.Second) / perSecond))
	depth := every * int64(max(burst, 1)-1)
	now := l.since()
	for {
		old := x.tat.Load()
		tat := max(old, now)
		if wait := tat - depth - now; wait > 0 {
			return time.Duration(wait)
		}
		if x.tat.CompareAndSwap(old, tat+every) {
			return 0
		}
	}
}
