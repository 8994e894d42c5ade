package gateway

import (
	"github.com/wsrelay/relay/internal/bus"
	"github.com/wsrelay/relay/internal/room"
	"github.com/wsrelay/relay/internal/wire"
)

// Sanctioned tells every session that a sanction for all rooms concerns, and
// ends those of who is kicked or banned. It does not block.
func (g *Gateway) Sanctioned(s *bus.Sanction) {
	f := room.SanctionFrame(s)
	for _, ses := range g.all() {
		a := ses.actor.Load()
		if a == nil || !room.Concerns(s, a) {
			continue
		}
		ses.conn.Send(f)
		switch s.Kind {
		case bus.Kick:
			ses.end(wire.CloseForbidden, "kicked")
		case bus.Ban:
			ses.end(wire.CloseForbidden, "banned")
		}
	}
}

// all lists the sessions of the moment.
func (g *Gateway) all() []*session {
	g.mu.Lock()
	defer g.mu.Unlock()
	list := make([]*session, 0, len(g.sessions))
	for s := range g.sessions {
		list = append(list, s)
	}
	return list
}
