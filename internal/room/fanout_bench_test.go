package room

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/wsrelay/relay/internal/bus"
	"github.com/wsrelay/relay/internal/room/policy"
	"github.com/wsrelay/relay/internal/wire"
)

// nobody is a socket that takes frames and does nothing with them.
type nobody struct{ n int }

func (s *nobody) Send(*wire.Frame)      { s.n++ }
func (s *nobody) Evicted(*Seat, string) {}

// seated makes a room with so many members, each with a socket.
func seated(b testing.TB, members int, s policy.Settings) (g *Registry, seats []*Seat, over *scripted) {
	b.Helper()
	over = &scripted{at: bus.Position{Epoch: "e", Seq: 1}}
	over.enter = func() (*bus.Entered, error) { return &bus.Entered{Position: over.at}, nil }
	set, problems := policy.Compile([]policy.Spec{{Match: "*", Create: "anyone", Join: "anyone", Settings: s}})
	if problems != nil {
		b.Fatal(problems)
	}
	g = New(Options{Bus: over, Rules: Rules{Policies: set}, Log: slog.New(slog.DiscardHandler)})
	frame := (&wire.Pong{}).Frame()
	for i := range members {
		seat, e := g.Join(b.Context(), actor(fmt.Sprint(i)), &nobody{}, "r", nil, func(*bus.Entered) *wire.Frame { return frame })
		if e != nil {
			b.Fatal(e)
		}
		seats = append(seats, seat)
	}
	return g, seats, over
}

// BenchmarkFanOut is a message from the bus to the queues of all members:
// encoded once, framed once. ns/delivery is a member's share.
func BenchmarkFanOut(b *testing.B) {
	for _, members := range []int{1, 10, 100, 1000} {
		b.Run(fmt.Sprint(members), func(b *testing.B) {
			g, _, _ := seated(b, members, policy.Settings{Presence: true})
			e := chat("", 0)
			b.ReportAllocs()
			for b.Loop() {
				g.Deliver(e)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(members), "ns/delivery")
		})
	}
}

// BenchmarkPublish is a message from its sender to the bus, and the answer of
// the bus back to the sender: policy, sanctions, size and rate on the way.
func BenchmarkPublish(b *testing.B) {
	for name, settings := range map[string]policy.Settings{
		"plain":   {Presence: true, Rate: 1e9, Burst: 1 << 30},
		"history": {Presence: true, Rate: 1e9, Burst: 1 << 30, History: &policy.History{Keep: 10, For: time.Hour}},
	} {
		b.Run(name, func(b *testing.B) {
			_, seats, over := seated(b, 1, settings)
			over.publish = func(m *bus.Message, r bus.Receipt) error {
				r.Published(bus.Result{ID: m.Event.ID, Time: m.Event.Time})
				return nil
			}
			acks := 0
			ack := func(Accepted, *wire.Error) { acks++ }
			body := []byte(`"hello"`)
			b.ReportAllocs()
			for b.Loop() {
				if e := seats[0].Publish(Chat{Message: body}, ack); e != nil {
					b.Fatal(e)
				}
			}
			if acks != b.N {
				b.Errorf("%d acks of %d messages", acks, b.N)
			}
		})
	}
}

func BenchmarkLimiter(b *testing.B) {
	l := newLimiters(0, time.Now)
	b.Run("alone", func(b *testing.B) {
		x := l.pin("r", "alone")
		b.ReportAllocs()
		for b.Loop() {
			l.take(x, 1e9, 1<<30)
		}
	})
	b.Run("shared", func(b *testing.B) { // by all sockets of one user
		x := l.pin("r", "shared")
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				l.take(x, 1e9, 1<<30)
			}
		})
	})
}
