package membus

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/wsrelay/relay/internal/bus"
)

// sanctions are the Broker's. They are kept in memory: a restart forgets them.
type sanctions struct {
	table bus.SanctionTable

	mu      sync.Mutex // the order of changes; held while handlers are told
	hearing []*Bus     // started and not closed; guarded by mu
}

// Sanction is in force everywhere when it returns.
func (b *Bus) Sanction(_ context.Context, sanction *bus.Sanction) (*bus.Sanction, error) {
	s, err := b.sanction(sanction)
	if err != nil {
		return nil, fmt.Errorf("sanctioning %q: %w", sanction.Member, err)
	}
	return s, nil
}

func (b *Bus) sanction(sanction *bus.Sanction) (*bus.Sanction, error) {
	if err := b.begin(); err != nil {
		return nil, err
	}
	defer b.end()
	s := *sanction
	if s.ID == "" {
		s.ID = bus.NewSanctionID()
	}
	if err := s.Check(); err != nil {
		return nil, err
	}
	all := &b.broker.sanctions
	all.mu.Lock()
	defer all.mu.Unlock()
	s.Issued = time.Now().UnixMilli()
	if s.Kind.Lasts() {
		all.table.Purge(s.Issued)
		if first := all.table.Find(s.ID); first != nil {
			return first, nil
		}
		if all.table.Len() >= b.broker.opts.MaxSanctions {
			return nil, fmt.Errorf("%w: %d are in force", bus.ErrTooManySanctions, all.table.Len())
		}
		all.table.Add(&s)
	}
	for _, other := range all.hearing {
		(*other.handler.Load()).Sanctioned(&s)
	}
	return &s, nil
}

// Lift takes effect everywhere before it returns.
func (b *Bus) Lift(_ context.Context, id string) (*bus.Sanction, error) {
	if err := b.begin(); err != nil {
		return nil, fmt.Errorf("lifting sanction %q: %w", id, err)
	}
	defer b.end()
	all := &b.broker.sanctions
	all.mu.Lock()
	defer all.mu.Unlock()
	all.table.Purge(time.Now().UnixMilli())
	s := all.table.Remove(id)
	if s == nil {
		return nil, fmt.Errorf("lifting sanction %q: %w", id, bus.ErrNoSanction)
	}
	for _, other := range all.hearing {
		(*other.handler.Load()).Lifted(s)
	}
	return s, nil
}

// Sanctions of a started bus never fails.
func (b *Bus) Sanctions(_ context.Context, cursor string, limit int) (bus.SanctionPage, error) {
	if err := b.begin(); err != nil {
		return bus.SanctionPage{}, fmt.Errorf("listing sanctions: %w", err)
	}
	defer b.end()
	return b.broker.sanctions.table.Page(cursor, limit, time.Now().UnixMilli()), nil
}

// InForce answers before Start and after Close as well.
func (b *Bus) InForce(member, ip, room string) []*bus.Sanction {
	table := &b.broker.sanctions.table
	if table.Empty() {
		return nil
	}
	return table.InForce(member, ip, room, time.Now().UnixMilli())
}

func (a *sanctions) attach(b *Bus) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.hearing = append(a.hearing, b)
}

func (a *sanctions) detach(b *Bus) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.hearing = slices.DeleteFunc(a.hearing, func(other *Bus) bool { return other == b })
}
