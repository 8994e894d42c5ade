package redisbus

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/wsrelay/relay/internal/bus"
)

// roster is what this instance has told Redis about presence: who it put into
// rooms, to put them back after a flush, and which leaves it still owes.
type roster struct {
	mu    sync.Mutex
	rooms map[string]map[string]*record // by room and member
}

// record is one member of one room. There is one for every member of every room
// that is present from here, so it is kept small.
type record struct {
	room, member string

	// Guarded by the roster.
	busy    bool            // somebody has the turn: talks to Redis about this member
	waiting []chan struct{} // for the turn, in order; closed to hand it over

	// Written by who has the turn, under the roster's lock.
	present *presence    // as last entered; nil: not present from here
	inc     string       // the incarnation that owns the presence
	owed    *bus.Leaving // a leave that did not get through
}

// presence is what of an Entry is needed to put a member back.
type presence struct {
	user             []byte
	listed, announce bool
	retention        bus.Retention
	idle, grace      time.Duration
}

func presenceOf(e *bus.Entry) *presence {
	return &presence{e.User, e.Presence, e.Announce, e.Retention, e.Idle, e.Grace}
}

func (p *presence) entry(room, member string) *bus.Entry {
	return &bus.Entry{
		Room: room, Member: member, User: p.user, Presence: p.listed, Announce: p.announce,
		Retention: p.retention, Idle: p.idle, Grace: p.grace,
	}
}

func (ro *roster) init() { ro.rooms = make(map[string]map[string]*record) }

// take waits for a turn with a member. Give it back with release.
func (ro *roster) take(ctx context.Context, room, member string) (*record, error) {
	ro.mu.Lock()
	members := ro.rooms[room]
	if members == nil {
		members = make(map[string]*record)
		ro.rooms[room] = members
	}
	rec := members[member]
	if rec == nil {
		rec = &record{room: room, member: member}
		members[member] = rec
	}
	if !rec.busy {
		rec.busy = true
		ro.mu.Unlock()
		return rec, nil
	}
	turn := make(chan struct{})
	rec.waiting = append(rec.waiting, turn)
	ro.mu.Unlock()
	select {
	case <-turn:
		return rec, nil
	case <-ctx.Done():
	}
	ro.mu.Lock()
	i := slices.Index(rec.waiting, turn)
	if i >= 0 {
		rec.waiting = slices.Delete(rec.waiting, i, i+1)
	}
	ro.mu.Unlock()
	if i < 0 { // it was handed over in the same moment
		ro.release(rec)
	}
	return nil, unavailable(ctx.Err())
}

// release hands the turn over, and forgets a record that says nothing.
func (ro *roster) release(rec *record) {
	ro.mu.Lock()
	defer ro.mu.Unlock()
	if len(rec.waiting) > 0 {
		close(rec.waiting[0])
		if rec.waiting = rec.waiting[1:]; len(rec.waiting) == 0 {
			rec.waiting = nil
		}
		return
	}
	rec.busy = false
	if rec.present != nil || rec.owed != nil {
		return
	}
	delete(ro.rooms[rec.room], rec.member)
	if len(ro.rooms[rec.room]) == 0 {
		delete(ro.rooms, rec.room)
	}
}

// set notes what is so now. The caller has the turn.
func (ro *roster) set(rec *record, present *presence, inc string, owed *bus.Leaving) {
	ro.mu.Lock()
	defer ro.mu.Unlock()
	rec.present, rec.inc, rec.owed = present, inc, owed
}

// listed reports whether the room has members here that are shown a list.
func (ro *roster) listed(room string) bool {
	ro.mu.Lock()
	defer ro.mu.Unlock()
	for _, rec := range ro.rooms[room] {
		if rec.present != nil && rec.present.listed {
			return true
		}
	}
	return false
}

// here counts the members of a room that are present from here.
func (ro *roster) here(room string) (n int) {
	ro.mu.Lock()
	defer ro.mu.Unlock()
	for _, rec := range ro.rooms[room] {
		if rec.present != nil && rec.owed == nil {
			n++
		}
	}
	return n
}

// who identifies a record without holding it.
type who struct{ room, member string }

// pick lists those for whom f holds, in all rooms or one.
func (ro *roster) pick(room string, f func(*record) bool) []who {
	ro.mu.Lock()
	defer ro.mu.Unlock()
	var list []who
	add := func(members map[string]*record) {
		for _, rec := range members {
			if f(rec) {
				list = append(list, who{rec.room, rec.member})
			}
		}
	}
	if room != "" {
		add(ro.rooms[room])
		return list
	}
	for _, members := range ro.rooms {
		add(members)
	}
	return list
}

// witness names one member that is present in the room from here, to be looked
// for in Redis: where it is missing, all are.
func (b *Bus) witness(room string) (key, place, inc string, ok bool) {
	ro := &b.roster
	ro.mu.Lock()
	defer ro.mu.Unlock()
	for _, rec := range ro.rooms[room] {
		if rec.present != nil && rec.owed == nil && !rec.busy { // nothing about it is on its way
			key = b.keys.partition[partitionOf(room)] + "i:" + rec.inc
			return key, strconv.Itoa(len(room)) + ":" + room + rec.member, rec.inc, true
		}
	}
	return "", "", "", false
}
