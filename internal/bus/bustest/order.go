package bustest

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/wsrelay/relay/internal/bus"
)

func orderContracts() []contract {
	return []contract{
		{"OneOrderPerRoomOnAllInstances", 3, func(s *session) { oneOrder(s, kept) }},
		{"OneOrderPerPlainRoomOnAllInstances", 3, func(s *session) { oneOrder(s, plain) }},
		{"MessagesOfOneInstanceKeepTheOrderOfPublish", 2, publishersOrder},
		{"WhatIsGatheredArrivesInOrder", 2, gathered},
		{"EventsArriveAsTheyWereSent", 2, fieldsSurvive},
		{"PlainRoomsHaveNoPosition", 2, plainHasNoPosition},
		{"NothingBeforeTheSubscribedPositionIsRepeated", 2, subscribedPosition},
		{"SubscriptionsAreCounted", 2, subscriptionsAreCounted},
		{"RoomsDoNotMix", 2, roomsDoNotMix},
		{"SignalsArriveAndAreNotStored", 2, signals},
		{"TheNewestSignalOfABurstArrives", 2, signalBurst},
		{"PresenceAlternatesInOneOrderUnderConcurrency", 3, presenceInOneOrder},
	}
}

// oneOrder has all instances publish at once and compares what each was given.
func oneOrder(s *session, keep bus.Retention) {
	const each = 200
	s.subscribeAll("room", keep.Kept())
	sent := make([][]*receipt, len(s.nodes))
	ids := make([][]bus.MessageID, len(s.nodes))
	var all sync.WaitGroup
	for i, n := range s.nodes {
		all.Go(func() {
			for k := range each {
				m := chat("room", fmt.Sprint("speaker-", i), fmt.Sprintf(`{"n":%d}`, k), keep)
				r, err := n.send(m)
				if err != nil {
					s.Errorf("instance %d: message %d: %v", i, k, err)
					return
				}
				sent[i], ids[i] = append(sent[i], r), append(ids[i], m.Event.ID)
			}
		})
	}
	all.Wait()
	total := each * len(s.nodes)
	var first []bus.MessageID
	places := make(map[bus.MessageID]bus.Position)
	for _, n := range s.nodes {
		events := s.await(n, "room", fmt.Sprint(total, " messages"), atLeast(total))
		if len(events) != total {
			s.Fatalf("instance %d: %d events, want %d", n.index, len(events), total)
		}
		var order []bus.MessageID
		for i, e := range events {
			order = append(order, e.ID)
			if keep.Kept() && e.Seq != uint64(i+1) {
				s.Fatalf("instance %d: event %d has seq %d", n.index, i+1, e.Seq)
			}
			places[e.ID] = e.Position
		}
		if first == nil {
			first = order
		}
		if !slices.Equal(order, first) {
			s.Fatalf("instance %d saw another order than instance 0", n.index)
		}
	}
	for i := range sent {
		own := slices.DeleteFunc(slices.Clone(first), func(id bus.MessageID) bool { return !slices.Contains(ids[i], id) })
		if !slices.Equal(own, ids[i]) {
			s.Errorf("messages of instance %d were delivered in another order than published", i)
		}
		for k, r := range sent[i] {
			result, err := r.wait(s.caps.Timeout)
			if err != nil || result.Err != nil || result.ID != ids[i][k] || result.Position != places[ids[i][k]] {
				s.Fatalf("instance %d, message %d: receipt %+v, %v; delivered at %+v", i, k, result, err, places[ids[i][k]])
			}
		}
	}
}

func publishersOrder(s *session) {
	for _, keep := range []bus.Retention{kept, plain} {
		room := fmt.Sprint("room-", keep.Keep)
		s.subscribeAll(room, keep.Kept())
		results := s.say(s.nodes[0], room, 500, keep)
		for _, n := range s.nodes {
			events := s.await(n, room, "500 messages", atLeast(500))
			for i, e := range events {
				if want := fmt.Sprintf(`"%d"`, i); string(e.Body) != want || e.ID != results[i].ID || e.Position != results[i].Position {
					s.Fatalf("instance %d: event %d is %s, want body %s and receipt %+v", n.index, i, show(e), want, results[i])
				}
			}
		}
	}
}

// gathered has one instance publish many at a time, to rooms with and without
// history by turns: more than leave together, and what leaves together mixed.
func gathered(s *session) {
	const each, turns = 100, 3
	rooms := map[string]bus.Retention{"kept": kept, "plain": plain}
	for room, keep := range rooms {
		s.subscribeAll(room, keep.Kept())
	}
	n := s.nodes[0]
	for turn := range turns {
		n.Gather()
		n.Gather() // somebody else, too
		var sent []*receipt
		for i := range each {
			for room, keep := range rooms {
				r, err := n.send(chat(room, "speaker", fmt.Sprint(turn*each+i), keep))
				if err != nil {
					s.Fatalf("publishing: %v", err)
				}
				sent = append(sent, r)
			}
		}
		n.Flush()
		n.Flush()
		for _, r := range sent {
			if result, err := r.wait(s.caps.Timeout); err != nil || result.Err != nil {
				s.Fatalf("%+v, %v", result, err)
			}
		}
	}
	for room := range rooms {
		for _, n := range s.nodes {
			for i, e := range s.await(n, room, fmt.Sprint(each*turns, " messages"), atLeast(each*turns)) {
				if string(e.Body) != fmt.Sprint(i) {
					s.Fatalf("instance %d: event %d is %s", n.index, i, show(e))
				}
			}
		}
	}
}

func fieldsSurvive(s *session) {
	s.subscribeAll("room with spaces é", true)
	bodies := []string{
		`{"a":[1,2.50,"é\u2028"],"b":null}`, `""`, ` 1 `,
		`"` + string(slices.Repeat([]byte("x"), 60_000)) + `"`,
	}
	for i, body := range bodies {
		m := keyed(chat("room with spaces é", "member é", body, kept), fmt.Sprint("key é ", i), 1)
		want := clone(&m.Event)
		want.Key = m.Key
		want.Position = s.publish(s.nodes[0], m).Position
		for _, n := range s.nodes {
			events := s.await(n, want.Room, show(&want), func(events []*bus.Event) bool { return index(events, want.ID) >= 0 })
			if got := events[index(events, want.ID)]; !same(got, &want) {
				s.Errorf("instance %d: got %s; it differs in%s", n.index, show(got), difference(got, &want))
			}
		}
	}
	page := s.history(s.nodes[1], bus.HistoryQuery{Room: "room with spaces é", Limit: 10})
	delivered, _ := s.nodes[1].tap.room("room with spaces é")
	if len(page.Events) != len(bodies) {
		s.Fatalf("history has %d events, want %d", len(page.Events), len(bodies))
	}
	for i, e := range page.Events {
		if !same(e, delivered[i]) {
			s.Errorf("history differs from what was delivered in%s", difference(e, delivered[i]))
		}
	}
}

func plainHasNoPosition(s *session) {
	if at := s.subscribe(s.nodes[1], "room", false); at != (bus.Position{}) {
		s.Errorf("subscribed at %+v", at)
	}
	if entered := s.enter(s.nodes[0], entry("room", "a", plain)); entered.Position != (bus.Position{}) || entered.OldestHistory != 0 {
		s.Errorf("entered %+v", entered)
	}
	m := chat("room", "a", `1`, plain)
	result := s.publish(s.nodes[0], m)
	if result.Position != (bus.Position{}) || result.Duplicate || result.ID != m.Event.ID || result.Time != m.Event.Time {
		s.Errorf("receipt %+v", result)
	}
	events := s.await(s.nodes[1], "room", "the message", atLeast(1))
	if e := of(events, bus.Chat)[0]; e.Position != (bus.Position{}) {
		s.Errorf("delivered at %+v", e.Position)
	}
}

func subscribedPosition(s *session) {
	from, late := s.nodes[0], s.nodes[1]
	before := s.say(from, "room", 10, kept)
	if at := s.subscribe(late, "room", true); at != before[9].Position {
		s.Fatalf("subscribed at %+v after a message at %+v", at, before[9].Position)
	}
	s.say(from, "room", 10, kept)
	events := s.await(late, "room", "10 messages", atLeast(10))
	if got := seqs(events); !slices.Equal(got, span(11, 20)) {
		s.Errorf("delivered %v, want 11 to 20", got)
	}
	// Again, while messages flow: none after the position may be missing.
	done := s.sayBeside(from, "busy", 200, kept)
	at := s.subscribe(late, "busy", true)
	<-done
	events = s.await(late, "busy", "message 200", func(events []*bus.Event) bool {
		return at.Seq == 200 || len(events) > 0 && events[len(events)-1].Seq == 200
	})
	got := slices.DeleteFunc(seqs(events), func(seq uint64) bool { return seq <= at.Seq })
	if !slices.Equal(got, span(at.Seq+1, 200)) {
		s.Errorf("subscribed at %d, delivered %v", at.Seq, got)
	}
}

func subscriptionsAreCounted(s *session) {
	n := s.nodes[1]
	s.subscribe(n, "room", true)
	s.subscribe(n, "room", true)
	n.Unsubscribe("room")
	s.say(s.nodes[0], "room", 3, kept)
	events := s.await(n, "room", "3 messages", atLeast(3))
	if got := seqs(events); !slices.Equal(got, span(1, 3)) {
		s.Errorf("delivered %v, want each once", got)
	}
	n.Unsubscribe("room")
	n.Unsubscribe("room") // one too many: nothing may break, nor be owed later
	at := s.subscribe(n, "room", true)
	s.say(s.nodes[0], "room", 2, kept)
	events = s.await(n, "room", "two more", atLeast(5))
	if got := seqs(events); at.Seq != 3 || !slices.Equal(got, span(1, 5)) {
		s.Errorf("subscribed at %d, delivered %v", at.Seq, got)
	}
}

func roomsDoNotMix(s *session) {
	names := []string{"a", "A", "a ", "a:b", "a{b}", "b}a", "*", "ä"}
	for _, room := range names {
		s.subscribeAll(room, true)
		s.say(s.nodes[0], room, 2, kept)
	}
	for _, room := range names {
		for _, n := range s.nodes {
			if got := seqs(s.await(n, room, "2 messages", atLeast(2))); !slices.Equal(got, span(1, 2)) {
				s.Errorf("instance %d, room %q: delivered %v", n.index, room, got)
			}
		}
	}
}

func signal(room, member, body string) *bus.Event {
	return &bus.Event{
		Kind: bus.Signal, Room: room, ID: bus.NewMessageID(), Time: time.Now().UnixMilli(),
		Sender: bus.Sender{Member: member, User: user(member)}, Body: []byte(body),
	}
}

func signals(s *session) {
	s.subscribeAll("room", true)
	s.say(s.nodes[0], "room", 1, kept)
	// A signal may be lost, so it is repeated until one came.
	for _, n := range s.nodes {
		s.eventually(fmt.Sprint("a signal at instance ", n.index), func() bool {
			if err := s.nodes[0].Signal(signal("room", "typist", `"…"`)); err != nil {
				s.Fatalf("signalling: %v", err)
			}
			events, _ := n.tap.room("room")
			return len(of(events, bus.Signal)) > 0
		})
		events, _ := n.tap.room("room")
		if e := of(events, bus.Signal)[0]; e.Position != (bus.Position{}) || string(e.Body) != `"…"` || e.Sender.Member != "typist" {
			s.Errorf("instance %d: got %s at %+v", n.index, show(e), e.Position)
		}
	}
	page := s.history(s.nodes[0], bus.HistoryQuery{Room: "room", Limit: 10})
	if page.Seq != 1 || len(page.Events) != 1 {
		s.Errorf("history at %d:%s", page.Seq, showAll(page.Events))
	}
}

func signalBurst(s *session) {
	s.subscribeAll("room", false)
	const burst = 1000
	for i := range burst {
		if err := s.nodes[0].Signal(signal("room", "typist", fmt.Sprint(i+1))); err != nil {
			s.Fatalf("signalling: %v", err)
		}
	}
	for _, n := range s.nodes {
		s.await(n, "room", "the newest signal", func(events []*bus.Event) bool {
			return slices.ContainsFunc(events, func(e *bus.Event) bool { return string(e.Body) == fmt.Sprint(burst) })
		})
	}
}

// presenceInOneOrder lets members come and go on all instances at once. Every
// instance must see the same changes, each member in and out by turns, each
// change counting one.
func presenceInOneOrder(s *session) {
	const members, rounds = 5, 20
	s.subscribeAll("room", true)
	var all sync.WaitGroup
	for _, n := range s.nodes {
		for m := range members {
			all.Go(func() {
				name := fmt.Sprint("m", m) // the same on every instance
				for range rounds {
					if _, err := n.Enter(s.ctx, entry("room", name, kept)); err != nil {
						s.Errorf("entering: %v", err)
						return
					}
					if err := n.Leave(s.ctx, &bus.Leaving{Room: "room", Member: name}); err != nil {
						s.Errorf("leaving: %v", err)
						return
					}
				}
			})
		}
	}
	all.Wait()
	seen := s.fence("room", kept)
	for i, events := range seen {
		present := make(map[string]bool)
		var version uint64
		for k, e := range events {
			member, in := e.Sender.Member, e.Kind == bus.Joined
			if !in && e.Kind != bus.Left {
				s.Fatalf("instance %d: unexpected %s", i, show(e))
			}
			if present[member] == in {
				s.Fatalf("instance %d: event %d, %s, but that was so already", i, k, show(e))
			}
			present[member] = in
			count := 0
			for _, is := range present {
				if is {
					count++
				}
			}
			if e.Count != count || e.Version <= version {
				s.Fatalf("instance %d: event %d, %s, after version %d with %d present", i, k, show(e), version, count)
			}
			version = e.Version
			if !same(e, seen[0][k]) {
				s.Fatalf("instance %d: event %d, %s; instance 0 got %s", i, k, show(e), show(seen[0][k]))
			}
		}
		if len(events) != len(seen[0]) || len(events) == 0 {
			s.Fatalf("instance %d: %d changes, instance 0 saw %d", i, len(events), len(seen[0]))
		}
	}
	if page, err := s.nodes[0].Members(s.ctx, "room", "", 10); err != nil || page.Count != 0 {
		s.Errorf("all have left: %+v, %v", page, err)
	}
}
