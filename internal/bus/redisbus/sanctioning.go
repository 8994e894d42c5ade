package redisbus

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/wsrelay/relay/internal/bus"
)

// Sanction runs a script that stores and pushes. Of one that lasts it is
// repeated a few times when no answer comes: the id makes that harmless.
func (b *Bus) Sanction(ctx context.Context, sanction *bus.Sanction) (*bus.Sanction, error) {
	s, err := b.sanctions.sentence(ctx, sanction)
	if err != nil {
		return nil, fmt.Errorf("sanctioning %q: %w", sanction.Member, err)
	}
	return s, nil
}

func (s *sanctions) sentence(ctx context.Context, given *bus.Sanction) (*bus.Sanction, error) {
	if err := s.lane.ready(); err != nil {
		return nil, err
	}
	sanction := *given
	if sanction.ID == "" {
		sanction.ID = bus.NewSanctionID()
	}
	if err := sanction.Check(); err != nil {
		return nil, err
	}
	text, err := encodeSanction(&sanction)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", bus.ErrBadSanction, err)
	}
	left := int64(0)
	if sanction.Until != 0 {
		left = max(1, sanction.Until-time.Now().UnixMilli())
	}
	entry, err := s.change(ctx, sanction.Kind.Lasts(), func() (string, error) {
		return s.bus.scripts.sanction.Run(ctx, s.bus.client, []string{s.bus.keys.sanctions},
			sanction.ID, text, left, flag(sanction.Kind.Lasts()), s.bus.opts.MaxSanctions, rand.Text()[:12]).Text()
	})
	if err == nil && entry == "F" {
		err = fmt.Errorf("%w: %d are in force", bus.ErrTooManySanctions, s.bus.opts.MaxSanctions)
	}
	if err != nil {
		return nil, err
	}
	return entryOf(sanction.ID, entry)
}

// Lift is a script too, which is not repeated: a second time it would find
// nothing to lift.
func (b *Bus) Lift(ctx context.Context, id string) (*bus.Sanction, error) {
	s, err := b.sanctions.lift(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("lifting sanction %q: %w", id, err)
	}
	return s, nil
}

func (s *sanctions) lift(ctx context.Context, id string) (*bus.Sanction, error) {
	if err := s.lane.ready(); err != nil {
		return nil, err
	}
	entry, err := s.change(ctx, false, func() (string, error) {
		return s.bus.scripts.lift.Run(ctx, s.bus.client, []string{s.bus.keys.sanctions}, id, rand.Text()[:12]).Text()
	})
	if err == nil && entry == "N" {
		err = bus.ErrNoSanction
	}
	if err != nil {
		return nil, err
	}
	return entryOf(id, entry)
}

// change runs a script a few times where it is known not to have run, and where
// it may have only if it may be repeated.
func (s *sanctions) change(ctx context.Context, repeat bool, run func() (string, error)) (reply string, err error) {
	var lost error
	err = s.lane.again(ctx, func() (err error) {
		reply, err = run()
		if !repeat && fateOf(err) == unknown {
			lost, err = err, nil
		}
		return err
	})
	if err == nil {
		err = lost
	}
	return reply, failure(err)
}

// entryOf takes the entry apart that a script replied.
func entryOf(id, entry string) (*bus.Sanction, error) {
	if len(entry) <= len(id) {
		return nil, fmt.Errorf("%w: unexpected reply of a script", bus.ErrUnknownOutcome)
	}
	s, err := decodeSanction(id, entry[len(id)+1:])
	if err != nil {
		return nil, fmt.Errorf("%w: unexpected reply of a script: %w", bus.ErrUnknownOutcome, err)
	}
	return s, nil
}

// Sanctions answers from this instance's copy.
func (b *Bus) Sanctions(_ context.Context, cursor string, limit int) (bus.SanctionPage, error) {
	if err := b.open(); err != nil {
		return bus.SanctionPage{}, fmt.Errorf("listing sanctions: %w", err)
	}
	return b.sanctions.table.Page(cursor, limit, b.sanctions.now()), nil
}

// InForce answers from this instance's copy.
func (b *Bus) InForce(member, ip, room string) []*bus.Sanction {
	table := &b.sanctions.table
	if table.Empty() {
		return nil
	}
	return table.InForce(member, ip, room, b.sanctions.now())
}
