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
	due   [partitions]time.Time // of what is asked; of others, not before
}

// auditMax is how many members one round trip asks for.
const auditMax = 500

func (a *audit) init(b *Bus) {
	a.bus = b
	a.wake = make(chan struct{}, 1)
}

// ask has a partition looked at, after a probe's time, because as a rule more is asked
// then, or a lease's after the last time: each of its rooms may ask on its own.
func (a *audit) ask(part int) {
	a.mu.Lock()
	if !a.asked[part] {
		a.asked[part] = true
		if soon := time.Now().Add(a.bus.time.Probe); a.due[part].Before(soon) {
			a.due[part] = soon
		}
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
	next := time.NewTimer(time.Hour)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.wake:
		case <-next.C:
		}
		parts, wait := a.take(time.Now())
		a.partitions(parts)
		next.Reset(wait)
	}
}

// take takes the partitions whose time has come, and tells when to look again.
func (a *audit) take(now time.Time) (parts []int, wait time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	wait = time.Hour
	for p, asked := range a.asked {
		if left := a.due[p].Sub(now); asked && left > 0 {
			wait = min(wait, left)
		} else if asked {
			a.asked[p] = false
			parts = append(parts, p)
		}
	}
	return parts, wait
}

// partitions makes some partitions what they should be. Where that fails, they are
// asked for again.
func (a *audit) partitions(parts []int) {
	if len(parts) == 0 {
		return
	}
	inc := a.bus.lease.incarnation()
	expected := a.bus.roster.owned(inc)
	for _, p := range parts {
		if a.partition(p, inc, expected[p]) {
			a.mu.Lock()
			a.due[p] = time.Now().Add(a.bus.time.Lease)
			a.mu.Unlock()
		} else {
			a.ask(p)
		}
	}
}

func (a *audit) partition(part int, inc string, expected []who) bool {
	b := a.bus
	if b.laneOf(part).ready() != nil {
		return false
	}
	lost, left, err := b.compare(part, inc, expected)
	if err != nil {
		b.stats.Errors.Add(1)
		return false
	}
	if len(lost) > 0 {
		b.log.Warn("members were gone from redis; they are put back", "count", len(lost), "room", lost[0].room)
	}
	back := b.putBack(lost, func(rec *record) bool { return rec.inc == inc })
	return b.expel(left, inc) && back
}

// compare reads what an incarnation owns in a partition. Of what changes meanwhile,
// either answer may be given: whoever acts on it looks again when it is the
// member's turn.
func (b *Bus) compare(part int, inc string, expected []who) (lost, left []who, err error) {
	for at := 0; at < len(expected); at += auditMax {
		args := []any{inc}
		for _, w := range expected[at:min(at+auditMax, len(expected))] {
			args = append(args, placeOf(w.room, w.member))
		}
		places, err := b.scripts.audit.Run(b.ctx, b.client, []string{b.keys.partition[part]}, args...).StringSlice()
		if err != nil {
			return nil, nil, fmt.Errorf("looking for members in Redis: %w", err)
		}
		for _, place := range places {
			if room, member, ok := parsePlace(place); ok {
				lost = append(lost, who{room, member})
			}
		}
	}
	for cursor := uint64(0); ; {
		places, next, err := b.client.SScan(b.ctx, b.keys.owned(part, inc), cursor, "", auditMax).Result()
		if err != nil {
			return nil, nil, fmt.Errorf("reading whose members are in Redis: %w", err)
		}
		for _, place := range places {
			if room, member, ok := parsePlace(place); ok && !b.roster.knows(room, member) {
				left = append(left, who{room, member})
			}
		}
		if cursor = next; cursor == 0 {
			return lost, left, nil
		}
	}
}

// expel has those leave who are not here any more, unless they left with a grace that
// is running. It reports that all could be told.
func (b *Bus) expel(list []who, inc string) bool {
	var gone []who
	failed := 0
	for _, w := range list {
		switch had, err := b.expelOne(w, inc); {
		case err != nil:
			b.stats.Errors.Add(1)
			failed++
		case had:
			gone = append(gone, w)
		}
	}
	b.stats.Leftover.Add(int64(len(gone)))
	if len(gone) > 0 {
		b.log.Warn("members who had left were in redis still; they leave", "count", len(gone), "room", gone[0].room)
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
