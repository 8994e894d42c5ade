package bustest

import (
	"context"
	"sync"
	"time"

	"github.com/wsrelay/relay/internal/bus"
)

// remoteVerdicts is a remote's copy of the sanctions: what it was told, in
// order, and what it has yet to hear because it is cut off.
type remoteVerdicts struct {
	table bus.SanctionTable

	mu     sync.Mutex
	missed []func()
}

func (r *remote) hears(f func()) {
	r.mu.Lock()
	cut := r.cut
	r.mu.Unlock()
	r.verdicts.mu.Lock()
	defer r.verdicts.mu.Unlock()
	if cut {
		r.verdicts.missed = append(r.verdicts.missed, f)
		return
	}
	f()
}

// hearAll catches up. r.mu is held.
func (r *remote) hearAll() {
	r.verdicts.mu.Lock()
	defer r.verdicts.mu.Unlock()
	if r.net.flaw != "misses sanctions" {
		for _, f := range r.verdicts.missed {
			f()
		}
	}
	r.verdicts.missed = nil
}

func (r *remote) Sanctioned(s *bus.Sanction) {
	r.hears(func() {
		if s.Kind.Lasts() {
			r.verdicts.table.Add(s)
		}
		r.handler.Sanctioned(s)
	})
}

func (r *remote) Lifted(s *bus.Sanction) {
	r.hears(func() {
		r.verdicts.table.Remove(s.ID)
		r.handler.Lifted(s)
	})
}

// flushed drops the copy, and tells so.
func (r *remote) flushed() {
	if r.net.flaw == "keeps flushed sanctions" {
		return
	}
	for _, id := range r.verdicts.table.IDs() {
		r.Lifted(r.verdicts.table.Find(id))
	}
}

func (r *remote) Sanction(ctx context.Context, s *bus.Sanction) (*bus.Sanction, error) {
	if r.net.away() {
		if r.net.flaw == "sanctions for later" {
			return s, nil
		}
		return nil, errAway
	}
	return r.inner().Sanction(ctx, s)
}

func (r *remote) Lift(ctx context.Context, id string) (*bus.Sanction, error) {
	if r.net.away() {
		return nil, errAway
	}
	return r.inner().Lift(ctx, id)
}

func (r *remote) Sanctions(ctx context.Context, cursor string, limit int) (bus.SanctionPage, error) {
	return r.inner().Sanctions(ctx, cursor, limit)
}

func (r *remote) InForce(member, ip, room string) []*bus.Sanction {
	if r.net.away() && r.net.flaw == "forgets sanctions while away" {
		return nil
	}
	return r.verdicts.table.InForce(member, ip, room, time.Now().UnixMilli())
}
