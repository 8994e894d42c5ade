package redisbus

import (
	"context"
	"strconv"
	"sync"

	"github.com/wsrelay/relay/internal/bus"
)

// roster is what this instance has told Redis about presence: who it put into
// rooms, to put them back after a flush, and which leaves it still owes.
type roster struct {
	mu    sync.Mutex
	rooms map[string]map[string]*record // by room and member
}

// record is one member of one room.
type record struct {
	room, member string
	turn         chan struct{} // holds one: whoever took it may talk to Redis about this member
	users        int           // who hold or await a turn; guarded by the roster

	// Guarded by turn, and written under the roster's lock as well.
	entry *bus.Entry   // as last entered; nil: not present here
	inc   string       // the incarnation that owns the presence
	owed  *bus.Leaving // a leave that did not get through
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
		rec = &record{room: room, member: member, turn: make(chan struct{}, 1)}
		rec.turn <- struct{}{}
		members[member] = rec
	}
	rec.users++
	ro.mu.Unlock()
	select {
	case <-rec.turn:
		return rec, nil
	case <-ctx.Done():
		ro.done(rec)
		return nil, unavailable(ctx.Err())
	}
}

func (ro *roster) release(rec *record) {
	rec.turn <- struct{}{} // there is room: it is ours to give back
	ro.done(rec)
}

// done forgets a record that says nothing.
func (ro *roster) done(rec *record) {
	ro.mu.Lock()
	defer ro.mu.Unlock()
	if rec.users--; rec.users > 0 || rec.entry != nil || rec.owed != nil {
		return
	}
	delete(ro.rooms[rec.room], rec.member)
	if len(ro.rooms[rec.room]) == 0 {
		delete(ro.rooms, rec.room)
	}
}

// set notes what is so now. The caller has the turn.
func (ro *roster) set(rec *record, entry *bus.Entry, inc string, owed *bus.Leaving) {
	ro.mu.Lock()
	defer ro.mu.Unlock()
	rec.entry, rec.inc, rec.owed = entry, inc, owed
}

// listed reports whether the room has members here that are shown a list.
func (ro *roster) listed(room string) bool {
	ro.mu.Lock()
	defer ro.mu.Unlock()
	for _, rec := range ro.rooms[room] {
		if rec.entry != nil && rec.entry.Presence {
			return true
		}
	}
	return false
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
		if rec.entry != nil && rec.owed == nil && rec.users == 0 { // nothing about it is on its way
			key = b.keys.partition[partitionOf(room)] + "i:" + rec.inc
			return key, strconv.Itoa(len(room)) + ":" + room + rec.member, rec.inc, true
		}
	}
	return "", "", "", false
}
