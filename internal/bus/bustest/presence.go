package bustest

import (
	"fmt"
	"slices"
	"time"

	"github.com/wsrelay/relay/internal/bus"
)

func presenceContracts() []contract {
	return []contract{
		{"PresenceIsAnnouncedOnceOverAllInstances", 2, announcedOnce},
		{"EnterAndLeaveAreIdempotent", 2, idempotentPresence},
		{"UnannouncedMembersAreCountedAndSilent", 2, silentMembers},
		{"UnlistedMembersAreCountedOnly", 2, unlistedMembers},
		{"GraceIsUndoneSilentlyByEnterElsewhere", 2, graceUndone},
		{"GraceEndsInExactlyOneLeft", 2, graceEnds},
		{"AMemberInGraceIsStillPresent", 2, graceIsPresence},
		{"LeaveWithoutGraceEndsAGrace", 2, graceCutShort},
		{"LeaveTellsItsReason", 2, leaveReason},
		{"AboveAnnounceMaxNothingIsAnnounced", 2, announceMax},
		{"MembersPagesHoldEachMemberOnce", 2, memberPages},
		{"ClosedInstancesAreReaped", 2, reaped},
	}
}

// expectChanges compares comings and goings of a member on every instance.
func (s *session) expectChanges(room, member string, keep bus.Retention, want ...bus.Kind) {
	s.Helper()
	for i, events := range s.fence(room, keep) {
		var got []bus.Kind
		for _, e := range about(events, member) {
			got = append(got, e.Kind)
		}
		if !slices.Equal(got, want) {
			s.Fatalf("instance %d: changes of %s are %v, want %v; delivered:%s", i, member, got, want, showAll(events))
		}
	}
}

func announcedOnce(s *session) {
	for _, keep := range []bus.Retention{kept, plain} {
		room := fmt.Sprint("room-", keep.Keep)
		a, b := s.nodes[0], s.nodes[1]
		s.subscribeAll(room, keep.Kept())
		one := s.enter(a, entry(room, "m", keep))
		two := s.enter(b, entry(room, "m", keep))
		if !one.First || !one.Created || one.Count != 1 || two.First || two.Created || two.Count != 1 || two.Version != one.Version {
			s.Errorf("entered %+v, then %+v", one, two)
		}
		s.expectChanges(room, "m", keep, bus.Joined)
		s.leave(a, room, "m", 0)
		s.expectChanges(room, "m", keep, bus.Joined)
		s.leave(b, room, "m", 0)
		s.expectChanges(room, "m", keep, bus.Joined, bus.Left)
		events, _ := b.tap.room(room)
		joined, left := about(events, "m")[0], about(events, "m")[1]
		if joined.Count != 1 || left.Count != 0 || joined.Version != one.Version || left.Version <= joined.Version ||
			string(joined.Sender.User) != string(user("m")) || string(left.Sender.User) != string(user("m")) {
			s.Errorf("announced %+v and %+v", joined, left)
		}
	}
}

func idempotentPresence(s *session) {
	a := s.nodes[0]
	s.subscribeAll("room", true)
	s.leave(a, "room", "m", 0) // nobody there, no such room
	first := s.enter(a, entry("room", "m", kept))
	again := s.enter(a, entry("room", "m", kept))
	if !first.First || again.First || again.Created || again.Count != 1 || again.Version != first.Version || again.Position != first.Position {
		s.Errorf("entered %+v, then %+v", first, again)
	}
	s.leave(s.nodes[1], "room", "m", 0) // not present there
	s.expectChanges("room", "m", kept, bus.Joined)
	s.leave(a, "room", "m", 0)
	s.leave(a, "room", "m", 0)
	s.expectChanges("room", "m", kept, bus.Joined, bus.Left)
}

func silentMembers(s *session) {
	s.subscribeAll("room", true)
	e := entry("room", "quiet", kept)
	e.Announce = false
	s.enter(s.nodes[0], e)
	if entered := s.enter(s.nodes[1], entry("room", "loud", kept)); entered.Count != 2 || len(entered.Members) != 2 {
		s.Errorf("entered %+v", entered)
	}
	s.leave(s.nodes[0], "room", "quiet", 0)
	s.expectChanges("room", "quiet", kept)
	s.expectChanges("room", "loud", kept, bus.Joined)
}

func unlistedMembers(s *session) {
	s.subscribeAll("room", true)
	e := entry("room", "hidden", kept)
	e.Presence = false
	if entered := s.enter(s.nodes[0], e); !entered.First || entered.Count != 1 || len(entered.Members) != 0 {
		s.Errorf("entered %+v", entered)
	}
	page, err := s.nodes[1].Members(s.ctx, "room", "", 10)
	if err != nil || page.Count != 1 || len(page.Members) != 0 {
		s.Errorf("members %+v, %v", page, err)
	}
	e = entry("room", "third", kept)
	e.Max = 1
	if _, err := s.nodes[1].Enter(s.ctx, e); err == nil {
		s.Error("a hidden member took no place")
	}
	s.leave(s.nodes[0], "room", "hidden", 0)
	s.expectChanges("room", "hidden", kept)
}

// graceUndone proves an absence in time with a canary: another member whose
// later grace has ended.
func graceUndone(s *session) {
	a, b := s.nodes[0], s.nodes[1]
	s.subscribeAll("room", true)
	s.enter(a, entry("room", "m", kept))
	s.enter(a, entry("room", "canary", kept))
	s.leave(a, "room", "m", s.caps.Short)
	if back := s.enter(b, entry("room", "m", kept)); back.First || back.Count != 2 {
		s.Errorf("entered %+v", back)
	}
	s.leave(a, "room", "canary", s.caps.Short)
	s.awaitLeft(a, "room", "canary")
	s.expectChanges("room", "m", kept, bus.Joined)
	// Undone on a does not mean still present on a.
	s.leave(b, "room", "m", 0)
	s.expectChanges("room", "m", kept, bus.Joined, bus.Left)
}

func (s *session) awaitLeft(n *node, room, member string) {
	s.Helper()
	s.await(n, room, member+" to leave", func(events []*bus.Event) bool {
		changes := about(events, member)
		return len(changes) > 0 && changes[len(changes)-1].Kind == bus.Left
	})
}

func graceEnds(s *session) {
	a := s.nodes[0]
	s.subscribeAll("room", true)
	for _, m := range []string{"m", "canary"} {
		s.enter(a, entry("room", m, kept))
		s.enter(s.nodes[1], entry("room", m, kept))
	}
	began := time.Now()
	for _, m := range []string{"m", "canary"} {
		s.leave(a, "room", m, s.caps.Short)
		s.leave(s.nodes[1], "room", m, s.caps.Short)
	}
	s.awaitLeft(a, "room", "m")
	if took := time.Since(began); took < s.caps.Short {
		s.Errorf("a grace of %v ended after %v", s.caps.Short, took)
	}
	s.awaitLeft(a, "room", "canary")
	s.expectChanges("room", "m", kept, bus.Joined, bus.Left)
	if page, err := a.Members(s.ctx, "room", "", 10); err != nil || page.Count != 0 || len(page.Members) != 0 {
		s.Errorf("members %+v, %v", page, err)
	}
}

func graceIsPresence(s *session) {
	a, b := s.nodes[0], s.nodes[1]
	s.subscribeAll("room", true)
	s.enter(a, entry("room", "m", kept))
	s.leave(a, "room", "m", time.Hour)
	page, err := b.Members(s.ctx, "room", "", 10)
	if err != nil || page.Count != 1 || len(page.Members) != 1 {
		s.Errorf("members %+v, %v", page, err)
	}
	e := entry("room", "other", kept)
	e.Max = 1
	if _, err := b.Enter(s.ctx, e); err == nil {
		s.Error("the place of a member in grace was given away")
	}
	e = entry("room", "m", kept)
	e.Max = 1
	if back := s.enter(b, e); back.First {
		s.Errorf("entered %+v", back)
	}
	s.expectChanges("room", "m", kept, bus.Joined)
}

func graceCutShort(s *session) {
	a := s.nodes[0]
	s.subscribeAll("room", true)
	s.enter(a, entry("room", "m", kept))
	s.leave(a, "room", "m", time.Hour)
	s.leave(a, "room", "m", 0)
	s.expectChanges("room", "m", kept, bus.Joined, bus.Left)
}

func leaveReason(s *session) {
	a := s.nodes[0]
	s.subscribeAll("room", true)
	s.enter(a, entry("room", "m", kept))
	if err := a.Leave(s.ctx, &bus.Leaving{Room: "room", Member: "m", Reason: "kicked"}); err != nil {
		s.Fatalf("leaving: %v", err)
	}
	for i, events := range s.fence("room", kept) {
		changes := about(events, "m")
		if len(changes) != 2 || changes[0].Reason != "" || changes[1].Reason != "kicked" {
			s.Errorf("instance %d: delivered%s", i, showAll(events))
		}
	}
}

func announceMax(s *session) {
	const over = bus.AnnounceMax + 2
	a := s.nodes[0]
	s.subscribeAll("room", false)
	for i := range over {
		s.enter(a, entry("room", fmt.Sprint("m", i), plain))
	}
	s.leave(a, "room", "m0", 0) // 501 stay
	s.leave(a, "room", "m1", 0)
	s.leave(a, "room", "m2", 0) // 499 stay
	for i, events := range s.fence("room", plain) {
		if joined := len(of(events, bus.Joined)); joined != bus.AnnounceMax {
			s.Errorf("instance %d: %d joins announced, want %d", i, joined, bus.AnnounceMax)
		}
		if n := len(about(events, "m0")); n != 1 {
			s.Errorf("instance %d: %d changes of m0: it left a room of %d", i, n, over)
		}
		if n := len(about(events, "m2")); n != 2 {
			s.Errorf("instance %d: %d changes of m2: it left a room of %d", i, n, bus.AnnounceMax)
		}
	}
}

func memberPages(s *session) {
	const members = 250
	var want []string
	var last *bus.Entered
	for i := range members {
		name := fmt.Sprintf("m%03d", i)
		want = append(want, string(user(name)))
		last = s.enter(s.nodes[i%2], entry("room", name, plain))
	}
	if last.Count != members || len(last.Members) != bus.MembersListed {
		s.Errorf("the last entered a room of %d, listed %d", last.Count, len(last.Members))
	}
	var orders [2][]string
	for i, n := range s.nodes {
		for cursor, pages := "", 0; ; pages++ {
			page, err := n.Members(s.ctx, "room", cursor, 40)
			if err != nil || len(page.Members) > 40 || page.Count != members || page.Version != last.Version {
				s.Fatalf("page %d: %d members, count %d, version %d, %v", pages, len(page.Members), page.Count, page.Version, err)
			}
			for _, u := range page.Members {
				orders[i] = append(orders[i], string(u))
			}
			if cursor = page.Cursor; cursor == "" {
				break
			}
			if pages > members {
				s.Fatal("the pages do not end")
			}
		}
	}
	if !slices.Equal(orders[0], orders[1]) {
		s.Error("two instances list members in different orders")
	}
	slices.Sort(orders[0])
	if !slices.Equal(orders[0], want) {
		s.Errorf("%d members listed, want each of %d once", len(orders[0]), members)
	}
}

// reaped closes an instance that left its members behind, as a crash would.
func reaped(s *session) {
	if s.caps.Lease == 0 {
		s.Skip("no lease")
	}
	a, b := s.nodes[0], s.nodes[1]
	s.subscribe(a, "room", true)
	e := entry("room", "both", kept)
	e.Grace = s.caps.Short
	s.enter(b, e)
	s.enter(a, e)
	e = entry("room", "ghost", kept)
	e.Grace = s.caps.Short
	s.enter(b, e)
	if err := b.Close(s.ctx); err != nil {
		s.Fatalf("closing: %v", err)
	}
	s.nodes = s.nodes[:1]
	if page, err := a.Members(s.ctx, "room", "", 10); err != nil || page.Count != 2 {
		s.Errorf("Close touched presence: %+v, %v", page, err)
	}
	deadline := s.caps.Timeout
	s.caps.Timeout += 2*s.caps.Lease + s.caps.Short
	s.awaitLeft(a, "room", "ghost")
	s.caps.Timeout = deadline
	s.expectChanges("room", "ghost", kept, bus.Joined, bus.Left)
	s.expectChanges("room", "both", kept, bus.Joined)
	s.leave(a, "room", "both", 0)
	// Were it still present on the closed instance, this would go unannounced.
	s.awaitLeft(a, "room", "both")
}
