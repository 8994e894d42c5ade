package room

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/wsrelay/relay/internal/bus"
	"github.com/wsrelay/relay/internal/room/policy"
	"github.com/wsrelay/relay/telemetry"
)

// Room is one room as this instance sees it.
type Room struct {
	id   string
	reg  *Registry
	refs int // guarded by the registry's shard lock

	rules atomic.Pointer[rules]

	// mu is the room's order: frames are queued to sockets while it is held, so
	// that all of them see one order. Sockets' own locks are taken inside it.
	mu      sync.Mutex
	seats   []*Seat
	members map[string]*presence
	pos     bus.Position // what has been queued to the seats so far
	placed  bool         // pos is known
	passed  []fork       // epochs before pos.Epoch, the newest last
	count   int          // members over all instances, as last heard
	version uint64       // of the member list, as last heard
	waiting []waiter     // acks for messages that have not come by yet, by seq
	recent  []*bus.Event // the newest chats, as many as filters want
}

// rules is the policy in force for a room. policy is nil when, after a reload,
// no rule matches the room any more.
type rules struct {
	policy  *policy.Policy
	params  policy.Params
	filters Filters // nil: none
	sample  telemetry.Sampler
	meters  *Meters
}

func (ru *rules) input(r *Room, a *Actor, member bool) *policy.Input {
	in := &policy.Input{
		User: a.Identity, RoomID: r.id, Params: ru.params,
		Member: member, Endpoint: a.Endpoint, ClientIP: a.IP,
	}
	in.Members = r.memberCount()
	return in
}

// presence serialises what this instance says about one member of one room:
// two sockets of a user may come and go at once, and their Enter and Leave must
// reach the bus in the order in which they are meant. mu is held across calls
// to the bus, and is taken before Room.mu.
type presence struct {
	member  string
	mu      sync.Mutex
	sockets int // guarded by mu
	refs    int // guarded by Room.mu
}

// waiter is an ack that waits for its place in the sender's own stream.
type waiter struct {
	pos  bus.Position
	done func()
}

func (r *Room) memberCount() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.count
}

func (r *Room) snapshot() []*Seat {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]*Seat(nil), r.seats...)
}

// attach adds a seat that buffers until it goes live.
func (r *Room) attach(s *Seat, pos bus.Position) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.placed {
		r.pos, r.placed = pos, true
	}
	s.index = int32(len(r.seats))
	r.seats = append(r.seats, s)
	r.reg.stats.Seats.Add(1)
}

// detach removes a seat; false when it was gone already.
func (r *Room) detach(s *Seat) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.index < 0 {
		return false
	}
	last := r.seats[len(r.seats)-1]
	r.seats[s.index], last.index = last, s.index
	r.seats[len(r.seats)-1] = nil
	r.seats = r.seats[:len(r.seats)-1]
	if s.barrier != nil {
		s.barrier.abandon()
	}
	s.index, s.barrier = -1, nil
	if v := s.voice.Load(); v != nil {
		r.reg.limits.unpin(v.limit)
		v.over.Store(true)
	}
	r.reg.stats.Seats.Add(-1)
	if len(r.seats) == 0 {
		// Nobody is left to see the messages come by, and the bus may stop
		// bringing them: release who still waits for an ack.
		r.placed = false
		r.flushWaiting(true)
	}
	return true
}

func (r *Room) presenceOf(member string) *presence {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.members[member]
	if p == nil {
		p = &presence{member: member}
		r.members[member] = p
	}
	p.refs++
	return p
}

func (r *Room) dropPresence(p *presence) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p.refs--; p.refs == 0 {
		delete(r.members, p.member)
	}
}

// deliver queues an event to everyone it is for.
func (r *Room) deliver(e *bus.Event) {
	f := encode(e, false)
	if f == nil {
		return // a kind from a newer version
	}
	own := f
	if (e.Kind == bus.Chat || e.Kind == bus.Shadow) && e.Key != "" {
		own = encode(e, true)
	}
	ru := r.rules.Load()
	echo := ru.policy != nil && ru.policy.Echo
	track := r.reg.follow(ru, e, f, own)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.note(e)
	n := int64(0)
	sender := r.members[e.Sender.Member] // nil: not here
	for _, s := range r.seats {
		out := f
		if e.Kind == bus.Shadow && s.who != sender {
			continue
		}
		if s.who == sender {
			self := s.conn == e.Sender.Conn && s.conn != ""
			if e.Kind == bus.Joined || e.Kind == bus.Left {
				continue
			}
			// A message that was answered already, with outcome unknown, has no
			// ack left to stand in its place: it is shown itself.
			acked := self && (e.Kind != bus.Chat || !e.Sequenced() || s.came(e))
			if acked && !echo {
				continue
			}
			out = own
		}
		switch {
		case s.barrier != nil:
			s.barrier.hold(heldFrame{e: e, f: out, track: track}, r.reg.opt.JoinBuffer)
		case !s.tells(e):
			track.Enqueued(s.conn)
			s.sink.Send(out)
			n++
		}
	}
	track.Sent(len(r.seats))
	if e.Kind == bus.Chat {
		ru.meters.delivered(n, e.Time, traceOf(e))
	}
	if f.Chat() {
		r.reg.stats.Delivered.Add(n)
	}
	r.flushWaiting(false)
}

// note keeps what the room knows of itself in step with the stream. mu is held.
func (r *Room) note(e *bus.Event) {
	switch e.Kind {
	case bus.Joined, bus.Left:
		if e.Version >= r.version {
			r.count, r.version = e.Count, e.Version
		}
	case bus.Resync: // a list begins anew, and its versions may too
		r.count, r.version = e.Count, e.Version
	case bus.Notice:
		switch e.Notice {
		case bus.NoticeEpoch:
			// Its numbers go on from To, or begin anew where everything was lost.
			holds := e.To
			if e.Anew {
				holds = 0
			}
			for i := range r.passed {
				r.passed[i].holds = min(r.passed[i].holds, holds)
			}
			r.passed = append(r.passed[max(0, len(r.passed)-maxPassed+1):], fork{r.pos.Epoch, holds})
			r.pos = bus.Position{Epoch: e.Epoch, Seq: min(r.pos.Seq, holds)}
			r.version = 0
		case bus.NoticeLost:
			if e.To > r.pos.Seq && e.Epoch == r.pos.Epoch {
				r.pos.Seq = e.To
			}
		case bus.NoticeGap:
		}
	default:
		if e.Sequenced() {
			r.pos = e.Position
		}
		r.remember(e)
	}
}

// remember keeps the newest chats for filters that want them. mu is held.
func (r *Room) remember(e *bus.Event) {
	ru := r.rules.Load()
	if ru.filters == nil {
		r.recent = nil
		return
	}
	most := ru.filters.Recent()
	switch {
	case most == 0 || ru.policy.History == nil:
		r.recent = nil
	case e.Kind == bus.Chat:
		if len(r.recent) >= most {
			r.recent = slices.Delete(r.recent, 0, len(r.recent)-most+1)
		}
		r.recent = append(r.recent, e)
	case e.Kind == bus.Redacted:
		r.recent = slices.DeleteFunc(r.recent, func(o *bus.Event) bool { return o.ID == e.Target })
	}
}

// lately lists the newest chats, at most most of them.
func (r *Room) lately(most int) []*bus.Event {
	if most == 0 {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.recent[max(0, len(r.recent)-most):])
}

// after calls done when everything up to pos has been queued to the seats here:
// at once when it has, or when nobody here follows the stream. mu is held.
func (r *Room) after(pos bus.Position, done func()) {
	if pos.Seq == 0 || !r.placed || r.reached(pos) {
		done()
		return
	}
	i := len(r.waiting)
	for i > 0 && r.waiting[i-1].pos.Seq > pos.Seq {
		i--
	}
	r.waiting = append(r.waiting, waiter{})
	copy(r.waiting[i+1:], r.waiting[i:])
	r.waiting[i] = waiter{pos, done}
}

// fork is an epoch that another one has followed.
type fork struct {
	epoch string
	holds uint64 // its last seq that is still so; what was beyond is void
}

// maxPassed is how many epochs a room remembers. Acks of older ones have an
// unknown outcome.
const maxPassed = 8

// reached reports whether pos has been queued to the seats, or never will be:
// what holds of an epoch that has passed comes by under the new one. mu is held.
func (r *Room) reached(pos bus.Position) bool {
	if pos.Epoch == r.pos.Epoch || r.passing(pos.Epoch) != nil {
		return pos.Seq <= r.pos.Seq || r.void(pos)
	}
	return false // of an epoch that is still to come
}

// void reports whether pos is of what a fork dropped. mu is held.
func (r *Room) void(pos bus.Position) bool {
	f := r.passing(pos.Epoch)
	return f != nil && pos.Epoch != r.pos.Epoch && pos.Seq > f.holds
}

// passing finds an epoch among those that have passed. mu is held.
func (r *Room) passing(epoch string) *fork {
	for i := range r.passed {
		if r.passed[i].epoch == epoch {
			return &r.passed[i]
		}
	}
	return nil
}

// flushWaiting releases the acks whose place has been reached. mu is held.
func (r *Room) flushWaiting(all bool) {
	n := 0
	for _, w := range r.waiting {
		if all || r.reached(w.pos) {
			w.done()
			continue
		}
		r.waiting[n] = w
		n++
	}
	clear(r.waiting[n:])
	r.waiting = r.waiting[:n]
}
