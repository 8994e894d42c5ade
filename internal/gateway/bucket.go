package gateway

import "time"

// bucket bounds the requests of one connection: a token bucket that holds one
// second's worth. It is touched by one goroutine at a time.
type bucket struct {
	tokens float64
	last   time.Time
}

// take spends one token, or tells how long until there is one. perSecond 0
// means no bound.
func (b *bucket) take(perSecond float64, now time.Time) time.Duration {
	if perSecond <= 0 {
		return 0
	}
	full := max(perSecond, 1)
	if b.last.IsZero() {
		b.tokens = full
	} else {
		b.tokens = min(full, b.tokens+now.Sub(b.last).Seconds()*perSecond)
	}
	b.last = now
	if b.tokens < 1 {
		return time.Duration((1 - b.tokens) / perSecond * float64(time.Second))
	}
	b.tokens--
	return 0
}
