package room

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/wsrelay/relay/internal/bus"
	"github.com/wsrelay/relay/internal/wire"
)

// Sanction is one of these kinds that is in force against an actor in a room, or
// everywhere; nil when there is none. It asks this instance's memory alone.
func (g *Registry) Sanction(a *Actor, roomID string, kinds ...bus.SanctionKind) *bus.Sanction {
	for _, s := range g.bus.InForce(a.Identity.ID, a.Bound, roomID) {
		if slices.Contains(kinds, s.Kind) {
			return s
		}
	}
	return nil
}

// sanctioned refuses what a sanction forbids.
func (g *Registry) sanctioned(a *Actor, roomID string, kinds ...bus.SanctionKind) *wire.Error {
	s := g.Sanction(a, roomID, kinds...)
	if s == nil {
		return nil
	}
	g.stats.Refused.Add(1)
	return SanctionError(s, roomID)
}

// SanctionError is what a user is told who may not do something for the sake of
// a sanction.
func SanctionError(s *bus.Sanction, roomID string) *wire.Error {
	e := &wire.Error{Code: wire.Muted, RoomID: roomID, Message: "you may not write here for now", Reason: s.Reason}
	if s.Kind == bus.Ban {
		e.Code, e.Message = wire.Banned, "you may not be here"
	}
	if s.Until != 0 {
		e.Retry, e.RetryAfter = true, max(0, time.Until(time.UnixMilli(s.Until)))
	}
	return e
}

// SanctionFrame is the event that tells a user of a sanction.
func SanctionFrame(s *bus.Sanction) *wire.Frame {
	return (&wire.Sanction{RoomID: s.Room, Kind: s.Kind.String(), Until: s.Until, Reason: s.Reason}).Frame()
}

// Concerns reports whether a sanction is against an actor.
func Concerns(s *bus.Sanction, a *Actor) bool {
	return s.Member == a.Identity.ID || s.IP != "" && s.IP == a.Bound
}

// Sanctioned implements bus.Handler: somebody, here or on another instance,
// decided something about a user.
func (g *Registry) Sanctioned(s *bus.Sanction) {
	if s.Room == "" {
		if g.opt.Everywhere != nil {
			g.opt.Everywhere(s)
		}
		return
	}
	sh := g.shardOf(s.Room)
	sh.mu.RLock()
	r := sh.rooms[s.Room]
	sh.mu.RUnlock()
	if r == nil {
		return
	}
	f := SanctionFrame(s)
	var out []*Seat
	for _, seat := range r.snapshot() {
		if !Concerns(s, seat.actor.Load()) {
			continue
		}
		seat.sink.Send(f)
		if s.Kind == bus.Kick || s.Kind == bus.Ban {
			seat.speak().over.Store(true) // now, not when its turn comes
			out = append(out, seat)
		}
	}
	switch s.Kind {
	case bus.Kick:
		g.expel(out, ReasonKicked)
	case bus.Ban:
		g.expel(out, ReasonBanned)
	}
}

// Lifted implements bus.Handler. Whoever was muted finds out with the next
// message, whoever was banned with the next join.
func (g *Registry) Lifted(*bus.Sanction) {}

// maxExpelling is how many of those whom one sanction concerns leave at a time.
const maxExpelling = 64

// expel takes seats away for a sanction, without grace: all of them, however many
// there are and whatever else is under way. The time that their messages are
// waited for is that of all together.
func (g *Registry) expel(seats []*Seat, reason string) {
	until := time.Now().Add(asideTimeout)
	var next atomic.Int64
	for range min(len(seats), maxExpelling) {
		g.judging.Go(func() {
			ctx, cancel := context.WithDeadline(context.Background(), until)
			defer cancel()
			for i := next.Add(1); i <= int64(len(seats)); i = next.Add(1) {
				if s := seats[i-1]; s.leave(ctx, bus.Leaving{Reason: reason}) {
					s.sink.Evicted(s, reason)
				}
			}
		})
	}
}
