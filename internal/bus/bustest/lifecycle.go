package bustest

import (
	"errors"
	"testing"

	"github.com/wsrelay/relay/internal/bus"
)

func lifecycleContracts() []contract {
	return []contract{
		{"CloseResolvesEveryReceipt", 2, closeResolves},
		{"AfterCloseEverythingIsErrClosed", 1, afterClose},
		{"CloseIsIdempotent", 1, closeTwice},
		{"HealthIsNilWhileItWorks", 2, healthy},
		{"AfterCloseNothingIsDelivered", 2, closedIsSilent},
	}
}

// closeResolves closes with messages on their way. Each is either stored or
// known not to be, in the order of Publish.
func closeResolves(s *session) {
	n := s.nodes[0]
	var sent []*receipt
	var ids []bus.MessageID
	for range 300 {
		m := chat("room", "m", `1`, kept)
		r, err := n.send(m)
		if err != nil {
			s.Fatalf("publishing: %v", err)
		}
		sent, ids = append(sent, r), append(ids, m.Event.ID)
	}
	if err := n.Close(s.ctx); err != nil {
		s.Fatalf("closing: %v", err)
	}
	stored := make(map[bus.MessageID]uint64)
	for _, e := range s.history(s.nodes[1], bus.HistoryQuery{Room: "room", Limit: 1000}).Events {
		stored[e.ID] = e.Seq
	}
	var last uint64
	for i, r := range sent {
		if r.calls() != 1 {
			s.Fatalf("message %d: receipt called %d times when Close returned", i, r.calls())
		}
		// Close had all the time it wanted: what was accepted is published.
		if r.result.Err != nil || stored[ids[i]] != r.result.Seq || r.result.Seq <= last {
			s.Fatalf("message %d: receipt %+v, stored at %d, the one before at %d", i, r.result, stored[ids[i]], last)
		}
		last = r.result.Seq
	}
}

func afterClose(s *session) {
	n := s.nodes[0]
	s.enter(n, entry("room", "m", kept))
	if err := n.Close(s.ctx); err != nil {
		s.Fatalf("closing: %v", err)
	}
	var r receipt
	for name, err := range map[string]error{
		"Publish":   n.Publish(chat("room", "m", `1`, kept), &r),
		"Signal":    n.Signal(signal("room", "m", `1`)),
		"Leave":     n.Leave(s.ctx, &bus.Leaving{Room: "room", Member: "m"}),
		"Subscribe": second(n.Subscribe(s.ctx, "room", true)),
		"Enter":     second(n.Enter(s.ctx, entry("room", "m", kept))),
		"Members":   second(n.Members(s.ctx, "room", "", 1)),
		"History":   second(n.History(s.ctx, bus.HistoryQuery{Room: "room", Limit: 1})),
		"Sanction":  second(n.Sanction(s.ctx, against("m", "room", bus.Mute))),
		"Lift":      second(n.Lift(s.ctx, "id")),
		"Sanctions": second(n.Sanctions(s.ctx, "", 1)),
		"Redact":    second(n.Redact(s.ctx, &bus.Redaction{Room: "room", Seq: 1})),
	} {
		if !errors.Is(err, bus.ErrClosed) {
			s.Errorf("%s after Close: %v", name, err)
		}
	}
	n.Unsubscribe("room")
	if r.calls() != 0 {
		s.Error("a refused message's receipt was called")
	}
	if n.Health() == nil {
		s.Error("a closed bus says it is well")
	}
}

func second[T any](_ T, err error) error { return err }

func closeTwice(s *session) {
	for range 2 {
		if err := s.nodes[0].Close(s.ctx); err != nil {
			s.Errorf("closing: %v", err)
		}
	}
}

// closeUnstarted is apart from the table, whose instances are started.
func closeUnstarted(t testing.TB, factory Factory) {
	for _, b := range factory(t, 1).Instances {
		for range 2 {
			if err := b.Close(t.Context()); err != nil {
				t.Errorf("closing: %v", err)
			}
		}
		if err := b.Start(t.Context(), newTap()); err == nil {
			t.Error("a closed bus was started")
		}
	}
}

func healthy(s *session) {
	for _, n := range s.nodes {
		s.eventually("health", func() bool { return n.Health() == nil })
	}
}

func closedIsSilent(s *session) {
	a, b := s.nodes[0], s.nodes[1]
	s.subscribeAll("room", true)
	s.say(a, "room", 1, kept)
	s.await(b, "room", "a message", atLeast(1))
	if err := b.Close(s.ctx); err != nil {
		s.Fatalf("closing: %v", err)
	}
	before, _ := b.tap.room("room")
	s.say(a, "room", 20, kept)
	s.await(a, "room", "21 messages", atLeast(21))
	if after, _ := b.tap.room("room"); len(after) != len(before) {
		s.Errorf("delivered after Close:%s", showAll(after[len(before):]))
	}
}
