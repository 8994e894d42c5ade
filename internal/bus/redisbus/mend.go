package redisbus

import (
	"time"

	"github.com/wsrelay/relay/internal/bus"
)

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
	if s.version != 0 && s.version < s.told {
		r.listWentBack()
	}
	if r.unseen > r.whole {
		r.lane.healer.resync(r)
	}
	r.unseen = 0
	if s.version > r.whole && (r.version != 0 || r.owed || r.alert > 0) {
		r.unseen = s.version
		r.lane.bus.rooms.soon(r)
	}
	if r.alert > 0 {
		r.alert--
		r.lane.bus.rooms.soon(r)
	}
}

// list takes the members as they were read, where so many are present from here,
// and told was the version of the list as delivered before.
func (r *room) list(page bus.MemberPage, here int, told uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if page.Version != 0 && page.Version < told {
		r.listWentBack()
	}
	switch {
	case r.gone || page.Version <= r.whole:
		return
	case page.Version < r.version: // it lacks what was delivered since
		r.alert = max(r.alert, 2)
		r.bus.rooms.soon(r)
		return
	case page.Count < here: // Redis has lost some: they are put back first
		r.watchMembers()
		return
	}
	r.version, r.whole, r.listed, r.owed = page.Version, page.Version, page.Version, false
	r.bus.handler.Deliver(&bus.Event{
		Kind: bus.Resync, Room: r.name, Time: time.Now().UnixMilli(),
		Members: page.Members, Count: page.Count, Version: page.Version,
	})
}

// alerted is how often a room is compared in short order after Redis may have lost
// who is in it.
const alerted = 10

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

// piece brings the room from one seq up to another: an event, where they are
// the same, or a range that is lost.
type piece struct {
	from, upTo uint64
	event      *bus.Event // nil: lost
}

// parted is the first seq under which the stream as it was read holds another
// message than was delivered, or none: it went back without a sign, and maybe on
// since. 0: it did not. It is 1 where nothing is left by which to tell.
func (r *room) parted(now *state, at bus.Position) (seq uint64) {
	if now == nil {
		return 0
	}
	lower := func(to uint64) {
		if seq == 0 || to < seq {
			seq = to
		}
	}
	unsure, agreed := false, false
	if now.Epoch == at.Epoch {
		if now.Seq < at.Seq {
			lower(now.Seq + 1)
			unsure = at.Seq-now.Seq >= recentMax && !now.cut
		}
		if r.conflict != 0 {
			lower(r.conflict)
		}
	}
	if r.recent != nil {
		for _, is := range now.before {
			switch was := r.recent[is.seq%recentMax]; {
			case was.seq != is.seq: // it was not delivered here, or too long ago
			case was.id == is.id:
				agreed = true
			default:
				lower(is.seq)
				unsure = true
			}
		}
	}
	if unsure && !agreed {
		return 1
	}
	return seq
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
		if !f.sequenced {
			deliverTo(f.at.Seq)
			r.deliver(f.event)
			continue
		}
		// One that is in no piece was redacted, or delivered before.
		deliverTo(f.at.Seq - 1)
		if len(pieces) > 0 && pieces[0].from <= f.at.Seq {
			p := &pieces[0]
			if p.from < f.at.Seq { // history has lost it, but here it is
				r.tell(piece{from: p.from, upTo: f.at.Seq - 1})
			}
			r.deliver(f.event)
			if p.from = f.at.Seq + 1; p.from > p.upTo {
				pieces = pieces[1:]
			}
		}
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
	if r.recent != nil {
		for i := range r.recent {
			if r.recent[i].seq > shared {
				r.recent[i] = delivered{}
			}
		}
	}
	r.pos = bus.Position{Epoch: now.Epoch, Seq: min(old.Seq, shared)}
	if old.Epoch == "" {
		return
	}
	r.listWentBack()
	to := shared
	if now.shared < 0 {
		to = old.Seq // of an epoch that is not known any more, all that came here
	}
	// What is void is told in the numbers of the old epoch, before the new one
	// begins: to a client, these would be numbers of messages still to come.
	if now.shared >= 0 && old.Seq > shared {
		r.lost(old.Epoch, shared+1, old.Seq)
	}
	r.bus.stats.Epochs.Add(1)
	r.bus.handler.Deliver(&bus.Event{
		Kind: bus.Notice, Room: r.name, Notice: bus.NoticeEpoch, Time: time.Now().UnixMilli(),
		Position: bus.Position{Epoch: now.Epoch}, To: to, Anew: now.shared < 0,
	})
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
			pieces = append(pieces, piece{from: next, upTo: to})
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
		p := piece{e.Seq, e.Seq, e}
		if e.Kind == 0 {
			p.event = nil // stored by something that this version cannot read
		}
		pieces = append(pieces, p)
	}
	return pieces
}

func (r *room) tell(p piece) {
	if p.event == nil {
		r.lost(r.pos.Epoch, p.from, p.upTo)
		r.pos.Seq = p.upTo
		return
	}
	r.deliver(p.event)
}
