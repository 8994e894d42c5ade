package gateway

import (
	"testing"
	"time"
)

func TestABucketHoldsOneSecond(t *testing.T) {
	for _, c := range []struct {
		perSecond float64
		burst     int
		wait      time.Duration // after the burst
	}{
		{0.5, 1, 2 * time.Second},
		{1, 1, time.Second},
		{2.5, 2, 200 * time.Millisecond},
		{10, 10, 100 * time.Millisecond},
		{1000, 1000, time.Millisecond},
	} {
		var b bucket
		now := time.Hour // of quiet holds no more than the first second
		for range 2 {
			for i := range c.burst {
				if wait := b.take(c.perSecond, now); wait != 0 {
					t.Errorf("%v/s: number %d has to wait %v", c.perSecond, i+1, wait)
				}
			}
			for range 2 { // who is refused spends nothing
				if wait := b.take(c.perSecond, now); wait != c.wait {
					t.Errorf("%v/s: after %d, wait %v, want %v", c.perSecond, c.burst, wait, c.wait)
				}
			}
			now += time.Hour
		}
	}
	var b bucket
	for range 1_000_000 {
		if b.take(0, 0) != 0 {
			t.Fatal("no bound, and yet to wait")
		}
	}
}
