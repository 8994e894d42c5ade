package redisbus

import (
	"fmt"
	"sync"
	"time"

	"github.com/wsrelay/relay/internal/bus"
)

// audit holds what Redis has of this instance's members against the roster. It is
// asked to wherever Redis may have lost something: the server is another one or has
// been restarted, a stream or a member list went back, or a member was missing. Whoever
// is lost there is put back, and who has left here and is there still, leaves.
//
// Members of a former incarnation are not its business, but the lease's.
type audit struct {
	bus  *Bus
	wake chan struct{} // holds one

	mu    sync.Mutex
	asked [partitions]bool
}

// auditMax is how many members one round trip asks for.
const auditMax = 1000

func (a *audit) init(b *Bus) {
	a.bus = b
	a.wake = make(chan struct{}, 1)
}

// ask has partitions looked at, within a probe's time or as soon as that is possible.
func (a *audit) ask(parts ...int) {
	a.mu.Lock()
	for _, p := range parts {
		a.asked[p] = true
	}
	a.mu.Unlock()
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// askLane has all looked at that a lane leads to.
func (a *audit) askLane(l *lane) {
	for p := range partitions {
		if a.bus.laneOf(p) == l {
			a.ask(p)
		}
	}
}

func (a *audit) run() {
	ctx := a.bus.ctx
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.wake:
		}
		pause.Reset(a.bus.time.Probe) // more is asked for, as a rule
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
		a.mu.Lock()
		asked := a.asked
		a.asked = [partitions]bool{}
		a.mu.Unlock()
		for p, is := range asked {
			if is && !a.partition(p) {
				a.ask(p)
			}
		}
	}
}

// partition reports that a partition is as it should be, or was made so.
func (a *audit) partition(part int) bool {
	b := a.bus
	now := b.lease.incarnation()
	expected := b.roster.pick(func(rec *record) bool {
		return rec.settled() && rec.inc == now && partitionOf(rec.roll.room) == part
	})
	lost, left, err := a.compare(part, now, expected)
	if err != nil {
		b.stats.Errors.Add(1)
		return false
	}
	if len(lost) > 0 {
		b.log.Warn("members were gone from redis; they are put back", "count", len(lost), "room", lost[0].room)
	}
	back := b.putBack(lost, func(rec *record) bool { return rec.inc == now })
	return b.expel(left, now) && back
}

// compare reads what an incarnation owns in a partition. Of what changes meanwhile,
// either answer may be given: whoever acts on it looks again when it is the
// member's turn.
func (a *audit) compare(part int, inc string, expected []who) (lost, left []who, err error) {
	b := a.bus
	if err := b.laneOf(part).ready(); err != nil {
		return nil, nil, err
	}
	owned := make(map[string]bool)
	for cursor := uint64(0); ; {
		places, next, err := b.client.SScan(b.ctx, b.keys.owned(part, inc), cursor, "", auditMax).Result()
		if err != nil {
			return nil, nil, fmt.Errorf("reading whose members are in Redis: %w", err)
		}
		for _, p := range places {
			owned[p] = true
		}
		if cursor = next; cursor == 0 {
			break
		}
	}
	for at := 0; at < len(expected); at += auditMax {
		some := expected[at:min(at+auditMax, len(expected))]
		present, err := b.present(some)
		if err != nil {
			return nil, nil, err
		}
		for i, w := range some {
			place := placeOf(w.room, w.member)
			if !owned[place] || !present[i] { // either may be lost without the other
				lost = append(lost, w)
			}
			delete(owned, place)
		}
	}
	for place := range owned {
		if room, member, ok := parsePlace(place); ok && !b.roster.knows(room, member) {
			left = append(left, who{room, member})
		}
	}
	return lost, left, nil
}

// present asks of members whether they are in their rooms.
func (b *Bus) present(list []who) ([]bool, error) {
	pipe := b.client.Pipeline()
	for _, w := range list {
		pipe.HExists(b.ctx, b.keys.presence(w.room), w.member)
	}
	cmds, err := pipe.Exec(b.ctx)
	if err != nil {
		return nil, fmt.Errorf("looking for members in Redis: %w", err)
	}
	is := make([]bool, len(list))
	for i, c := range cmds {
		is[i] = !missing(c)
	}
	return is, nil
}

// expel has those leave who are not here any more, unless they left with a grace that
// is running. It reports that all could be told.
func (b *Bus) expel(list []who, inc string) bool {
	gone, failed := 0, 0
	for _, w := range list {
		switch had, err := b.expelOne(w, inc); {
		case err != nil:
			b.stats.Errors.Add(1)
			failed++
		case had:
			gone++
		}
	}
	b.stats.Leftover.Add(int64(gone))
	if gone > 0 {
		b.log.Warn("members who had left were in redis still; they leave", "count", gone, "room", list[0].room)
	}
	return failed == 0
}

func (b *Bus) expelOne(w who, inc string) (had bool, err error) {
	rec, err := b.roster.take(b.ctx, w.room, w.member)
	if err != nil {
		return false, err
	}
	defer b.roster.release(rec)
	if rec.present.here() || rec.owed != nil { // it came back, or is about to leave
		return false, nil
	}
	// The shortest of graces: one that is running is not cut short by another.
	b.roster.set(rec, presence{}, inc, &bus.Leaving{Room: w.room, Member: w.member, Grace: time.Millisecond})
	return b.pay(b.ctx, rec) // or later: it is owed
}
