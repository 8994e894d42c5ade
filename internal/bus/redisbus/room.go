package redisbus

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/wsrelay/relay/internal/bus"
)

// room is a room that this instance receives.
type room struct {
	bus  *Bus
	lane *lane
	name string

	subscription // to its channel

	// Guarded by the lock of its shard in rooms.
	users     int       // Subscribe less Unsubscribe
	leftAt    time.Time // when users became 0
	comparing time.Time // when its position is next to be compared

	// mu is the room's order: it is held while an event is delivered. The locks
	// above and the healer's may be taken under it, never the other way round.
	mu       sync.Mutex
	keeps    bool         // has history: what comes is to be consecutive
	placed   bool         // pos is known
	pos      bus.Position // up to which all was delivered; no epoch: from before the first
	version  uint64       // of the member list, as last delivered
	whole    uint64       // likewise, up to which no change of it is missing
	listed   uint64       // likewise, as last told as a whole
	owed     bool         // a whole list is to be told, whatever comes before it
	healing  bool         // something is missing before what is held
	held     []frame
	heldSize int
	spilled  bool                  // too much was held: what was let go is to be read back as well
	conflict uint64                // seq that came with two ids: the epoch is to be forked there
	tried    string                // epoch of a held frame for which was looked already
	unseen   uint64                // version of the member list that a comparison found ahead
	alert    int                   // comparisons in short order that are still to come
	behind   uint64                // seq that a comparison found ahead
	recent   *[recentMax]delivered // where seq modulo 16 says; nil: of none yet
	gone     bool
}

// recentMax is of how many messages a room remembers which they were: a stream that
// went back under the same epoch is found out by them.
const recentMax = 16

// delivered remembers which message had a seq.
type delivered struct{ seq, id uint64 }

// take is given every frame of the room, in order.
func (r *room) take(f frame) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.gone:
	case f.event == nil:
		r.membersChanged(f.version)
	case !r.keeps:
		r.deliver(f.event)
	case r.healing || !r.placed:
		r.hold(f)
	case !r.step(f):
		r.hold(f)
		r.heal()
	}
}

// step delivers a frame if it follows what was delivered before. False: it
// does not, and something must be looked up first.
func (r *room) step(f frame) bool {
	switch {
	case f.at.Epoch == "":
		r.deliver(f.event)
	case r.pos.Epoch == "" && (f.sequenced && f.at.Seq == 1 || !f.sequenced && f.at.Seq == 0):
		r.pos.Epoch = f.at.Epoch // the room's first, of a stream that began after we came
		return r.step(f)
	case f.at.Epoch != r.pos.Epoch:
		return false
	case !f.sequenced:
		if f.at.Seq > r.pos.Seq {
			return false
		}
		r.deliver(f.event)
	case f.at.Seq == r.pos.Seq+1:
		r.deliver(f.event)
	case f.at.Seq > r.pos.Seq:
		return false
	default:
		return r.repeated(f)
	}
	return true
}

// repeated is for a seq that was delivered before. With another message under
// it, the epoch has gone back without a sign.
func (r *room) repeated(f frame) bool {
	if r.recent != nil {
		if was := r.recent[f.at.Seq%recentMax]; was.seq == f.at.Seq && was.id != shortID(f.event.ID) {
			r.conflict = f.at.Seq
			return false
		}
	}
	r.bus.stats.Repeated.Add(1)
	return true
}

func shortID(id bus.MessageID) uint64 { return binary.BigEndian.Uint64(id[8:]) }

// deliver hands an event over and notes where the room stands.
func (r *room) deliver(e *bus.Event) {
	switch {
	case e.Sequenced():
		r.pos = e.Position
		if r.keeps {
			if r.recent == nil {
				r.recent = new([recentMax]delivered)
			}
			r.recent[e.Seq%recentMax] = delivered{e.Seq, shortID(e.ID)}
		}
	case e.Kind == bus.Joined || e.Kind == bus.Left:
		if e.Version <= r.listed {
			return // a member list that was told meanwhile has it
		}
		if e.Version <= r.version {
			r.listWentBack()
		}
		// Each change adds one. After a hole, the next comparison has the whole list told.
		if e.Version == r.whole+1 || r.version == 0 && !r.owed {
			r.whole = e.Version
		}
		r.version = e.Version
	}
	r.bus.handler.Deliver(e)
}

// listWentBack is called when Redis has lost changes of the member list that were
// delivered, as a failover may: who is here is looked for there, and the list told.
func (r *room) listWentBack() {
	r.version, r.whole, r.listed = 0, 0, 0
	r.owed = true
	r.watchMembers()
}

// listEnds is called where nobody is shown a list: the next one begins anew.
func (r *room) listEnds() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.version, r.whole, r.listed, r.unseen = 0, 0, 0, 0
	r.owed = false
}

// watchMembers has all members that are present from here looked for, and the room
// compared in short order for a while: other instances find out, and put their own
// members back, each for itself.
func (r *room) watchMembers() {
	r.bus.audit.ask(partitionOf(r.name))
	r.alert = alerted
	r.bus.rooms.soon(r)
}

// toldVersion is that of the member list as last delivered.
func (r *room) toldVersion() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.version
}

// unseeable is called when a comparison failed.
func (r *room) unseeable() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.alert > 0 {
		r.bus.rooms.soon(r)
	}
}

// membersChanged takes the word that somebody came back of whom nobody is told in
// particular. It comes for many at once, as a rule, so the list is read a little later.
func (r *room) membersChanged(version uint64) {
	if version > r.whole {
		r.owed = r.owed || r.version == 0 // or the next change would be taken for the first
		r.alert = max(r.alert, 2)
		r.bus.rooms.soon(r)
	}
}

// hold keeps a frame until what precedes it was read back. Beyond the bound all
// are let go: the stream has the sequenced ones, and a member list is told for
// the others.
func (r *room) hold(f frame) {
	if r.heldSize+f.size > r.bus.opts.MaxHeld {
		r.bus.stats.Dropped.Add(int64(len(r.held) + 1))
		r.held, r.heldSize, r.spilled = nil, 0, true
		r.lane.healer.resync(r)
		return
	}
	r.held = append(r.held, f)
	r.heldSize += f.size
}

// heal has the missing events read back.
func (r *room) heal() {
	if !r.healing {
		r.healing = true
		r.lane.healer.heal(r)
	}
}

// resumed is called when the subscription is confirmed again after an
// interruption.
func (r *room) resumed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gone {
		return
	}
	switch {
	case !r.keeps:
		r.gap()
	case r.placed && !r.healing:
		r.healing = true
		r.lane.healer.compare(r, true)
	default:
		r.spilled = true // what is being looked up may be from before
	}
	r.lane.healer.resync(r)
}

// gap tells a plain room that it was cut off.
func (r *room) gap() {
	r.bus.stats.Gaps.Add(1)
	r.bus.handler.Deliver(&bus.Event{Kind: bus.Notice, Room: r.name, Notice: bus.NoticeGap, Time: time.Now().UnixMilli()})
}

// rooms holds what this instance receives.
type rooms struct {
	bus    *Bus
	shards [partitions]struct {
		mu    sync.Mutex
		rooms map[string]*room
	}
}

func (rs *rooms) init(b *Bus) {
	rs.bus = b
	for i := range rs.shards {
		rs.shards[i].rooms = make(map[string]*room)
	}
}

func (rs *rooms) find(part int, name []byte) *room {
	s := &rs.shards[part]
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rooms[string(name)]
}

// use counts one more user of a room, and subscribes to it for the first.
func (rs *rooms) use(name string, keeps bool) *room {
	part := partitionOf(name)
	s := &rs.shards[part]
	s.mu.Lock()
	r := s.rooms[name]
	fresh := r == nil
	if fresh {
		r = &room{bus: rs.bus, lane: rs.bus.laneOf(part), name: name, keeps: keeps}
		r.channel, r.subscription.again = rs.bus.keys.channel(name), r.resumed
		r.comparing = time.Now().Add(rs.bus.time.Compare)
		s.rooms[name] = r
	}
	r.users++
	s.mu.Unlock()
	if fresh {
		r.lane.receiver.add(&r.subscription)
	} else if keeps {
		r.mu.Lock()
		r.keeps = true // the policy may have changed
		r.mu.Unlock()
	}
	return r
}

func (rs *rooms) drop(name string) {
	s := &rs.shards[partitionOf(name)]
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.rooms[name]; r != nil && r.users > 0 {
		if r.users--; r.users == 0 {
			r.leftAt = time.Now()
		}
	}
}

// tidy ends subscriptions that have lingered, and has the positions of those in
// use compared with Redis when it is time.
func (rs *rooms) tidy(now time.Time) {
	for i := range rs.shards {
		s := &rs.shards[i]
		var over, due []*room
		s.mu.Lock()
		for name, r := range s.rooms {
			switch {
			case r.users > 0 && now.After(r.comparing):
				r.comparing = now.Add(rs.bus.time.Compare)
				due = append(due, r)
			case r.users == 0 && now.Sub(r.leftAt) >= rs.bus.time.Linger:
				delete(s.rooms, name)
				over = append(over, r)
			}
		}
		s.mu.Unlock()
		for _, r := range over {
			r.lane.receiver.remove(&r.subscription)
			r.mu.Lock()
			r.gone, r.held = true, nil
			r.mu.Unlock()
		}
		for _, r := range due {
			r.lane.healer.compare(r, false)
		}
	}
}

// soon has a room compared again before its time.
func (rs *rooms) soon(r *room) {
	at := time.Now().Add(rs.bus.time.Probe)
	s := &rs.shards[partitionOf(r.name)]
	s.mu.Lock()
	defer s.mu.Unlock()
	if at.Before(r.comparing) {
		r.comparing = at
	}
}

// Subscribe returns when Redis has confirmed the subscription and told the
// position.
func (b *Bus) Subscribe(ctx context.Context, name string, keeps bool) (bus.Position, error) {
	at, err := b.subscribe(ctx, name, keeps)
	if err != nil {
		return bus.Position{}, fmt.Errorf("subscribing to room %q: %w", name, err)
	}
	return at, nil
}

func (b *Bus) subscribe(ctx context.Context, name string, keeps bool) (at bus.Position, err error) {
	if err := b.open(); err != nil {
		return at, err
	}
	r := b.rooms.use(name, keeps)
	defer func() {
		if err != nil {
			b.rooms.drop(name)
		}
	}()
	if err := r.lane.receiver.await(ctx, &r.subscription); err != nil || !keeps {
		return at, err
	}
	return r.lane.healer.position(ctx, r)
}

// Unsubscribe lets the subscription linger for those who come right back.
func (b *Bus) Unsubscribe(name string) {
	if b.open() == nil {
		b.rooms.drop(name)
	}
}
