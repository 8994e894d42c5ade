package bustest

import (
	"errors"
	"slices"
	"time"

	"github.com/wsrelay/relay/internal/bus"
)

func faultContracts() []contract {
	return []contract{
		{"AnInterruptionLeavesNoHole", 2, interruptedHistory},
		{"TheLastMessageBeforeSilenceIsFound", 2, interruptedSilence},
		{"AnInterruptedPlainRoomIsToldOfAGap", 2, interruptedPlain},
		{"AnInterruptionBeyondHistoryIsToldAsLost", 2, interruptedBeyond},
		{"AFlushIsToldAsANewEpoch", 2, flushedEpoch},
		{"MembersComeBackAfterAFlushSilently", 2, flushedPresence},
		{"AwayIsUnavailableAndHealsByItself", 2, away},
		{"ALeaveWhileAwayIsNotForgotten", 2, leaveWhileAway},
		{"CloseWhileAwayResolvesReceipts", 1, closeWhileAway},
		{"AKilledInstancesMembersLeaveOnce", 2, killed},
		{"ShadowsDoNotDisturbHealing", 2, shadowedInterrupted},
	}
}

func (s *session) need(hook bool, name string) {
	s.Helper()
	if !hook {
		s.Skipf("the backend cannot %s", name)
	}
}

// stream publishes about a thousand messages a second until stop is closed; the
// function it returns waits and gives the results of those without an error.
func (s *session) stream(n *node, room string, keep bus.Retention, stop <-chan struct{}) func() []bus.Result {
	var results []bus.Result
	done := s.beside(func() {
		pace := time.NewTicker(time.Millisecond)
		defer pace.Stop()
		for {
			select {
			case <-stop:
				return
			case <-pace.C:
			}
			result, err := n.publish(chat(room, "speaker", `1`, keep), 3*s.caps.Timeout)
			if errors.Is(err, bus.ErrClosed) {
				return
			}
			if err == nil && result.Err == nil {
				results = append(results, result)
			}
		}
	})
	return func() []bus.Result { <-done; return results }
}

// awaitMore waits for n messages more than there are.
func (s *session) awaitMore(n *node, room string, more int) {
	s.Helper()
	events, _ := n.tap.room(room)
	s.await(n, room, "more messages", atLeast(len(of(events, bus.Chat))+more))
}

// awaitLast waits until an instance has the last of what was sent to a room, and
// checks that it has what lies before that too, or was told of a loss.
func (s *session) awaitLast(n *node, room string, sent []bus.Result) []*bus.Event {
	s.Helper()
	last := sent[len(sent)-1].Seq
	events := s.await(n, room, "the last message", func(events []*bus.Event) bool {
		return slices.ContainsFunc(events, func(e *bus.Event) bool { return e.Seq == last })
	})
	s.consecutive(n, events, 1)
	return events
}

// awaitHealed is awaitLast for all instances, none of which may be told of a loss:
// history held everything. It returns what each was given.
func (s *session) awaitHealed(room string, sent []bus.Result) (events [][]*bus.Event) {
	s.Helper()
	for _, n := range s.nodes {
		given := s.awaitLast(n, room, sent)
		if told := of(given, bus.Notice); len(told) > 0 {
			s.Errorf("instance %d: history held everything, but told%s", n.index, showAll(told))
		}
		events = append(events, given)
	}
	return events
}

// consecutive checks that the sequenced events of a room have neither hole nor
// repeat, a lost notice counting for what it names.
func (s *session) consecutive(n *node, events []*bus.Event, next uint64) {
	s.Helper()
	for _, e := range events {
		switch {
		case e.Kind == bus.Notice && e.Notice == bus.NoticeLost:
			if e.From != next || e.To < e.From {
				s.Fatalf("instance %d: told of %d to %d as lost when %d was next", n.index, e.From, e.To, next)
			}
			next = e.To + 1
		case e.Sequenced():
			if e.Seq != next {
				s.Fatalf("instance %d: got seq %d when %d was next; delivered:%s", n.index, e.Seq, next, showAll(events))
			}
			next++
		}
	}
}

func interruptedHistory(s *session) {
	s.need(s.backend.Interrupt != nil, "be interrupted")
	keep := bus.Retention{Keep: 100_000, For: time.Hour}
	s.subscribeAll("room", true)
	stop := make(chan struct{})
	wait := s.stream(s.nodes[0], "room", keep, stop)
	for range 5 {
		s.backend.Interrupt(1)
		s.awaitMore(s.nodes[1], "room", 50)
	}
	close(stop)
	s.awaitHealed("room", wait())
}

// interruptedSilence publishes once while the receiver is cut off, and never
// again: only a look at the room's position can find it.
func interruptedSilence(s *session) {
	s.need(s.backend.Interrupt != nil, "be interrupted")
	s.subscribeAll("room", true)
	s.say(s.nodes[0], "room", 1, kept)
	s.await(s.nodes[1], "room", "a message", atLeast(1))
	s.backend.Interrupt(1)
	s.say(s.nodes[0], "room", 1, kept)
	s.consecutive(s.nodes[1], s.await(s.nodes[1], "room", "the last message", atLeast(2)), 1)
}

func interruptedPlain(s *session) {
	s.need(s.backend.Interrupt != nil, "be interrupted")
	s.subscribeAll("room", false)
	s.say(s.nodes[0], "room", 1, plain)
	s.await(s.nodes[1], "room", "a message", atLeast(1))
	s.backend.Interrupt(1)
	events := s.await(s.nodes[1], "room", "a notice", func(events []*bus.Event) bool { return len(of(events, bus.Notice)) > 0 })
	if e := of(events, bus.Notice)[0]; e.Notice != bus.NoticeGap {
		s.Errorf("told %s", show(e))
	}
	// And it works again.
	s.say(s.nodes[0], "room", 1, plain)
	s.await(s.nodes[1], "room", "a message after the gap", atLeast(2))
}

func interruptedBeyond(s *session) {
	s.need(s.backend.Interrupt != nil, "be interrupted")
	keep := bus.Retention{Keep: 5, For: time.Hour}
	s.subscribeAll("room", true)
	stop := make(chan struct{})
	wait := s.stream(s.nodes[0], "room", keep, stop)
	s.awaitMore(s.nodes[1], "room", 20)
	s.backend.Interrupt(1)
	s.awaitMore(s.nodes[1], "room", 50)
	close(stop)
	s.awaitLast(s.nodes[1], "room", wait())
}

func flushedEpoch(s *session) {
	s.need(s.backend.Flush != nil, "be flushed")
	s.subscribeAll("room", true)
	s.enter(s.nodes[0], entry("room", "m", kept))
	old := s.say(s.nodes[0], "room", 3, kept)
	for _, n := range s.nodes {
		s.await(n, "room", "3 messages", atLeast(3))
	}
	s.backend.Flush()
	first := s.publish(s.nodes[0], chat("room", "m", `"after"`, kept))
	if first.Epoch == old[0].Epoch {
		s.Errorf("the epoch outlived its data: %+v", first.Position)
	}
	for _, n := range s.nodes {
		events := s.await(n, "room", "the message after", atLeast(4))
		chats := of(events, bus.Chat)
		notice := slices.IndexFunc(events, func(e *bus.Event) bool { return e.Kind == bus.Notice && e.Notice == bus.NoticeEpoch })
		after := index(events, first.ID)
		if notice < 0 || notice > after || events[notice].Epoch != first.Epoch || chats[3].Position != first.Position {
			s.Errorf("instance %d: delivered%s", n.index, showAll(events))
		}
	}
	entered := s.enter(s.nodes[1], resuming("room", "other", kept, old[2].Position))
	if entered.Recovered {
		s.Errorf("resumed over the flush: %+v", entered)
	}
}

func flushedPresence(s *session) {
	s.need(s.backend.Flush != nil, "be flushed")
	s.subscribeAll("room", true)
	s.enter(s.nodes[0], entry("room", "a", kept))
	s.enter(s.nodes[1], entry("room", "b", kept))
	s.backend.Flush()
	s.eventually("both to be present again", func() bool {
		page, err := s.nodes[0].Members(s.ctx, "room", "", 10)
		return err == nil && page.Count == 2 && len(page.Members) == 2
	})
	s.expectChanges("room", "a", kept, bus.Joined)
	s.expectChanges("room", "b", kept, bus.Joined)
}

func away(s *session) {
	s.need(s.backend.Down != nil && s.backend.Up != nil, "go away")
	s.subscribeAll("room", true)
	s.enter(s.nodes[0], entry("room", "m", kept))
	s.say(s.nodes[0], "room", 3, kept)
	for _, n := range s.nodes {
		s.await(n, "room", "3 messages", atLeast(3))
	}
	s.backend.Down()
	for _, n := range s.nodes {
		s.eventually("ill health", func() bool { return n.Health() != nil })
		_, err := n.Enter(s.ctx, entry("room", "late", kept))
		if !errors.Is(err, bus.ErrUnavailable) && !errors.Is(err, bus.ErrUnknownOutcome) {
			s.Errorf("instance %d: entering: %v", n.index, err)
		}
		result, err := n.publish(chat("room", "m", `1`, kept), 3*s.caps.Timeout)
		if err == nil {
			err = result.Err
		}
		if !errors.Is(err, bus.ErrUnavailable) && !errors.Is(err, bus.ErrUnknownOutcome) {
			s.Errorf("instance %d: publishing: %v", n.index, err)
		}
	}
	s.backend.Up()
	for _, n := range s.nodes {
		s.eventually("health", func() bool { return n.Health() == nil })
	}
	last := s.publish(s.nodes[0], chat("room", "m", `"back"`, kept))
	for _, n := range s.nodes {
		events := s.await(n, "room", "the message after", func(events []*bus.Event) bool { return index(events, last.ID) >= 0 })
		s.consecutive(n, events, 1)
	}
	s.expectChanges("room", "m", kept, bus.Joined)
}

func leaveWhileAway(s *session) {
	s.need(s.backend.Down != nil && s.backend.Up != nil, "go away")
	s.subscribeAll("room", true)
	s.enter(s.nodes[0], entry("room", "m", kept))
	s.backend.Down()
	err := s.nodes[0].Leave(s.ctx, &bus.Leaving{Room: "room", Member: "m"})
	if err != nil && !errors.Is(err, bus.ErrUnavailable) && !errors.Is(err, bus.ErrUnknownOutcome) {
		s.Errorf("leaving: %v", err)
	}
	s.backend.Up()
	s.eventually("the member to be gone", func() bool {
		page, err := s.nodes[1].Members(s.ctx, "room", "", 10)
		return err == nil && page.Count == 0
	})
}

func closeWhileAway(s *session) {
	s.need(s.backend.Down != nil && s.backend.Up != nil, "go away")
	n := s.nodes[0]
	s.say(n, "room", 1, kept)
	s.backend.Down()
	defer s.backend.Up()
	var sent []*receipt
	for range 10 {
		if r, err := n.send(chat("room", "m", `1`, kept)); err == nil {
			sent = append(sent, r)
		} else if !errors.Is(err, bus.ErrUnavailable) {
			s.Errorf("publishing: %v", err)
		}
	}
	s.nodes = nil // Close may complain that not everything went out, once or each time
	if err := n.Close(s.ctx); err != nil {
		s.Logf("closing: %v", err)
	}
	if err := n.breach(); err != nil {
		s.Error(err)
	}
	for i, r := range sent {
		if r.calls() != 1 {
			s.Fatalf("message %d: receipt called %d times when Close returned", i, r.calls())
		}
		if !errors.Is(r.result.Err, bus.ErrUnavailable) && !errors.Is(r.result.Err, bus.ErrUnknownOutcome) {
			s.Errorf("message %d: receipt %+v", i, r.result)
		}
	}
}

func killed(s *session) {
	s.need(s.backend.Kill != nil && s.caps.Lease > 0, "lose an instance")
	a := s.nodes[0]
	s.subscribe(a, "room", true)
	s.enter(s.nodes[1], entry("room", "both", kept))
	s.enter(a, entry("room", "both", kept))
	s.enter(s.nodes[1], entry("room", "ghost", kept))
	s.backend.Kill(1)
	s.caps.Timeout += 2 * s.caps.Lease
	s.awaitLeft(a, "room", "ghost")
	dead := s.nodes[1]
	s.nodes = s.nodes[:1]
	defer func() { _ = dead.Close(s.ctx) }() // it has nothing to say any more
	s.expectChanges("room", "ghost", kept, bus.Joined, bus.Left)
	s.expectChanges("room", "both", kept, bus.Joined)
}
