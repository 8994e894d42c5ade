package room

import (
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
// is forgotten, which loses nothing.
type limiters struct {
	now   func() time.Time
	start time.Time
	max   int

	mu    sync.Mutex            // taken inside Room.mu
	table map[limitKey]*limiter // guarded by mu
	sweep int                   // table size at which the next sweep happens; guarded by mu
}

func newLimiters(maxKept int, now func() time.Time) *limiters {
	if maxKept <= 0 {
		maxKept = 1 << 20
	}
	return &limiters{now: now, start: now(), max: maxKept, table: make(map[limitKey]*limiter), sweep: 1024}
}

// pin returns the limiter of user in room and keeps it until unpin.
func (l *limiters) pin(room, user string) *limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := limitKey{room, user}
	x := l.table[k]
	if x == nil {
		l.makeRoom()
		x = &limiter{key: k}
		l.table[k] = x
	}
	x.pins++
	return x
}

func (l *limiters) unpin(x *limiter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if x.pins--; x.pins == 0 && x.tat.Load() <= l.since() {
		delete(l.table, x.key)
	}
}

// makeRoom forgets limiters that are as good as new. When the table is at its
// bound and none is, the unpinned ones go: a bound that held is worth more than
// the rest of a burst. mu is held.
func (l *limiters) makeRoom() {
	if len(l.table) < l.sweep {
		return
	}
	now := l.since()
	for k, x := range l.table {
		if x.pins == 0 && (x.tat.Load() <= now || len(l.table) >= l.max) {
			delete(l.table, k)
		}
	}
	l.sweep = max(1024, min(2*len(l.table), l.max))
}

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
