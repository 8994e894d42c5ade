package gateway

import "time"

// bucket bounds the requests of one connection: a token bucket that holds one
// second's worth, kept as the time at which it will be full again. It is touched
// by one goroutine at a time.
type bucket struct {
	full time.Duration // on the clock of whoever calls take
}

// take spends one token, or tells how long until there is one. perSecond 0
// means no bound.
func (b *bucket) take(perSecond float64, now time.Duration) time.Duration {
	if perSecond <= 0 {
		return 0
	}
	token := time.Duration(float64(time.Second) / perSecond)
	full := max(b.full, now) + token
	if wait := full - now - max(token, time.Second); wait > 0 {
		return wait
	}
	b.full = full
	return 0
}
