package bustest

import (
	"slices"

	"github.com/wsrelay/relay/internal/bus"
)

// shadow makes a chat that its sender's own sockets alone are shown.
func shadow(room, member, body string) *bus.Message {
	m := chat(room, member, body, plain)
	m.Event.Kind = bus.Shadow
	return m
}

// shadowed mixes shadows into the chats of a room.
func shadowed(s *session) {
	for room, keep := range map[string]bus.Retention{"kept": kept, "plain": plain} {
		s.subscribeAll(room, keep.Kept())
		var want []bus.MessageID
		for i := range 30 {
			m := chat(room, "m", `"seen"`, keep)
			if i%3 == 1 {
				m = shadow(room, "m", `"unseen"`)
				if got := s.publish(s.nodes[i%2], m); got != (bus.Result{ID: m.Event.ID, Time: m.Event.Time}) {
					s.Errorf("%s: the receipt of a shadow says %+v", room, got)
				}
			} else {
				s.publish(s.nodes[i%2], m)
			}
			want = append(want, m.Event.ID)
		}
		for i, events := range s.fence(room, keep) {
			var got []bus.MessageID
			for _, e := range of(events, bus.Chat, bus.Shadow) {
				got = append(got, e.ID)
				if sequenced := keep.Kept() && e.Kind == bus.Chat; e.Sequenced() != sequenced || e.Position != (bus.Position{}) != sequenced {
					s.Errorf("%s: instance %d was given %s at %+v", room, i, show(e), e.Position)
				}
				if e.Kind == bus.Shadow && (string(e.Body) != `"unseen"` || e.Sender.Conn != "conn-m" || e.Trace.Flags != 1) {
					s.Errorf("%s: instance %d was given %+v", room, i, e)
				}
			}
			if !slices.Equal(got, want) {
				s.Errorf("%s: instance %d was given%s", room, i, showAll(events))
			}
			if len(of(events, bus.Notice)) > 0 {
				s.Errorf("%s: instance %d was told of a loss:%s", room, i, showAll(events))
			}
			s.consecutive(s.nodes[i], events, 1)
		}
	}
	for _, e := range s.history(s.nodes[0], bus.HistoryQuery{Room: "kept", Limit: 100}).Events {
		if e.Kind != bus.Chat || string(e.Body) == `"unseen"` {
			s.Errorf("stored %s", show(e))
		}
	}
}

// shadowedInterrupted has shadows come while a gap is read back.
func shadowedInterrupted(s *session) {
	s.need(s.backend.Interrupt != nil, "be interrupted")
	s.subscribeAll("room", true)
	stop := make(chan struct{})
	wait := s.stream(s.nodes[0], "room", kept, stop)
	for range 3 {
		s.backend.Interrupt(1)
		for range 20 {
			s.publish(s.nodes[0], shadow("room", "m", `"unseen"`))
		}
		s.awaitMore(s.nodes[1], "room", 50)
	}
	close(stop)
	for i, events := range s.awaitHealed("room", wait()) {
		seen := make(map[bus.MessageID]bool)
		for _, e := range of(events, bus.Shadow) {
			if seen[e.ID] || e.Position != (bus.Position{}) {
				s.Errorf("instance %d: %s came twice, or with a place", i, show(e))
			}
			seen[e.ID] = true
		}
	}
}
