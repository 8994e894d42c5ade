package bench

import (
	"math"
	"math/bits"
	"time"
)

// histogram counts durations in buckets that are at most 1/32 wide of what they
// hold: exact enough for percentiles, and nothing is allocated to count.
type histogram struct {
	buckets [subBuckets * (64 - subBits)]int64
	count   int64
	longest time.Duration
}

const (
	subBits    = 5
	subBuckets = 1 << subBits
)

func (h *histogram) add(d time.Duration) {
	d = max(d, 0)
	h.buckets[bucketOf(uint64(d))]++
	h.count++
	h.longest = max(h.longest, d)
}

// bucketOf gives the values below subBuckets a bucket each, and every power of
// two above subBuckets of them.
func bucketOf(v uint64) int {
	if v < subBuckets {
		return int(v)
	}
	e := bits.Len64(v) - 1 - subBits
	return (e+1)*subBuckets + int(v>>e)&(subBuckets-1)
}

// upper is the largest value of a bucket.
func upper(bucket int) uint64 {
	if bucket < subBuckets {
		return uint64(bucket)
	}
	e := bucket/subBuckets - 1
	return uint64(bucket%subBuckets+subBuckets+1)<<e - 1
}

// at is the value that a share of all, 0 to 1, does not exceed; 0 when nothing
// was counted.
func (h *histogram) at(share float64) time.Duration {
	want := max(int64(math.Ceil(share*float64(h.count))), 1)
	for i, n := range h.buckets {
		if want -= n; want <= 0 {
			return min(time.Duration(upper(i)), h.longest)
		}
	}
	return 0
}
