package redisbus

import (
	"context"
	"crypto/rand"
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

// run is one worker.
func (h *healer) run() {
	ctx := h.lane.bus.ctx
	for {
		h.mu.Lock()
		looks := h.looks[:min(len(h.looks), looksMax)]
		if h.looks = h.looks[len(looks):]; len(h.looks) == 0 {
			h.looks = nil
		}
		var heal, resync *room
		if len(looks) == 0 && len(h.rooms) > 0 {
			heal, h.rooms = h.rooms[0], h.rooms[1:]
		} else if len(looks) == 0 && len(h.resyncs) > 0 {
			resync, h.resyncs = h.resyncs[0], h.resyncs[1:]
			delete(h.queued, resync)
		}
		more := len(h.looks)+len(h.rooms)+len(h.resyncs) > 0
		h.mu.Unlock()
		if more {
			h.nudge() // another worker
		}
		var err error
		switch {
		case len(looks) > 0:
			err = h.look(looks)
		case heal != nil:
			if err = h.readBack(heal); err != nil {
				h.heal(heal)
			}
		case resync != nil:
			if err = h.tellMembers(resync); err != nil {
				h.resync(resync)
			}
		default:
			select {
			case <-h.wake:
			case <-ctx.Done():
				return
			}
		}
		if err != nil {
			h.lane.bus.stats.Errors.Add(1)
			pause := time.NewTimer(100 * time.Millisecond)
			select {
			case <-pause.C:
			case <-ctx.Done():
				pause.Stop()
				return
			}
		}
	}
}

// look reads positions in one round trip.
func (h *healer) look(looks []look) error {
	b := h.lane.bus
	if err := h.lane.publisher.state(); err != nil {
		for _, l := range looks {
			l.answered(seen{err: err})
		}
		return nil
	}
	pipe := b.client.Pipeline()
	cmds := make([]*redis.SliceCmd, len(looks))
	present := make([]*redis.BoolCmd, len(looks))
	former := make([]string, len(looks))
	for i, l := range looks {
		cmds[i] = pipe.HMGet(b.ctx, b.keys.meta(l.room.name), "e", "s", "v")
		if l.answer == nil {
			if key, place, inc, ok := b.witness(l.room.name); ok {
				present[i], former[i] = pipe.SIsMember(b.ctx, key, place), inc
			}
		}
	}
	_, err := pipe.Exec(b.ctx)
	for i, l := range looks {
		var s seen
		if v, cerr := cmds[i].Result(); cerr != nil {
			s.err = unavailable(cerr)
		} else {
			s.Epoch, _ = v[0].(string)
			s.Seq = number(v[1])
			s.version = number(v[2])
			if s.Epoch == "" {
				s.Position = bus.Position{}
			}
		}
		if p := present[i]; p != nil && p.Err() == nil && !p.Val() {
			b.log.Warn("a room's members were gone from redis; they are put back", "room", l.room.name)
			b.hire(func() { b.putBack(l.room.name, former[i]) })
		}
		l.answered(s)
	}
	return err
}

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
	}
	if l.answer != nil {
		l.answer <- s // has room for it
	}
}

// seeAgain takes the first position that was read after an interruption. A room
// that missed nothing goes on.
func (r *room) seeAgain(s seen) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gone || r.spilled || s.Position != r.pos {
		r.lane.healer.heal(r)
		return
	}
	r.healing = false
	r.release()
}

// see takes a position that was read. A room that has none yet begins there. One
// that is behind may only not have received yet what is on its way, so it must
// still be behind when next compared.
func (r *room) see(s seen, compared bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gone {
		return
	}
	if r.keeps && !r.placed {
		r.placed, r.pos = true, s.Position
		if r.spilled {
			r.heal()
		} else {
			r.release()
		}
		return
	}
	if !compared {
		return
	}
	if r.keeps && !r.healing && s.Epoch != "" {
		switch {
		case s.Epoch != r.pos.Epoch && r.pos.Epoch != "", s.Epoch == r.pos.Epoch && s.Seq < r.pos.Seq,
			r.behind != 0 && r.behind > r.pos.Seq:
			r.behind = 0
			r.heal()
		case s.Seq > r.pos.Seq:
			r.behind = s.Seq
			r.lane.bus.rooms.soon(r)
		default:
			r.behind = 0
		}
	}
	if r.unseen != 0 && r.unseen > r.version {
		r.lane.healer.resync(r)
	}
	r.unseen = 0
	if s.version > r.version && r.version != 0 {
		r.unseen = s.version
	}
}

// release delivers what was held while the room was not placed.
func (r *room) release() {
	held := r.held
	r.held, r.heldSize = nil, 0
	for i, f := range held {
		if f.sequenced && f.at.Epoch == r.pos.Epoch && f.at.Seq <= r.pos.Seq {
			continue // before the position that was told
		}
		if !r.step(f) {
			for _, f := range held[i:] {
				r.hold(f)
			}
			r.heal()
			return
		}
	}
}

// piece is something to deliver that brings the room up to a seq.
type piece struct {
	upTo  uint64
	event *bus.Event // nil: redacted, nothing to tell
}

// readBack makes the room whole: reads what came after its position, delivers
// it together with what is held, and begins again until nothing is missing.
func (h *healer) readBack(r *room) error {
	b := h.lane.bus
	for b.ctx.Err() == nil {
		r.mu.Lock()
		at, conflict, gone := r.pos, r.conflict, r.gone
		r.spilled = false
		r.mu.Unlock()
		if gone {
			return nil
		}
		if err := h.lane.publisher.state(); err != nil {
			return err
		}
		if conflict != 0 {
			if err := h.fork(r, at.Epoch, conflict); err != nil {
				return err
			}
		}
		now, err := h.read(r, at)
		if err != nil {
			return fmt.Errorf("reading back room %q: %w", r.name, err)
		}
		if now != nil && now.Epoch == at.Epoch && now.Seq < at.Seq {
			if err := h.fork(r, at.Epoch, now.Seq+1); err != nil {
				return err
			}
			continue
		}
		r.mu.Lock()
		whole := r.gone || r.mend(now, at)
		r.mu.Unlock()
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
	covered uint64 // up to which it is complete
}

// read asks for what came after a position. A room that does not exist, or has
// no epoch, is nil.
func (h *healer) read(r *room, at bus.Position) (*state, error) {
	b := h.lane.bus
	v, err := b.scripts.heal.Run(b.ctx, b.client, []string{b.keys.meta(r.name)}, at.Epoch, at.Seq, healMax).Slice()
	if err != nil || len(v) < 7 {
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
	s.events, s.covered = b.decodeStored(r.name, s.Epoch, pairs), s.Seq
	if len(pairs) == 2*healMax {
		s.covered = number(pairs[len(pairs)-2])
	}
	return s, nil
}

// decodeStored decodes seq, envelope, seq, envelope, ... Entries that cannot be
// read are left out.
func (b *Bus) decodeStored(room, epoch string, pairs []any) []*bus.Event {
	if len(pairs) < 2 {
		return nil
	}
	events := make([]*bus.Event, 0, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		text, _ := pairs[i+1].(string)
		e, err := decodeEnvelope(text)
		if err != nil {
			b.stats.Foreign.Add(1)
			continue
		}
		e.Room, e.Position = room, bus.Position{Epoch: epoch, Seq: number(pairs[i])}
		events = append(events, e)
	}
	return events
}

// mend brings the room from a position up to what was read, and as far beyond
// as what is held goes. It reports whether nothing is missing then.
func (r *room) mend(now *state, at bus.Position) bool {
	if r.pos != at {
		return false // cannot be: only the healer moves a room that is healing
	}
	r.conflict = 0
	if now == nil { // no epoch: flushed, and nobody published since
		return r.settle("")
	}
	if now.Epoch != at.Epoch {
		r.newEpoch(now)
	}
	pieces := r.pieces(now)
	r.bus.stats.Healed.Add(int64(len(now.events)))
	deliverTo := func(seq uint64) {
		for len(pieces) > 0 && pieces[0].upTo <= seq {
			r.tell(pieces[0])
			pieces = pieces[1:]
		}
		r.pos.Seq = max(r.pos.Seq, min(seq, now.covered))
	}
	// What is held is told in its place among what was read.
	for len(r.held) > 0 {
		f := r.held[0]
		if f.at.Epoch != "" && f.at.Epoch != now.Epoch || f.at.Seq > now.covered {
			break
		}
		r.pop()
		if f.sequenced {
			deliverTo(f.at.Seq - 1)
			if len(pieces) > 0 && pieces[0].upTo == f.at.Seq {
				pieces = pieces[1:]
				r.pos.Seq = f.at.Seq - 1
				r.deliver(f.event)
			}
			continue
		}
		deliverTo(f.at.Seq)
		r.deliver(f.event)
	}
	deliverTo(now.covered)
	if now.covered < now.Seq || r.spilled {
		return false
	}
	return r.settle(now.Epoch)
}

func (r *room) pop() {
	r.heldSize -= r.held[0].size
	r.held[0] = frame{}
	r.held = r.held[1:]
}

// settle delivers what is left of the held frames, which are beyond what was
// read. epoch is that of the stream, as just read. A frame of another epoch may
// be from before (then what was read covers it) or have come since: the second
// time that it does not fit, it is from before.
func (r *room) settle(epoch string) bool {
	for len(r.held) > 0 {
		f := r.held[0]
		if !r.step(f) {
			if r.tried != f.at.Epoch+" "+epoch {
				r.tried = f.at.Epoch + " " + epoch
				return false
			}
			r.conflict = 0
			r.bus.stats.Dropped.Add(1)
		}
		r.pop()
	}
	r.held, r.heldSize = nil, 0
	r.healing, r.tried = false, ""
	return true
}

// newEpoch moves the room to the epoch that was read, and tells so.
func (r *room) newEpoch(now *state) {
	old := r.pos
	shared := uint64(max(now.shared, 0))
	r.pos = bus.Position{Epoch: now.Epoch, Seq: min(old.Seq, shared)}
	r.version = 0
	if old.Epoch == "" {
		return
	}
	to := shared
	if now.shared < 0 {
		to = old.Seq // of an epoch that is not known any more, all that came here
	}
	r.bus.stats.Epochs.Add(1)
	r.bus.handler.Deliver(&bus.Event{
		Kind: bus.Notice, Room: r.name, Notice: bus.NoticeEpoch, Time: time.Now().UnixMilli(),
		Position: bus.Position{Epoch: now.Epoch}, To: to,
	})
	if now.shared >= 0 && old.Seq > shared {
		r.lost(now.Epoch, shared+1, old.Seq)
	}
}

func (r *room) lost(epoch string, from, to uint64) {
	r.bus.stats.Lost.Add(int64(to - from + 1))
	r.bus.handler.Deliver(&bus.Event{
		Kind: bus.Notice, Room: r.name, Notice: bus.NoticeLost, Time: time.Now().UnixMilli(),
		Position: bus.Position{Epoch: epoch}, From: from, To: to,
	})
}

// pieces puts what was read into order: events, and notices for ranges that the
// stream holds no longer. Only before the first event can anything be missing
// that was not redacted: the stream is cut at that end.
func (r *room) pieces(now *state) []piece {
	var pieces []piece
	head := now.Seq + 1
	if len(now.events) > 0 {
		head = now.events[0].Seq
	}
	next := r.pos.Seq + 1
	gone := func(to uint64) { // next to to, inclusive
		if next <= to {
			pieces = append(pieces, piece{to, &bus.Event{Kind: bus.Notice, From: next, To: to}})
		}
	}
	for _, t := range now.tombs {
		if t >= next && t < head {
			gone(t - 1)
			next = t + 1
		}
	}
	gone(head - 1)
	for _, e := range now.events {
		pieces = append(pieces, piece{e.Seq, e})
	}
	return pieces
}

func (r *room) tell(p piece) {
	if p.event.Kind == bus.Notice {
		r.lost(r.pos.Epoch, p.event.From, p.event.To)
		r.pos.Seq = p.upTo
		return
	}
	r.deliver(p.event)
}

// tellMembers tells a room in use who is in it, if the list has changed since
// it was last told.
func (h *healer) tellMembers(r *room) error {
	b := h.lane.bus
	if !b.roster.listed(r.name) {
		return nil
	}
	if err := h.lane.publisher.state(); err != nil {
		return err
	}
	page, err := b.page(b.ctx, r.name, 0, bus.MembersListed)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gone || page.Version <= r.version {
		return nil
	}
	r.version = page.Version
	b.handler.Deliver(&bus.Event{
		Kind: bus.Resync, Room: r.name, Time: time.Now().UnixMilli(),
		Members: page.Members, Count: page.Count, Version: page.Version,
	})
	return nil
}
