package bustest

import (
	"errors"
	"slices"
	"time"

	"github.com/wsrelay/relay/internal/bus"
)

func sanctionFaultContracts() []contract {
	return []contract{
		{"ASanctionMissedIsFound", 2, sanctionInterrupted},
		{"SanctionsHoldWhileAway", 2, sanctionAway},
		{"AFlushEndsSanctionsAndIsTold", 2, sanctionFlushed},
	}
}

func sanctionInterrupted(s *session) {
	s.need(s.backend.Interrupt != nil, "be interrupted")
	before := s.sanction(s.nodes[0], against("m", "", bus.Mute))
	s.tellsAll(before.ID, false)
	for range 3 {
		s.backend.Interrupt(1)
		missed := s.sanction(s.nodes[0], against("m", "", bus.Ban))
		s.tellsAll(missed.ID, false)
		s.backend.Interrupt(1)
		s.lift(s.nodes[0], missed.ID)
		s.tellsAll(missed.ID, false, true)
	}
	s.tellsAll(before.ID, false)
	if got := s.nodes[1].knows("m", "", ""); !slices.Equal(got, []string{before.ID}) {
		s.Errorf("in force are %v", got)
	}
}

func sanctionAway(s *session) {
	s.need(s.backend.Down != nil && s.backend.Up != nil, "go away")
	known := s.sanction(s.nodes[0], against("m", "", bus.Ban))
	brief := against("brief", "", bus.Ban)
	brief.Until = time.Now().Add(s.caps.Short).UnixMilli()
	ending := s.sanction(s.nodes[0], brief)
	s.tellsAll(known.ID, false)
	s.tellsAll(ending.ID, false)
	s.backend.Down()
	for _, n := range s.nodes {
		s.eventually("ill health", func() bool { return n.Health() != nil })
		if got := n.knows("m", "", "room"); !slices.Equal(got, []string{known.ID}) {
			s.Errorf("instance %d: in force are %v while away", n.index, got)
		}
		s.eventually("a sanction to end while away", func() bool { return len(n.InForce("brief", "", "")) == 0 })
		if _, err := n.Sanction(s.ctx, against("late", "", bus.Ban)); !errors.Is(err, bus.ErrUnavailable) && !errors.Is(err, bus.ErrUnknownOutcome) {
			s.Errorf("instance %d: sanctioning: %v", n.index, err)
		}
		if _, err := n.Lift(s.ctx, "none"); !errors.Is(err, bus.ErrUnavailable) && !errors.Is(err, bus.ErrUnknownOutcome) {
			s.Errorf("instance %d: lifting: %v", n.index, err)
		}
		if page, err := n.Sanctions(s.ctx, "", 10); err != nil || page.Count != 1 {
			s.Errorf("instance %d: listed %+v, %v", n.index, page, err)
		}
	}
	s.backend.Up()
	for _, n := range s.nodes {
		s.eventually("health", func() bool { return n.Health() == nil })
	}
	after := s.sanction(s.nodes[1], against("m", "", bus.Mute))
	s.tellsAll(after.ID, false)
	s.tellsAll(known.ID, false)
}

func sanctionFlushed(s *session) {
	s.need(s.backend.Flush != nil, "be flushed")
	old := s.sanction(s.nodes[0], against("m", "", bus.Ban))
	s.tellsAll(old.ID, false)
	s.backend.Flush()
	fresh := s.sanction(s.nodes[1], against("m", "", bus.Mute))
	s.tellsAll(old.ID, false, true)
	s.tellsAll(fresh.ID, false)
	for _, n := range s.nodes {
		if got := n.knows("m", "", ""); !slices.Equal(got, []string{fresh.ID}) {
			s.Errorf("instance %d: in force are %v, want %s alone", n.index, got, fresh.ID)
		}
	}
	s.backend.Flush() // and with nothing to follow it
	s.tellsAll(fresh.ID, false, true)
}
