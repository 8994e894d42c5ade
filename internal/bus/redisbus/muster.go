package redisbus

import (
	"strconv"

	"github.com/redis/go-redis/v9"
)

// muster looks for members of one room that are present from here in Redis. One
// will do as a rule: what loses members, loses all of a room. Only after Redis went
// back a little, in a failover that lost writes, those that came last are missing,
// and all are looked for.
type muster struct {
	room  *room
	all   bool
	told  uint64 // version of the member list, as delivered when it began
	calls []called
}

// called is one member that is looked for, in both places that tell of it: either
// may be lost without the other.
type called struct {
	member, inc    string
	owned, present *redis.BoolCmd
}

// newMuster adds its questions to a pipeline. end takes the answers.
func newMuster(pipe redis.Pipeliner, r *room) *muster {
	b := r.bus
	r.mu.Lock()
	m := &muster{room: r, all: r.doubtful, told: r.version}
	r.doubtful = false
	r.mu.Unlock()
	b.roster.mu.Lock()
	for _, rec := range b.roster.members(r.name) {
		if !rec.present.here() || rec.owed != nil || rec.busy { // something about it is on its way
			continue
		}
		m.calls = append(m.calls, called{member: rec.member, inc: rec.inc})
		if !m.all {
			break
		}
	}
	b.roster.mu.Unlock()
	part, presence := b.keys.partition[partitionOf(r.name)], b.keys.presence(r.name)
	for i := range m.calls {
		c := &m.calls[i]
		c.owned = pipe.SIsMember(b.ctx, part+"i:"+c.inc, strconv.Itoa(len(r.name))+":"+r.name+c.member)
		c.present = pipe.HExists(b.ctx, presence, c.member)
	}
	return m
}

// end has those put back that are missing.
func (m *muster) end() {
	lost := make(map[string]string) // incarnation by member
	for _, c := range m.calls {
		switch {
		case c.owned.Err() != nil || c.present.Err() != nil:
			m.room.doubt(m.all)
			return
		case !c.owned.Val() || !c.present.Val():
			lost[c.member] = c.inc
		}
	}
	if len(lost) == 0 {
		return
	}
	b := m.room.bus
	b.log.Warn("members of a room were gone from redis; they are put back", "room", m.room.name)
	b.hire(func() {
		b.putBack(m.room.name, func(rec *record) bool {
			inc, is := lost[rec.member]
			return is && rec.inc == inc || !m.all && rec.inc == m.calls[0].inc
		})
	})
}
