package membus

import (
	"container/heap"
	"time"
)

// alarm calls ring under its shard's lock at a time. The zero alarm with ring
// set is ready; it is not to be copied.
type alarm struct {
	ring func(now time.Time)
	at   time.Time
	slot int // index in the heap plus one; 0: not set
}

func (a *alarm) set() bool { return a.slot != 0 }

// alarms is a heap, the earliest first.
type alarms []*alarm

func (h alarms) Len() int           { return len(h) }
func (h alarms) Less(i, j int) bool { return h[i].at.Before(h[j].at) }

func (h alarms) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].slot, h[j].slot = i+1, j+1
}

func (h *alarms) Push(x any) {
	a := x.(*alarm)
	*h = append(*h, a)
	a.slot = len(*h)
}

func (h *alarms) Pop() any {
	old := *h
	a := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	a.slot = 0
	return a
}

// setAlarm sets or moves an alarm. The shard is locked.
func (s *shard) setAlarm(a *alarm, at time.Time) {
	a.at = at
	if a.set() {
		heap.Fix(&s.alarms, a.slot-1)
	} else {
		heap.Push(&s.alarms, a)
	}
	s.arm()
}

// cancelAlarm takes an alarm back. The timer is left as it is: waking once for
// nothing is cheaper than moving it with every cancelled grace.
func (s *shard) cancelAlarm(a *alarm) {
	if a.set() {
		heap.Remove(&s.alarms, a.slot-1)
	}
}

// arm makes the timer fire no later than the earliest alarm.
func (s *shard) arm() {
	if s.closed || len(s.alarms) == 0 {
		return
	}
	at := s.alarms[0].at
	if !s.due.IsZero() && !at.Before(s.due) {
		return
	}
	s.due = at
	wait := max(0, time.Until(at))
	if s.timer == nil {
		s.timer = time.AfterFunc(wait, s.wake)
	} else {
		s.timer.Reset(wait)
	}
}

// wake rings what is due. A timer that was moved may run it early or twice,
// which finds nothing to do.
func (s *shard) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.due = time.Time{}
	now := time.Now()
	for len(s.alarms) > 0 && !s.alarms[0].at.After(now) {
		heap.Pop(&s.alarms).(*alarm).ring(now)
	}
	s.arm()
}
