package plugins

import "time"

// slotBits are the bits of a call number that name its slot: filter.MaxInFlight
// of them. The rest counts, so that a number does not come again.
const slotBits = 10

// abandoned is how long a slot stays taken by a message whose time was over: the
// plugin is at work on it. After that it is taken for lost.
const abandoned = 30 * time.Second

// slots are the messages that a plugin is at work on. They bound their number. It
// is not safe for concurrent use.
type slots struct {
	list  []slot
	free  []uint16
	count uint64
	taken int // not free

	given []uint64 // numbers of abandoned slots, in order of since
	since []time.Time
}

type slot struct {
	n    uint64 // 0: free
	call *call  // nil: abandoned
}

func newSlots(n int) *slots {
	s := &slots{list: make([]slot, n), free: make([]uint16, n)}
	for i := range n {
		s.free[i] = uint16(n - 1 - i)
	}
	return s
}

// put gives a call a number. There must be a free slot.
func (s *slots) put(c *call) {
	at := s.free[len(s.free)-1]
	s.free = s.free[:len(s.free)-1]
	s.count++
	c.n = s.count<<slotBits | uint64(at)
	c.slots = s
	s.list[at] = slot{c.n, c}
	s.taken++
}

// take frees the slot of a call that was answered. It returns nil when no call of
// this number waits, be it that there was none, or that its time is over.
func (s *slots) take(n uint64) *call {
	at := int(n & (1<<slotBits - 1))
	if n == 0 || at >= len(s.list) || s.list[at].n != n {
		return nil
	}
	c := s.list[at].call
	s.release(at)
	if c != nil {
		c.slots = nil
	}
	return c
}

func (s *slots) release(at int) {
	s.list[at] = slot{}
	s.free = append(s.free, uint16(at))
	s.taken--
}

// abandon notes that nobody waits for a call any more.
func (s *slots) abandon(n uint64) {
	s.list[n&(1<<slotBits-1)].call = nil
	s.given = append(s.given, n)
	s.since = append(s.since, time.Now())
}

// reclaim frees the slots that were abandoned for long, and says how many.
func (s *slots) reclaim(now time.Time) (freed int) {
	for len(s.given) > 0 && now.Sub(s.since[0]) >= abandoned {
		if at := int(s.given[0] & (1<<slotBits - 1)); s.list[at].n == s.given[0] {
			s.release(at)
			freed++
		}
		s.given, s.since = s.given[1:], s.since[1:]
	}
	return freed
}

// calls are those that wait, in the order of their numbers.
func (s *slots) calls() (list []*call) {
	for i := range s.list {
		if c := s.list[i].call; c != nil {
			list = append(list, c)
		}
	}
	return list
}

// forgive frees all abandoned slots at once, where the plugin cannot be at work
// on them any more.
func (s *slots) forgive() {
	for _, n := range s.given {
		if at := int(n & (1<<slotBits - 1)); s.list[at].n == n {
			s.release(at)
		}
	}
	s.given, s.since = nil, nil
}
