package redisbus

import (
	"sync/atomic"
	"time"
)

// Stats are running totals and last values, to be read by metrics at any time.
type Stats struct {
	Published  atomic.Int64 // messages stored or taken
	Pipelines  atomic.Int64 // round trips that carried them
	Refused    atomic.Int64 // messages refused: queue full or Redis away
	Resent     atomic.Int64 // messages sent again under their number
	Unknown    atomic.Int64 // messages given up with their outcome unknown
	Received   atomic.Int64 // frames that came over pub/sub
	Repeated   atomic.Int64 // of them, sequenced ones that had been delivered
	Foreign    atomic.Int64 // of them, ones that could not be read
	Healed     atomic.Int64 // events read back from streams
	Lost       atomic.Int64 // events told as lost
	Gaps       atomic.Int64 // gap notices to plain rooms
	Epochs     atomic.Int64 // new epochs told
	Dropped    atomic.Int64 // held events let go because too many were held
	Signals    atomic.Int64 // signals replaced by newer ones, or dropped
	Reconnects atomic.Int64 // connections replaced after a failure
	Errors     atomic.Int64 // commands that failed for another reason than the caller's
	Reaped     atomic.Int64 // incarnations of others found dead
	Reborn     atomic.Int64 // times this instance found its lease gone
	Missing    atomic.Int64 // members put back that Redis had lost
	Leftover   atomic.Int64 // members taken out who had left, and were in Redis still

	probe atomic.Int64
}

// RoundTrip is how long the last probe took to come back over pub/sub.
func (s *Stats) RoundTrip() time.Duration { return time.Duration(s.probe.Load()) }
