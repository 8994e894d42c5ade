package redisbus

import (
	"context"
	"sync"
	"time"

	"github.com/wsrelay/relay/internal/bus"
)

// roster is what this instance has told Redis about presence: who it put into
// rooms, to put them back after a flush, and which leaves it still owes.
type roster struct {
	mu    sync.Mutex
	rooms map[string]*roll
}

// roll is the members of one room.
type roll struct {
	room    string
	part    int // partition
	members map[string]*record
	terms   *terms // of the last who entered
}

// record is one member of one room. There is one for every member of every room
// that is present from here, so it is kept small.
type record struct {
	roll   *roll
	member string

	// Guarded by the roster.
	busy    bool    // somebody has the turn: talks to Redis about this member
	waiting *waiter // for the turn, the first; few at a time

	// Written by who has the turn, under the roster's lock.
	present presence     // as last entered
	inc     string       // the incarnation that owns the presence
	owed    *bus.Leaving // a leave that did not get through
}

// waiter waits for a turn.
type waiter struct {
	turn chan struct{} // closed to hand it over
	next *waiter
}

// presence is what of an Entry is needed to put a member back.
type presence struct {
	user  []byte
	terms *terms // nil: not present from here
}

// terms are what the members of a room have in common, unless its policy has
// changed meanwhile.
type terms struct {
	listed, announce bool
	retention        bus.Retention
	idle, grace      time.Duration
}

func (p presence) here() bool { return p.terms != nil }

func (p presence) entry(room, member string) *bus.Entry {
	t := p.terms
	return &bus.Entry{
		Room: room, Member: member, User: p.user, Presence: t.listed, Announce: t.announce,
		Retention: t.retention, Idle: t.idle, Grace: t.grace,
	}
}

func (ro *roster) init() { ro.rooms = make(map[string]*roll) }

// presence is that of a member who enters. The caller has the turn.
func (ro *roster) presence(rec *record, e *bus.Entry) presence {
	t := terms{e.Presence, e.Announce, e.Retention, e.Idle, e.Grace}
	ro.mu.Lock()
	defer ro.mu.Unlock()
	if l := rec.roll; l.terms == nil || *l.terms != t {
		l.terms = &t
	}
	return presence{e.User, rec.roll.terms}
}

// take waits for a turn with a member. Give it back with release.
func (ro *roster) take(ctx context.Context, room, member string) (*record, error) {
	ro.mu.Lock()
	l := ro.rooms[room]
	if l == nil {
		l = &roll{room: room, part: partitionOf(room), members: make(map[string]*record)}
		ro.rooms[room] = l
	}
	rec := l.members[member]
	if rec == nil {
		rec = &record{roll: l, member: member}
		l.members[member] = rec
	}
	if !rec.busy {
		rec.busy = true
		ro.mu.Unlock()
		return rec, nil
	}
	w := &waiter{turn: make(chan struct{})}
	*rec.place(nil) = w
	ro.mu.Unlock()
	select {
	case <-w.turn:
		return rec, nil
	case <-ctx.Done():
	}
	ro.mu.Lock()
	at := rec.place(w)
	waits := *at == w
	if waits {
		*at = w.next
	}
	ro.mu.Unlock()
	if !waits { // it was handed over in the same moment
		ro.release(rec)
	}
	return nil, unavailable(ctx.Err())
}

// place is where w is linked into the line, or its end. The roster is locked.
func (rec *record) place(w *waiter) **waiter {
	at := &rec.waiting
	for *at != nil && *at != w {
		at = &(*at).next
	}
	return at
}

// release hands the turn over, and forgets a record that says nothing.
func (ro *roster) release(rec *record) {
	ro.mu.Lock()
	defer ro.mu.Unlock()
	if w := rec.waiting; w != nil {
		rec.waiting = w.next
		close(w.turn)
		return
	}
	rec.busy = false
	if rec.present.here() || rec.owed != nil {
		return
	}
	l := rec.roll
	delete(l.members, rec.member)
	if len(l.members) == 0 {
		delete(ro.rooms, l.room)
	}
}

// set notes what is so now. The caller has the turn.
func (ro *roster) set(rec *record, present presence, inc string, owed *bus.Leaving) {
	ro.mu.Lock()
	defer ro.mu.Unlock()
	rec.present, rec.inc, rec.owed = present, inc, owed
}

// members of a room by their ids. The roster is locked.
func (ro *roster) members(room string) map[string]*record {
	if l := ro.rooms[room]; l != nil {
		return l.members
	}
	return nil
}

// listed reports whether the room has members here that are shown a list.
func (ro *roster) listed(room string) bool {
	ro.mu.Lock()
	defer ro.mu.Unlock()
	for _, rec := range ro.members(room) {
		if rec.present.here() && rec.present.terms.listed {
			return true
		}
	}
	return false
}

// stays reports that the member is present from here, as far as is known.
func (rec *record) stays() bool { return rec.present.here() && rec.owed == nil }

// settled reports that Redis was told so, and nothing about the member is on its
// way. The roster is locked.
func (rec *record) settled() bool { return rec.stays() && !rec.busy }

// here counts the members of a room that are present from here.
func (ro *roster) here(room string) (n int) {
	ro.mu.Lock()
	defer ro.mu.Unlock()
	for _, rec := range ro.members(room) {
		if rec.settled() {
			n++
		}
	}
	return n
}

// owned lists an incarnation's members about whom nothing is on its way, by their
// partitions.
func (ro *roster) owned(inc string) (list [partitions][]who) {
	ro.mu.Lock()
	defer ro.mu.Unlock()
	for _, l := range ro.rooms {
		for _, rec := range l.members {
			if rec.settled() && rec.inc == inc {
				list[l.part] = append(list[l.part], who{l.room, rec.member})
			}
		}
	}
	return list
}

// knows reports whether there is a record of the member.
func (ro *roster) knows(room, member string) bool {
	ro.mu.Lock()
	defer ro.mu.Unlock()
	return ro.members(room)[member] != nil
}

// who identifies a record without holding it.
type who struct{ room, member string }

// pick lists those for whom f holds.
func (ro *roster) pick(f func(*record) bool) (list []who) {
	ro.mu.Lock()
	defer ro.mu.Unlock()
	for _, l := range ro.rooms {
		for _, rec := range l.members {
			if f(rec) {
				list = append(list, who{rec.roll.room, rec.member})
			}
		}
	}
	return list
}

// witness is one member that is present in a room from here, to be looked for in
// Redis: where it is missing, others are, and the audit finds out who.
type witness struct {
	owned, place  string // the set of what its incarnation owns, and its name in there
	graces, grace string // likewise, of those whose grace is running
	member        string
}

func (b *Bus) witness(room string) (w witness, ok bool) {
	ro := &b.roster
	ro.mu.Lock()
	defer ro.mu.Unlock()
	for _, rec := range ro.members(room) {
		if rec.settled() {
			part, place := rec.roll.part, placeOf(room, rec.member)
			return witness{b.keys.owned(part, rec.inc), place, b.keys.partition[part] + "g", rec.inc + ":" + place, rec.member}, true
		}
	}
	return w, false
}
