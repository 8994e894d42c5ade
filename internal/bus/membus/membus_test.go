package membus_test

import (
	"context"
	"testing"

	"go.uber.org/goleak"

	"github.com/wsrelay/relay/internal/bus"
	"github.com/wsrelay/relay/internal/bus/membus"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type sink struct{ events []*bus.Event }

func (s *sink) Deliver(e *bus.Event) { s.events = append(s.events, e) }

type receipt struct{ bus.Result }

func (r *receipt) Published(got bus.Result) { r.Result = got }

func BenchmarkPublish(b *testing.B) {
	for name, keep := range map[string]int{"plain": 0, "history": 200} {
		b.Run(name, func(b *testing.B) {
			m := membus.New(membus.Options{})
			h := handler{}
			if err := m.Start(context.Background(), h); err != nil {
				b.Fatal(err)
			}
			defer m.Close(context.Background())
			m.Subscribe(context.Background(), "room", keep > 0)
			msg := &bus.Message{
				Event:     bus.Event{Kind: bus.Chat, Room: "room", ID: bus.NewMessageID(), Body: []byte(`"hello"`)},
				Retention: bus.Retention{Keep: keep},
			}
			var r receipt
			b.ReportAllocs()
			for b.Loop() {
				if err := m.Publish(msg, &r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

type handler struct{}

func (handler) Deliver(*bus.Event) {}

func TestPublishDeliversInOrder(t *testing.T) {
	m := membus.New(membus.Options{})
	var s sink
	if err := m.Start(t.Context(), &s); err != nil {
		t.Fatal(err)
	}
	entered, err := m.Enter(t.Context(), &bus.Entry{Room: "r", Member: "a", User: []byte(`{}`), Presence: true, Announce: true, Retention: bus.Retention{Keep: 3}})
	if err != nil || !entered.Created || !entered.First || entered.Epoch == "" || entered.Count != 1 {
		t.Fatalf("entered %+v, %v", entered, err)
	}
	at, err := m.Subscribe(t.Context(), "r", true)
	if err != nil || at != entered.Position {
		t.Fatalf("subscribed at %v, %v", at, err)
	}
	for range 5 {
		var r receipt
		if err := m.Publish(&bus.Message{Event: bus.Event{Kind: bus.Chat, Room: "r", ID: bus.NewMessageID()}, Retention: bus.Retention{Keep: 3}}, &r); err != nil || r.Err != nil {
			t.Fatal(err, r.Err)
		}
	}
	for i, e := range s.events {
		if e.Seq != uint64(i+1) {
			t.Errorf("event %d has seq %d", i, e.Seq)
		}
	}
	page, err := m.History(t.Context(), bus.HistoryQuery{Room: "r", Limit: 10})
	if err != nil || len(page.Events) != 3 || page.Events[0].Seq != 3 {
		t.Fatalf("history %+v, %v", page, err)
	}
	if err := m.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}
