package bus

import (
	"cmp"
	"container/heap"
	"hash/maphash"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// SanctionTable is what an instance holds of the sanctions in force. Reading it
// takes no lock. The zero table is empty.
//
// Times are milliseconds since the Unix epoch, of the store's clock. A sanction
// that has ended is told to nobody, and kept until Purge.
type SanctionTable struct {
	count   atomic.Int64
	members index
	addrs   index

	mu   sync.Mutex
	byID map[string]*held // guarded by mu, like all below
	ends ends
}

// held is a sanction with its place among the ends.
type held struct {
	*Sanction
	slot int // in ends, -1 for one without an end
}

// Empty reports whether nothing is held: one atomic load.
func (t *SanctionTable) Empty() bool { return t.count.Load() == 0 }

// Len is how many are held, those that ended and were not purged included.
func (t *SanctionTable) Len() int { return int(t.count.Load()) }

// InForce is Bus.InForce at a time.
func (t *SanctionTable) InForce(member, ip, room string, now int64) []*Sanction {
	if t.Empty() {
		return nil
	}
	var list []*Sanction
	for _, s := range t.members.find(member) {
		if s.holds(room, now) {
			list = append(list, s)
		}
	}
	for _, s := range t.addrs.find(ip) {
		if s.holds(room, now) && (s.Member != member || member == "") { // else it is in the list
			list = append(list, s)
		}
	}
	return list
}

func (s *Sanction) holds(room string, now int64) bool {
	return (s.Room == "" || s.Room == room) && !s.Ended(now)
}

// Add holds a sanction, unless there is one under its id.
func (t *SanctionTable) Add(s *Sanction) (added bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byID == nil {
		t.byID = make(map[string]*held)
	}
	if t.byID[s.ID] != nil {
		return false
	}
	h := &held{s, -1}
	t.byID[s.ID] = h
	if s.Until != 0 {
		heap.Push(&t.ends, h)
	}
	t.members.add(s.Member, s)
	t.addrs.add(s.IP, s)
	t.count.Add(1)
	return true
}

// Find is the sanction under an id, or nil.
func (t *SanctionTable) Find(id string) *Sanction {
	t.mu.Lock()
	defer t.mu.Unlock()
	if h := t.byID[id]; h != nil {
		return h.Sanction
	}
	return nil
}

// Remove takes out the sanction under an id and returns it, or nil.
func (t *SanctionTable) Remove(id string) *Sanction {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.byID[id]
	if h == nil {
		return nil
	}
	if h.slot >= 0 {
		heap.Remove(&t.ends, h.slot)
	}
	t.remove(h)
	return h.Sanction
}

// Purge takes out what has ended.
func (t *SanctionTable) Purge(now int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.ends) > 0 && t.ends[0].Ended(now) {
		t.remove(heap.Pop(&t.ends).(*held))
	}
}

func (t *SanctionTable) remove(h *held) {
	delete(t.byID, h.ID)
	t.members.remove(h.Member, h.Sanction)
	t.addrs.remove(h.IP, h.Sanction)
	t.count.Add(-1)
}

// index finds sanctions by a text. Readers take no lock: a change replaces the
// map that it is in, of which there are many, so that each is small.
type index [2048]atomic.Pointer[map[string][]*Sanction]

var indexSeed = maphash.MakeSeed()

func (x *index) part(key string) *atomic.Pointer[map[string][]*Sanction] {
	return &x[maphash.String(indexSeed, key)%uint64(len(x))]
}

func (x *index) find(key string) []*Sanction {
	if key == "" {
		return nil
	}
	if m := x.part(key).Load(); m != nil {
		return (*m)[key]
	}
	return nil
}

// change replaces what is under a key. Callers see to it that there is one
// change at a time.
func (x *index) change(key string, f func([]*Sanction) []*Sanction) {
	if key == "" {
		return
	}
	part := x.part(key)
	var changed map[string][]*Sanction
	if m := part.Load(); m != nil {
		changed = maps.Clone(*m)
	} else {
		changed = make(map[string][]*Sanction)
	}
	if changed[key] = f(changed[key]); len(changed[key]) == 0 {
		delete(changed, key)
	}
	if len(changed) == 0 {
		part.Store(nil)
		return
	}
	part.Store(&changed)
}

func (x *index) add(key string, s *Sanction) {
	x.change(key, func(list []*Sanction) []*Sanction { return append(slices.Clip(list), s) })
}

func (x *index) remove(key string, s *Sanction) {
	x.change(key, func(list []*Sanction) []*Sanction {
		return slices.DeleteFunc(slices.Clone(list), func(other *Sanction) bool { return other == s })
	})
}

// IDs lists what is held, in no order.
func (t *SanctionTable) IDs() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	ids := make([]string, 0, len(t.byID))
	for id := range t.byID {
		ids = append(ids, id)
	}
	return ids
}

// Page lists what is in force at a time, those issued first come first. A cursor
// that is none begins anew.
func (t *SanctionTable) Page(cursor string, limit int, now int64) SanctionPage {
	at, id, _ := strings.Cut(cursor, "-")
	issued, err := strconv.ParseInt(at, 10, 64)
	after := &Sanction{Issued: issued, ID: id}
	if err != nil {
		after = nil
	}
	limit = max(limit, 1)
	page := SanctionPage{}
	var first last // the limit+1 that come first, so that it is known whether more do
	for _, s := range t.all() {
		if s.Ended(now) {
			continue
		}
		page.Count++
		if after != nil && order(s, after) <= 0 {
			continue
		}
		heap.Push(&first, s)
		if len(first) > limit+1 {
			heap.Pop(&first)
		}
	}
	slices.SortFunc(first, order)
	page.Sanctions = first
	if len(first) > limit {
		page.Sanctions = first[:limit:limit]
		end := first[limit-1]
		page.Cursor = strconv.FormatInt(end.Issued, 10) + "-" + end.ID
	}
	return page
}

// all lists what is held, so that nobody waits for who looks through it.
func (t *SanctionTable) all() []*Sanction {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := make([]*Sanction, 0, len(t.byID))
	for _, h := range t.byID {
		list = append(list, h.Sanction)
	}
	return list
}

func order(a, b *Sanction) int {
	return cmp.Or(cmp.Compare(a.Issued, b.Issued), strings.Compare(a.ID, b.ID))
}

// last is a heap of sanctions, the one that comes last on top.
type last []*Sanction

func (h last) Len() int           { return len(h) }
func (h last) Less(i, k int) bool { return order(h[i], h[k]) > 0 }
func (h last) Swap(i, k int)      { h[i], h[k] = h[k], h[i] }
func (h *last) Push(x any)        { *h = append(*h, x.(*Sanction)) }
func (h *last) Pop() any          { return pop((*[]*Sanction)(h)) }

// ends is a heap of what has an end, the earliest on top.
type ends []*held

func (h ends) Len() int           { return len(h) }
func (h ends) Less(i, k int) bool { return h[i].Until < h[k].Until }

func (h ends) Swap(i, k int) {
	h[i], h[k] = h[k], h[i]
	h[i].slot, h[k].slot = i, k
}

func (h *ends) Push(x any) {
	x.(*held).slot = len(*h)
	*h = append(*h, x.(*held))
}

func (h *ends) Pop() any {
	top := pop((*[]*held)(h))
	top.slot = -1
	return top
}

func pop[T any](list *[]*T) *T {
	old := *list
	x := old[len(old)-1]
	old[len(old)-1] = nil
	*list = old[:len(old)-1]
	return x
}
