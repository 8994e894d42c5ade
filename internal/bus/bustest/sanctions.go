package bustest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/wsrelay/relay/internal/bus"
)

// inForceWithin is a bound between Sanction's return and every instance knowing.
// The contract's is a second, on a machine that has one to spare; this one still
// tells a push from a comparison that comes every half a minute.
const inForceWithin = 10 * time.Second

func sanctionContracts() []contract {
	return []contract{
		{"ASanctionIsInForceEverywhereAtOnce", 3, sanctionEverywhere},
		{"ASanctionBindsWhomItNames", 2, sanctionScope},
		{"WarningsAndKicksAreToldAndOver", 2, sanctionPassing},
		{"ALiftedSanctionIsGoneEverywhere", 3, sanctionLifted},
		{"ASanctionEndsByItselfWithoutAWord", 2, sanctionEnds},
		{"TheSameSanctionTwiceIsOne", 2, sanctionTwice},
		{"WhatIsNoSanctionIsRefused", 1, sanctionBad},
		{"SanctionsAreBounded", 2, sanctionBound},
		{"SanctionsAreListedByPages", 2, sanctionPages},
		{"SanctionsOutliveInstances", 2, sanctionRestart},
		{"ManySanctionsAtOnceReachEveryone", 3, sanctionMany},
	}
}

// against makes a sanction.
func against(member, room string, kind bus.SanctionKind) *bus.Sanction {
	return &bus.Sanction{Kind: kind, Member: member, Room: room, Reason: "rude", By: "filter:test"}
}

func (s *session) sanction(n *node, given *bus.Sanction) *bus.Sanction {
	s.Helper()
	got, err := n.Sanction(s.ctx, given)
	if err != nil {
		s.Fatalf("instance %d: %s: %v", n.index, showSanction(given), err)
	}
	return got
}

func (s *session) lift(n *node, id string) *bus.Sanction {
	s.Helper()
	got, err := n.Lift(s.ctx, id)
	if err != nil {
		s.Fatalf("instance %d: lifting %s: %v", n.index, id, err)
	}
	return got
}

// knows reports what is in force, by id.
func (n *node) knows(member, ip, room string) []string {
	var ids []string
	for _, s := range n.InForce(member, ip, room) {
		ids = append(ids, s.ID)
	}
	slices.Sort(ids)
	return ids
}

// tellsAll waits until every instance was told of a sanction so often, and
// checks that what it was told is what is meant: false for Sanctioned, true for
// Lifted.
func (s *session) tellsAll(id string, want ...bool) {
	s.Helper()
	for _, n := range s.nodes {
		got, ok := n.tap.verdicts.wait(id, len(want), s.caps.Timeout)
		if !ok || !slices.Equal(got, want) {
			s.Fatalf("instance %d: told of sanction %s %v, want %v", n.index, id, got, want)
		}
	}
}

func sanctionEverywhere(s *session) {
	for i, n := range s.nodes {
		given := against("m", fmt.Sprint("room-", i), bus.Mute)
		before := time.Now().UnixMilli()
		given.Until = before + 60_000
		got := s.sanction(n, given)
		at := time.Now()
		if given.ID != "" || got.ID == "" || got.Kind != bus.Mute || got.Member != "m" || got.Room != given.Room || got.Reason != "rude" || got.By != "filter:test" {
			s.Errorf("instance %d: gave %+v, got %+v", i, given, got)
		}
		// One machine, one clock: the store's is ours.
		if after := time.Now().UnixMilli(); got.Issued < before || got.Issued > after || got.Until < given.Until-5 || got.Until > given.Until+after-before+5 {
			s.Errorf("instance %d: issued at %d, until %d; it was between %d and %d and asked for %d", i, got.Issued, got.Until, before, after, given.Until)
		}
		s.tellsAll(got.ID, false)
		if took := time.Since(at); took > inForceWithin {
			s.Errorf("instance %d: it took %v until all were told", i, took)
		}
		for _, other := range s.nodes {
			list := other.InForce("m", "", given.Room)
			if len(list) != 1 || *list[0] != *got {
				s.Errorf("instance %d: in force is %+v, want %+v", other.index, list, got)
			}
		}
	}
}

func sanctionScope(s *session) {
	here := s.sanction(s.nodes[0], against("m", "room", bus.Mute)).ID
	everywhere := s.sanction(s.nodes[1], against("m", "", bus.Ban)).ID
	guest := against("guest:1", "", bus.Ban)
	guest.IP = "192.0.2.1"
	byAddress := s.sanction(s.nodes[0], guest).ID
	only := s.sanction(s.nodes[1], &bus.Sanction{Kind: bus.Mute, IP: "2001:db8::", Room: "room", By: "cli"}).ID
	for _, id := range []string{here, everywhere, byAddress, only} {
		s.tellsAll(id, false)
	}
	for _, c := range []struct {
		member, ip, room string
		want             []string
	}{
		{"m", "", "room", []string{here, everywhere}},
		{"m", "", "other", []string{everywhere}},
		{"m", "", "", []string{everywhere}},
		{"m", "192.0.2.1", "room", []string{here, everywhere, byAddress}},
		{"guest:1", "", "room", []string{byAddress}},
		{"guest:1", "192.0.2.1", "room", []string{byAddress}}, // once, though by both
		{"guest:2", "192.0.2.1", "", []string{byAddress}},
		{"guest:2", "192.0.2.2", "room", nil},
		{"guest:2", "2001:db8::", "room", []string{only}},
		{"guest:2", "2001:db8::", "", nil},
		{"", "", "room", nil},
		{"M", "", "room", nil},
		{"nobody", "", "room", nil},
	} {
		slices.Sort(c.want)
		for _, n := range s.nodes {
			if got := n.knows(c.member, c.ip, c.room); !slices.Equal(got, c.want) {
				s.Errorf("instance %d: in force against %q, %q in %q: %v, want %v", n.index, c.member, c.ip, c.room, got, c.want)
			}
		}
	}
}

func sanctionPassing(s *session) {
	for _, kind := range []bus.SanctionKind{bus.Warn, bus.Kick} {
		got := s.sanction(s.nodes[0], against("m", "room", kind))
		if got.ID == "" || got.Issued == 0 || got.Kind != kind || got.Until != 0 {
			s.Errorf("got %+v", got)
		}
		s.tellsAll(got.ID, false)
		for _, n := range s.nodes {
			if list := n.knows("m", "", "room"); len(list) > 0 {
				s.Errorf("instance %d: a %s is in force: %v", n.index, kind, list)
			}
		}
		if _, err := s.nodes[1].Lift(s.ctx, got.ID); !errors.Is(err, bus.ErrNoSanction) {
			s.Errorf("lifting a %s: %v", kind, err)
		}
	}
	if page, err := s.nodes[1].Sanctions(s.ctx, "", 10); err != nil || page.Count != 0 || len(page.Sanctions) != 0 {
		s.Errorf("listed %+v, %v", page, err)
	}
}

func sanctionLifted(s *session) {
	first := s.sanction(s.nodes[0], against("m", "room", bus.Mute))
	second := s.sanction(s.nodes[1], against("m", "room", bus.Mute))
	s.tellsAll(first.ID, false)
	s.tellsAll(second.ID, false)
	if got := s.lift(s.nodes[2], first.ID); *got != *first {
		s.Errorf("lifted %+v, want %+v", got, first)
	}
	s.tellsAll(first.ID, false, true)
	for _, n := range s.nodes {
		if got := n.knows("m", "", "room"); !slices.Equal(got, []string{second.ID}) {
			s.Errorf("instance %d: in force are %v, want %s alone", n.index, got, second.ID)
		}
	}
	for _, id := range []string{first.ID, "unknown", "", "with space"} {
		if _, err := s.nodes[0].Lift(s.ctx, id); !errors.Is(err, bus.ErrNoSanction) {
			s.Errorf("lifting %q: %v", id, err)
		}
	}
	s.lift(s.nodes[0], second.ID)
	s.tellsAll(second.ID, false, true)
}

func sanctionEnds(s *session) {
	brief := against("m", "room", bus.Mute)
	brief.Until = time.Now().Add(s.caps.Short).UnixMilli()
	ending := s.sanction(s.nodes[0], brief)
	over := against("m", "room", bus.Mute)
	over.Until = time.Now().Add(-time.Hour).UnixMilli()
	past := s.sanction(s.nodes[0], over)
	lasting := s.sanction(s.nodes[0], against("m", "room", bus.Mute))
	s.tellsAll(lasting.ID, false)
	for _, n := range s.nodes {
		s.eventually("the sanctions to end", func() bool { return slices.Equal(n.knows("m", "", "room"), []string{lasting.ID}) })
		page, err := n.Sanctions(s.ctx, "", 10)
		if err != nil || page.Count != 1 || len(page.Sanctions) != 1 || page.Sanctions[0].ID != lasting.ID {
			s.Errorf("instance %d: listed %+v, %v", n.index, page, err)
		}
	}
	if now := time.Now().UnixMilli(); now < ending.Until {
		s.Errorf("it was over at %d, and lasts until %d", now, ending.Until)
	}
	if _, err := s.nodes[1].Lift(s.ctx, ending.ID); !errors.Is(err, bus.ErrNoSanction) {
		s.Errorf("lifting what has ended: %v", err)
	}
	s.lift(s.nodes[1], lasting.ID)
	s.tellsAll(lasting.ID, false, true)
	s.tellsAll(ending.ID, false)
	for _, n := range s.nodes { // whether one that is over at once is told is free; that it ended is not
		if calls, _ := n.tap.verdicts.about(past.ID); slices.Contains(calls, true) {
			s.Errorf("instance %d: an end was told", n.index)
		}
	}
}

func sanctionTwice(s *session) {
	given := against("m", "room", bus.Mute)
	given.ID, given.Until = "my-own-id", time.Now().Add(time.Hour).UnixMilli()
	first := s.sanction(s.nodes[0], given)
	again := *given
	again.Until, again.Reason = given.Until+1000, "another"
	if got := s.sanction(s.nodes[1], &again); *got != *first || got.ID != "my-own-id" {
		s.Errorf("the second time got %+v, want %+v", got, first)
	}
	s.lift(s.nodes[0], "my-own-id")
	s.tellsAll("my-own-id", false, true)
}

func sanctionBad(s *session) {
	n := s.nodes[0]
	until := time.Now().Add(time.Hour).UnixMilli()
	for name, bad := range map[string]*bus.Sanction{
		"no kind":         {Member: "m"},
		"unknown kind":    {Kind: 9, Member: "m"},
		"nobody":          {Kind: bus.Ban, Room: "room"},
		"a kick's end":    {Kind: bus.Kick, Member: "m", Until: until},
		"too long":        {Kind: bus.Ban, Member: "m", Reason: strings.Repeat("x", bus.SanctionMax)},
		"no UTF-8":        {Kind: bus.Ban, Member: "m\xff"},
		"space in the id": {Kind: bus.Ban, Member: "m", ID: "a b"},
	} {
		if got, err := n.Sanction(s.ctx, bad); !errors.Is(err, bus.ErrBadSanction) || got != nil {
			s.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if page, err := n.Sanctions(s.ctx, "", 10); err != nil || page.Count != 0 {
		s.Errorf("listed %+v, %v", page, err)
	}
	odd := &bus.Sanction{Kind: bus.Ban, Member: "m m\n\u2028\"é", IP: "::1", Room: "a room", Reason: "two\nlines 1 2 3", By: "user:x y", ID: "!~{}*"}
	got := s.sanction(n, odd)
	s.tellsAll(got.ID, false)
	want := *odd
	want.Issued = got.Issued
	if list := n.InForce(odd.Member, "", odd.Room); len(list) != 1 || *list[0] != want || *got != want {
		s.Errorf("in force %+v, want %+v", list, want)
	}
}

func sanctionBound(s *session) {
	if s.caps.MaxSanctions == 0 {
		s.Skip("the backend's bound is too high to be reached")
	}
	var all []*bus.Sanction
	for i := range s.caps.MaxSanctions {
		given := against(fmt.Sprint("m", i), "", bus.Ban)
		if i == 0 {
			given.Until = time.Now().Add(s.caps.Short).UnixMilli()
		}
		all = append(all, s.sanction(s.nodes[i%2], given))
	}
	more := against("more", "", bus.Ban)
	s.eventually("place for one more when one has ended", func() bool {
		got, err := s.nodes[0].Sanction(s.ctx, more)
		if err == nil {
			all[0] = got
			return true
		}
		if !errors.Is(err, bus.ErrTooManySanctions) {
			s.Fatalf("above the bound: %v", err)
		}
		return false
	})
	if _, err := s.nodes[1].Sanction(s.ctx, more); !errors.Is(err, bus.ErrTooManySanctions) {
		s.Fatalf("above the bound: %v", err)
	}
	// What does not last needs no place.
	s.tellsAll(s.sanction(s.nodes[0], against("m", "", bus.Kick)).ID, false)
	s.lift(s.nodes[1], all[1].ID)
	s.tellsAll(s.sanction(s.nodes[1], more).ID, false)
}

func sanctionPages(s *session) {
	var want []string
	for i := range 11 {
		want = append(want, s.sanction(s.nodes[i%2], against(fmt.Sprint("m", i%3), "room", bus.Mute)).ID)
	}
	for _, id := range want {
		s.tellsAll(id, false)
	}
	slices.Sort(want)
	for _, n := range s.nodes {
		for _, limit := range []int{1, 4, 11, 100} {
			var got []string
			var issued int64
			for cursor, pages := "", 0; ; pages++ {
				page, err := n.Sanctions(s.ctx, cursor, limit)
				if err != nil || page.Count != 11 || len(page.Sanctions) > limit || pages > 12 {
					s.Fatalf("instance %d, page %d by %d: %+v, %v", n.index, pages, limit, page, err)
				}
				for _, x := range page.Sanctions {
					if x.Issued < issued {
						s.Errorf("instance %d: one issued at %d after one at %d", n.index, x.Issued, issued)
					}
					issued = x.Issued
					got = append(got, x.ID)
				}
				if cursor = page.Cursor; cursor == "" {
					break
				}
			}
			if slices.Sort(got); !slices.Equal(got, want) {
				s.Errorf("instance %d, by %d: listed %v, want %v", n.index, limit, got, want)
			}
		}
	}
}

// sanctionRestart closes every instance; one that comes later knows all at once.
func sanctionRestart(s *session) {
	s.need(s.backend.Another != nil, "be joined by another instance")
	ban := s.sanction(s.nodes[0], against("m", "", bus.Ban))
	gone := s.sanction(s.nodes[0], against("m", "", bus.Ban))
	s.lift(s.nodes[1], gone.ID)
	for _, n := range s.nodes {
		if err := n.Close(s.ctx); err != nil {
			s.Fatalf("closing: %v", err)
		}
	}
	n := &node{Bus: s.backend.Another(), index: len(s.nodes), tap: newTap()}
	n.tap.verdicts.of = n.Bus
	if err := n.Start(s.ctx, n.tap); err != nil {
		s.Fatalf("starting: %v", err)
	}
	s.nodes = []*node{n}
	if list := n.InForce("m", "", ""); len(list) != 1 || *list[0] != *ban {
		s.Errorf("in force is %+v, want %+v", list, ban)
	}
	if calls, _ := n.tap.verdicts.about(ban.ID); len(calls) > 0 {
		s.Error("what was in force at the start was told")
	}
	s.lift(n, ban.ID)
	s.tellsAll(ban.ID, true)
}

// sanctionMany has all instances change the same table at once.
func sanctionMany(s *session) {
	const each = 5 // below any bound that is to be tested
	ids := make([][]string, len(s.nodes))
	var sides []<-chan struct{}
	for i, n := range s.nodes {
		sides = append(sides, s.beside(func() {
			for k := range each {
				got, err := n.Sanction(s.ctx, against(fmt.Sprint("m", k), "", bus.Mute))
				if err != nil {
					s.Errorf("instance %d: %v", i, err)
					return
				}
				ids[i] = append(ids[i], got.ID)
				if k%2 == 1 {
					if _, err := n.Lift(s.ctx, ids[i][k-1]); err != nil {
						s.Errorf("instance %d: %v", i, err)
					}
				}
			}
		}))
	}
	for _, done := range sides {
		<-done
	}
	for i := range ids {
		for k, id := range ids[i] {
			if k < each-1 && k%2 == 0 {
				s.tellsAll(id, false, true)
			} else {
				s.tellsAll(id, false)
			}
		}
	}
	for _, n := range s.nodes {
		if page, err := n.Sanctions(s.ctx, "", 100); err != nil || page.Count != len(s.nodes)*(each+1)/2 {
			s.Errorf("instance %d: listed %d, %v", n.index, page.Count, err)
		}
	}
}
