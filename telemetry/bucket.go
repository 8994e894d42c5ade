package telemetry

import (
	"math"
	"sync"
	"time"
)

// bucket is a token bucket that holds one second's worth, and one token at
// least. The zero bucket is empty for good.
type bucket struct {
	mu    sync.Mutex
	rate  float64   // tokens a second; guarded by mu
	level float64   // guarded by mu
	last  time.Time // guarded by mu
}

// set changes the rate. A bucket that is set for the first time is full.
func (b *bucket) set(rate float64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rate == 0 {
		b.level = b.size(rate)
	}
	b.rate = rate
	b.level = min(b.level, b.size(rate))
}

func (b *bucket) size(rate float64) float64 {
	if rate <= 0 {
		return 0
	}
	return math.Max(1, rate)
}

// take takes a token if there is one. Times that go back count as none passed.
func (b *bucket) take(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if d := now.Sub(b.last); d > 0 {
		if !b.last.IsZero() {
			b.level = math.Min(b.size(b.rate), b.level+b.rate*d.Seconds())
		}
		b.last = now
	}
	if b.level < 1 {
		return false
	}
	b.level--
	return true
}
