package membus

import (
	"context"
	"fmt"
	"time"

	"github.com/wsrelay/relay/internal/bus"
)

// History of a room that does not exist or never kept any is ErrNoHistory.
func (b *Bus) History(_ context.Context, q bus.HistoryQuery) (bus.HistoryPage, error) {
	var page bus.HistoryPage
	err := b.kept(q.Room, func(r *room) error {
		page = bus.HistoryPage{Position: r.position(), Events: r.page(q)}
		return nil
	})
	if err != nil {
		return bus.HistoryPage{}, fmt.Errorf("reading history of room %q: %w", q.Room, err)
	}
	return page, nil
}

// Redact is immediate.
func (b *Bus) Redact(_ context.Context, q *bus.Redaction) (at bus.Position, err error) {
	err = b.kept(q.Room, func(r *room) error {
		at, err = r.redact(q, time.Now())
		return err
	})
	if err != nil {
		return bus.Position{}, fmt.Errorf("redacting in room %q: %w", q.Room, err)
	}
	return at, nil
}

// kept calls f with a room that keeps history, its shard locked.
func (b *Bus) kept(name string, f func(*room) error) error {
	if err := b.begin(); err != nil {
		return err
	}
	defer b.end()
	s := b.broker.shard(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.rooms[name]
	if r == nil || r.epoch == "" {
		return bus.ErrNoHistory
	}
	return f(r)
}
