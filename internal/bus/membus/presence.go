package membus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"time"

	"github.com/wsrelay/relay/internal/bus"
)

// members is who is in a room.
type members struct {
	byID    map[string]*member
	version uint64

	// order lists members by when they came. One that went leaves a nil behind
	// until as many are nil as not; ranks only grow, so a cursor stays good.
	order []place
	gone  int
	rank  uint64
}

type place struct {
	rank   uint64
	member *member
}

type member struct {
	id       string
	user     []byte
	listed   bool
	announce bool
	rank     uint64
	owners   []*owner // the instances it is present on; never empty
}

// owner is a member's presence on one instance, in grace where its alarm is set.
type owner struct {
	bus     *Bus
	crash   time.Duration // Entry.Grace
	reason  string        // for Left when the grace ends
	expires alarm
}

func (m *member) owner(b *Bus) int {
	for i := range m.owners {
		if m.owners[i].bus == b {
			return i
		}
	}
	return -1
}

// Enter is immediate.
func (b *Bus) Enter(_ context.Context, e *bus.Entry) (*bus.Entered, error) {
	if err := b.begin(); err != nil {
		return nil, fmt.Errorf("entering room %q: %w", e.Room, err)
	}
	defer b.end()
	s := b.broker.shard(e.Room)
	entered, err := s.enter(b, e)
	for errors.Is(err, errCrowded) && b.broker.forgetLongestEmpty() {
		entered, err = s.enter(b, e)
	}
	if err != nil {
		return nil, fmt.Errorf("entering room %q: %w", e.Room, err)
	}
	return entered, nil
}

func (s *shard) enter(b *Bus, e *bus.Entry) (*bus.Entered, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.room(e.Room)
	defer s.tidy(r) // where it was refused
	return r.enter(b, e, time.Now())
}

func (r *room) enter(b *Bus, e *bus.Entry, now time.Time) (*bus.Entered, error) {
	m := r.members.byID[e.Member]
	repeat := e.CreateKey != "" && r.createdBy == key{e.Member, e.CreateKey}
	switch {
	case e.Create == bus.MustCreate && r.exists && !repeat:
		return nil, bus.ErrRoomExists
	case e.Create == bus.MustExist && !r.exists:
		return nil, bus.ErrRoomNotFound
	case m == nil && e.Max > 0 && len(r.members.byID) >= e.Max:
		return nil, bus.ErrRoomFull
	}
	entered := &bus.Entered{Created: !r.exists || (e.Create == bus.MustCreate && repeat), First: m == nil}
	if !r.exists {
		if err := r.create(now); err != nil {
			return nil, err
		}
		if e.Create == bus.MustCreate && e.CreateKey != "" {
			r.createdBy = key{e.Member, e.CreateKey}
		}
	}
	r.idle = e.Idle
	if m == nil {
		m = r.members.add(e.Member)
		r.setOccupied()
	}
	r.members.describe(m, e)
	r.own(m, b, e.Grace)
	if e.Retention.Kept() {
		if r.keep(e.Retention) {
			r.tend(now)
		}
		entered.Position = r.position()
		entered.OldestHistory = r.stream.oldest()
		if e.Resume != nil {
			r.resume(e, entered)
		}
	}
	entered.Members, _ = r.members.page(0, bus.MembersListed)
	entered.Count, entered.Version = len(r.members.byID), r.members.version
	if entered.First {
		r.announce(bus.Joined, m, "", now)
	}
	return entered, nil
}

// own notes the member's presence on b and undoes every grace it has.
func (r *room) own(m *member, b *Bus, crash time.Duration) {
	kept := m.owners[:0]
	for _, o := range m.owners {
		if o.expires.set() {
			r.shard.cancelAlarm(&o.expires)
		} else {
			kept = append(kept, o)
		}
	}
	clear(m.owners[len(kept):])
	m.owners = kept
	i := m.owner(b)
	if i < 0 {
		i = len(m.owners)
		m.owners = append(m.owners, &owner{bus: b})
	}
	m.owners[i].crash = crash
}

// Leave is immediate, or begins the grace period.
func (b *Bus) Leave(_ context.Context, l *bus.Leaving) error {
	if err := b.begin(); err != nil {
		return fmt.Errorf("leaving room %q: %w", l.Room, err)
	}
	defer b.end()
	s := b.broker.shard(l.Room)
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.rooms[l.Room]; r != nil {
		if m := r.members.byID[l.Member]; m != nil {
			r.leave(m, b, l.Grace, l.Reason)
		}
	}
	return nil
}

// leave ends a presence now, or after a grace; a running grace is not drawn out.
func (r *room) leave(m *member, b *Bus, grace time.Duration, reason string) {
	i := m.owner(b)
	if i < 0 {
		return
	}
	o := m.owners[i]
	now := time.Now()
	if grace <= 0 {
		r.shard.cancelAlarm(&o.expires)
		r.disown(m, o, reason, now)
		return
	}
	if o.expires.set() {
		return
	}
	o.reason = reason
	o.expires.ring = func(now time.Time) { r.disown(m, o, o.reason, now) }
	r.shard.setAlarm(&o.expires, now.Add(grace))
}

// disown removes a presence, and the member with its last.
func (r *room) disown(m *member, o *owner, reason string, now time.Time) {
	i := m.owner(o.bus)
	m.owners = slices.Delete(m.owners, i, i+1)
	if len(m.owners) > 0 {
		return
	}
	r.members.remove(m)
	r.announce(bus.Left, m, reason, now)
	if len(r.members.byID) == 0 {
		r.setEmpty(now)
		r.tend(now)
	}
}

// reap gives the members of an instance that is gone the grace they were
// entered with, after what a lease takes to run out.
func (r *room) reap(b *Bus, lease time.Duration) {
	for _, m := range r.members.byID {
		if i := m.owner(b); i >= 0 {
			r.leave(m, b, lease+m.owners[i].crash, "")
		}
	}
}

// announce tells of a member's coming or going, where it is to be told.
func (r *room) announce(kind bus.Kind, m *member, reason string, now time.Time) {
	if !m.announce || !m.listed || len(r.members.byID) > bus.AnnounceMax {
		return
	}
	r.deliver(&bus.Event{
		Kind: kind, Room: r.name, Time: now.UnixMilli(), Reason: reason,
		Sender: bus.Sender{Member: m.id, User: m.user},
		Count:  len(r.members.byID), Version: r.members.version,
	})
}

// Members of a room that does not exist are none.
func (b *Bus) Members(_ context.Context, name, cursor string, limit int) (bus.MemberPage, error) {
	if err := b.begin(); err != nil {
		return bus.MemberPage{}, fmt.Errorf("listing members of room %q: %w", name, err)
	}
	defer b.end()
	// A cursor that is none of ours begins anew.
	after, _ := strconv.ParseUint(cursor, 10, 64)
	s := b.broker.shard(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.rooms[name]
	if r == nil {
		return bus.MemberPage{}, nil
	}
	page := bus.MemberPage{Count: len(r.members.byID), Version: r.members.version}
	var next uint64
	if page.Members, next = r.members.page(after, limit); next != 0 {
		page.Cursor = strconv.FormatUint(next, 10)
	}
	return page, nil
}

func (ms *members) add(id string) *member {
	if ms.byID == nil {
		ms.byID = make(map[string]*member)
	}
	m := &member{id: id}
	ms.byID[id] = m
	ms.version++
	return m
}

// describe takes over what the latest Enter says of a member.
func (ms *members) describe(m *member, e *bus.Entry) {
	m.user, m.announce = e.User, e.Announce
	if e.Presence && !m.listed {
		ms.rank++
		m.rank = ms.rank
		ms.order = append(ms.order, place{m.rank, m})
	} else if !e.Presence {
		ms.unlist(m)
	}
	m.listed = e.Presence
}

func (ms *members) remove(m *member) {
	delete(ms.byID, m.id)
	ms.unlist(m)
	ms.version++
}

// unlist takes a member out of the order; m.listed is the caller's.
func (ms *members) unlist(m *member) {
	if !m.listed {
		return
	}
	ms.order[ms.after(m.rank-1)].member = nil
	if ms.gone++; ms.gone*2 <= len(ms.order) {
		return
	}
	kept := make([]place, 0, len(ms.order)-ms.gone)
	for _, p := range ms.order {
		if p.member != nil {
			kept = append(kept, p)
		}
	}
	ms.order, ms.gone = kept, 0
}

// after is the index in order of the first rank above the given one.
func (ms *members) after(rank uint64) int {
	return sort.Search(len(ms.order), func(i int) bool { return ms.order[i].rank > rank })
}

// page lists members after a rank; next is the rank to go on from, 0 at the end.
func (ms *members) page(rank uint64, limit int) (users [][]byte, next uint64) {
	users = make([][]byte, 0, max(0, min(limit, len(ms.order)-ms.gone)))
	for _, p := range ms.order[ms.after(rank):] {
		if p.member == nil {
			continue
		}
		if len(users) >= limit {
			return users, rank
		}
		users = append(users, p.member.user)
		rank = p.rank
	}
	return users, 0
}
