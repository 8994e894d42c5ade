package redisbus

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wsrelay/relay/internal/bus"
)

const (
	// looksMax is how many rooms' positions one round trip reads.
	looksMax = 128
	// healMax is how many events one round trip reads back.
	healMax = 500
)

// healer looks at rooms in Redis: reads their position, reads back what was
// missed, and lists members after an interruption. Rooms wait for nobody but
// themselves; each has at most one place in a queue of each kind.
type healer struct {
	lane *lane
	wake chan struct{} // holds one

	mu      sync.Mutex
	looks   []look
	rooms   []*room        // to be read back
	resyncs []*room        // whose members are to be told
	queued  map[*room]bool // in resyncs
}

// look is a wish to know a room's position: somebody waits, or it is compared
// with where the room stands here.
type look struct {
	room    *room
	answer  chan<- seen // nil: compare
	resumed bool        // after an interruption, with the room held
}

// seen is a room's position in Redis.
type seen struct {
	bus.Position
	version uint64
	told    uint64 // version of the member list as it was delivered when Redis was asked
	err     error
}

func (h *healer) init(l *lane) {
	h.lane = l
	h.wake = make(chan struct{}, 1)
	h.queued = make(map[*room]bool)
}

func (h *healer) nudge() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

func (h *healer) heal(r *room) {
	h.mu.Lock()
	h.rooms = append(h.rooms, r)
	h.mu.Unlock()
	h.nudge()
}

func (h *healer) resync(r *room) {
	h.mu.Lock()
	if !h.queued[r] {
		h.queued[r] = true
		h.resyncs = append(h.resyncs, r)
	}
	h.mu.Unlock()
	h.nudge()
}

// compare has the room compared with Redis; resumed says that it is held until
// that is done.
func (h *healer) compare(r *room, resumed bool) {
	h.mu.Lock()
	h.looks = append(h.looks, look{room: r, resumed: resumed})
	h.mu.Unlock()
	h.nudge()
}

// position reads where a room is, and places it there if it was not placed.
func (h *healer) position(ctx context.Context, r *room) (bus.Position, error) {
	answer := make(chan seen, 1)
	h.mu.Lock()
	h.looks = append(h.looks, look{room: r, answer: answer})
	h.mu.Unlock()
	h.nudge()
	select {
	case s := <-answer:
		return s.Position, s.err
	case <-ctx.Done():
		return bus.Position{}, unavailable(ctx.Err())
	case <-h.lane.bus.ctx.Done():
		return bus.Position{}, bus.ErrClosed
	}
}

// job is one thing to look up.
type job struct {
	looks        []look
	heal, resync *room
}

// next takes a job: first the positions that somebody may be waiting for.
func (h *healer) next() (j job, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case len(h.looks) > 0:
		n := min(len(h.looks), looksMax)
		j.looks, h.looks = h.looks[:n:n], h.looks[n:]
	case len(h.rooms) > 0:
		j.heal, h.rooms = h.rooms[0], h.rooms[1:]
	case len(h.resyncs) > 0:
		j.resync, h.resyncs = h.resyncs[0], h.resyncs[1:]
		delete(h.queued, j.resync)
	default:
		h.looks, h.rooms, h.resyncs = nil, nil, nil // let large ones go
		return j, false
	}
	if len(h.looks)+len(h.rooms)+len(h.resyncs) > 0 {
		h.nudge() // another worker
	}
	return j, true
}

// run is one worker.
func (h *healer) run() {
	ctx := h.lane.bus.ctx
	for ctx.Err() == nil {
		j, ok := h.next()
		if !ok {
			select {
			case <-h.wake:
			case <-ctx.Done():
			}
			continue
		}
		if h.do(j) {
			continue
		}
		pause := time.NewTimer(100 * time.Millisecond)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
		}
	}
}

// do reports whether the job could be done. What could not, is queued again.
func (h *healer) do(j job) bool {
	err := h.lane.publisher.state()
	if err != nil {
		for _, l := range j.looks {
			l.answered(seen{err: err})
		}
	}
	switch {
	case j.heal != nil:
		if err == nil {
			err = h.count(h.readBack(j.heal))
		}
		if err != nil {
			h.heal(j.heal)
		}
	case j.resync != nil:
		if err == nil {
			err = h.count(h.tellMembers(j.resync))
		}
		if err != nil {
			h.resync(j.resync)
		}
	case err == nil:
		err = h.count(h.look(j.looks))
	}
	return err == nil
}

func (h *healer) count(err error) error {
	if err != nil {
		h.lane.bus.stats.Errors.Add(1)
	}
	return err
}

// look reads positions in one round trip.
func (h *healer) look(looks []look) error {
	b := h.lane.bus
	pipe := b.client.Pipeline()
	cmds := make([]*redis.SliceCmd, len(looks))
	owned, present := make([]*redis.BoolCmd, len(looks)), make([]*redis.BoolCmd, len(looks))
	leaving := make([]*redis.FloatCmd, len(looks))
	told := make([]uint64, len(looks))
	for i, l := range looks {
		cmds[i] = pipe.HMGet(b.ctx, b.keys.meta(l.room.name), "e", "s", "v")
		if l.answer == nil {
			told[i] = l.room.toldVersion()
			if w, ok := b.witness(l.room.name); ok { // either may be lost without the other
				owned[i], present[i] = pipe.SIsMember(b.ctx, w.owned, w.place), pipe.HExists(b.ctx, b.keys.presence(l.room.name), w.member)
				leaving[i] = pipe.ZScore(b.ctx, w.graces, w.grace)
			}
		}
	}
	_, _ = pipe.Exec(b.ctx) // the first of the errors of the commands, and no grace is one
	var err error
	for i, l := range looks {
		s := seen{told: told[i]}
		if v, cerr := cmds[i].Result(); cerr != nil {
			s.err, err = unavailable(cerr), cerr
		} else {
			s.Epoch, _ = v[0].(string)
			s.Seq = number(v[1])
			s.version = number(v[2])
			if s.Epoch == "" {
				s.Position = bus.Position{}
			}
		}
		if missing(owned[i]) || missing(present[i]) || leaving[i] != nil && leaving[i].Err() == nil {
			b.audit.ask(partitionOf(l.room.name))
		}
		l.answered(s)
	}
	return err
}

// missing reports that Redis has answered with no.
func missing(c *redis.BoolCmd) bool { return c != nil && c.Err() == nil && !c.Val() }

func number(v any) uint64 {
	switch v := v.(type) {
	case string:
		n, _ := strconv.ParseUint(v, 10, 63)
		return n
	case int64:
		return uint64(max(v, 0))
	}
	return 0
}

func (l look) answered(s seen) {
	switch {
	case s.err == nil && l.resumed:
		l.room.seeAgain(s)
	case s.err == nil:
		l.room.see(s, l.answer == nil)
	case l.resumed:
		l.room.lane.healer.heal(l.room) // which tries until it can be done
	case l.answer == nil:
		l.room.unseeable()
	}
	if l.answer != nil {
		l.answer <- s // has room for it
	}
}

// readBack makes the room whole: reads what came after its position, delivers
// it together with what is held, and begins again until nothing is missing.
func (h *healer) readBack(r *room) error {
	b := h.lane.bus
	for b.ctx.Err() == nil {
		r.mu.Lock()
		at, gone := r.pos, r.gone
		r.spilled = false
		r.mu.Unlock()
		if gone {
			return nil
		}
		now, err := h.read(r, at)
		if err != nil {
			return fmt.Errorf("reading back room %q: %w", r.name, err)
		}
		r.mu.Lock()
		parted := r.parted(now, at)
		whole := r.gone || parted == 0 && r.mend(now, at)
		r.mu.Unlock()
		if parted != 0 {
			if err := h.fork(r, now.Epoch, parted); err != nil {
				return err
			}
		}
		if whole {
			return nil
		}
	}
	return nil
}

func (h *healer) fork(r *room, epoch string, from uint64) error {
	b := h.lane.bus
	err := b.scripts.fork.Run(b.ctx, b.client, []string{b.keys.meta(r.name)}, epoch, from, rand.Text()[:10]).Err()
	if err != nil {
		return fmt.Errorf("forking the epoch of room %q: %w", r.name, err)
	}
	b.log.Warn("a room's stream went back behind what was delivered; a new epoch begins", "room", r.name, "seq", from)
	return nil
}

// state is a room's stream as it was read.
type state struct {
	bus.Position
	version uint64
	shared  int64 // last seq in common with the epoch that was asked for; -1: none
	tombs   []uint64
	events  []*bus.Event
	covered uint64      // up to which it is complete
	before  []delivered // what it holds of the last ones before events
	cut     bool        // it is behind, and what there is, is what there was
}

// read asks for what came after a position. A room that does not exist, or has
// no epoch, is nil.
func (h *healer) read(r *room, at bus.Position) (*state, error) {
	b := h.lane.bus
	v, err := b.scripts.heal.Run(b.ctx, b.client, []string{b.keys.meta(r.name)}, at.Epoch, at.Seq, healMax, recentMax).Slice()
	if err != nil || len(v) < 9 {
		return nil, err
	}
	s := &state{}
	s.Epoch, _ = v[0].(string)
	s.Seq, s.version = number(v[1]), number(v[2])
	s.shared, _ = v[3].(int64)
	tombs, _ := v[5].([]any)
	for _, t := range tombs {
		s.tombs = append(s.tombs, number(t))
	}
	pairs, _ := v[6].([]any)
	s.events, _ = b.decodeStored(r.name, s.Epoch, pairs)
	s.covered = s.Seq
	if len(pairs) == 2*healMax {
		s.covered = number(pairs[len(pairs)-2])
	}
	s.cut = number(v[8]) == 1
	names, _ := v[7].([]any)
	for i := 0; i+1 < len(names); i += 2 {
		if id, _ := names[i+1].(string); len(id) == 8 {
			s.before = append(s.before, delivered{number(names[i]), binary.BigEndian.Uint64([]byte(id))})
		}
	}
	return s, nil
}

// decodeStored decodes seq, envelope, seq, envelope, ... An entry that cannot be
// read has no kind; whole is false then.
func (b *Bus) decodeStored(room, epoch string, pairs []any) (events []*bus.Event, whole bool) {
	whole = true
	if len(pairs) < 2 {
		return nil, true
	}
	events = make([]*bus.Event, 0, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		text, _ := pairs[i+1].(string)
		e, err := decodeEnvelope([]byte(text))
		if err != nil {
			b.stats.Foreign.Add(1)
			e, whole = &bus.Event{}, false
		}
		e.Room, e.Position = room, bus.Position{Epoch: epoch, Seq: number(pairs[i])}
		events = append(events, e)
	}
	return events, whole
}

// tellMembers tells a room in use who is in it, if any change of the list was not
// told.
func (h *healer) tellMembers(r *room) error {
	b := h.lane.bus
	if !b.roster.listed(r.name) {
		r.listEnds()
		return nil
	}
	told, here := r.toldVersion(), b.roster.here(r.name)
	page, err := b.page(b.ctx, r.name, 0, bus.MembersListed)
	if err != nil {
		return err
	}
	r.list(page, min(here, b.roster.here(r.name)), told)
	return nil
}
