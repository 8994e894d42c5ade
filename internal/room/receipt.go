package room

import (
	"slices"

	"github.com/wsrelay/relay/internal/bus"
	"github.com/wsrelay/relay/plugins/filter"
)

// receipt waits for the fate of one message. Its ack belongs into the place that
// the message has in the sender's own stream, and two things tell of it, in
// either order: the bus's answer, and the message itself coming by. In a room
// with history the message coming by is the proof that it is stored, and the
// place for the ack; the answer alone counts where the message will not come by
// (a plain room, a duplicate, an error, an interruption).
type receipt struct {
	seat    *Seat
	ack     Ack
	event   *bus.Event  // as it was published
	changed []byte      // what filters made of the message; nil: nothing
	after   *afterwards // wants to know where the message is; nil: nobody does
	done    bool        // guarded by Room.mu
	then    []func()    // what is due right after this ack; guarded by Room.mu
	tale    tale
}

// begin counts a message on its way, end takes it off: Drained waits for it.
func (v *voice) begin() {
	v.mu.Lock()
	v.inFlight++
	v.mu.Unlock()
}

func (v *voice) end() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.inFlight--; v.inFlight == 0 && v.drained != nil {
		close(v.drained)
		v.drained = nil
	}
}

// expect notes a message that is about to be published; false: its seat is gone,
// and it must not be.
func (s *Seat) expect(p *receipt) bool {
	v := s.speak()
	r := s.room
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.index < 0 {
		return false
	}
	v.begin()
	v.pending = append(v.pending, p)
	return true
}

// withdraw forgets a message that the bus did not take.
func (s *Seat) withdraw(p *receipt) {
	r := s.room
	r.mu.Lock()
	defer r.mu.Unlock()
	p.settle(nil)
}

// came acks the seat's own message as it comes by; false when nobody waits for
// that any more. Room.mu is held.
func (s *Seat) came(e *bus.Event) bool {
	v := s.voice.Load()
	if v == nil {
		return false
	}
	for _, p := range v.pending {
		if p.event.ID == e.ID {
			p.resolve(bus.Result{Position: e.Position, ID: e.ID, Time: e.Time}, (*receipt).accept)
			return true
		}
	}
	return false
}

// Published implements bus.Receipt.
func (p *receipt) Published(res bus.Result) {
	r := p.seat.room
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case p.done:
	case res.Err != nil:
		p.resolve(res, (*receipt).failed)
	default:
		r.after(res.Position, func() { p.resolve(res, (*receipt).stored) })
	}
}

// resolve settles a message in its place: behind what is held back for its seat,
// which may be the message itself. Room.mu is held.
func (p *receipt) resolve(res bus.Result, tell func(*receipt, bus.Result)) {
	if p.seat.barrier != nil {
		p.seat.inPlace(func() { p.settle(func() { tell(p, res) }) })
		return
	}
	p.settle(func() { tell(p, res) }) // nothing is allocated for it here
}

// settle ends a message once. Room.mu is held.
func (p *receipt) settle(tell func()) {
	if p.done {
		return
	}
	p.done = true
	v := p.seat.voice.Load()
	if i := slices.Index(v.pending, p); i >= 0 {
		v.pending = slices.Delete(v.pending, i, i+1)
	}
	if tell != nil {
		tell()
	}
	for _, f := range p.then {
		f()
	}
	v.end()
}

// stored acks the message in its place, unless a failover has dropped it since:
// then nobody knows whether it will be there in the end, and the client has to
// send it again under its key. Room.mu is held.
func (p *receipt) stored(res bus.Result) {
	r := p.seat.room
	if res.Seq == 0 || !r.placed || !r.void(res.Position) {
		p.accept(res)
		return
	}
	res.Err = bus.ErrUnknownOutcome
	p.failed(res)
}

// failed answers a message that the bus has no place for.
func (p *receipt) failed(res bus.Result) {
	g := p.seat.room.reg
	g.stats.PublishFailed.Add(1)
	e := refusal(res.Err, p.event.Room)
	g.endTale(&p.tale, p.event, &res, made(p.changed), e)
	p.ack(Accepted{}, e)
	p.after.published(res)
}

// accept acks the message, and tells who may want to take it back where it is.
func (p *receipt) accept(res bus.Result) {
	p.seat.room.reg.endTale(&p.tale, p.event, &res, made(p.changed), nil)
	p.ack(Accepted{res, p.changed}, nil)
	p.after.published(res)
}

// outsider is the receipt of somebody who has no seat: there is no stream to
// keep a place in.
type outsider struct {
	g       *Registry
	event   *bus.Event // as it was published
	ack     Ack
	changed []byte
	after   *afterwards
	tale    tale
}

// made is what filters did to a message that was published.
func made(changed []byte) filter.Action {
	if changed != nil {
		return filter.ActionModify
	}
	return filter.ActionAllow
}

// Published implements bus.Receipt.
func (o outsider) Published(res bus.Result) {
	if res.Err != nil {
		o.g.stats.PublishFailed.Add(1)
		e := refusal(res.Err, o.event.Room)
		o.g.endTale(&o.tale, o.event, &res, made(o.changed), e)
		o.ack(Accepted{}, e)
		o.after.published(res)
		return
	}
	o.g.endTale(&o.tale, o.event, &res, made(o.changed), nil)
	o.ack(Accepted{res, o.changed}, nil)
	o.after.published(res)
}
