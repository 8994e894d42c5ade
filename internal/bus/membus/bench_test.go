package membus_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/wsrelay/relay/internal/bus"
	"github.com/wsrelay/relay/internal/bus/membus"
)

type deaf struct{ bus.AtOnce }

func (deaf) Deliver(*bus.Event)       {}
func (deaf) Sanctioned(*bus.Sanction) {}
func (deaf) Lifted(*bus.Sanction)     {}

func benchBus(b *testing.B) *membus.Bus {
	m := membus.New(membus.Options{})
	if err := m.Start(b.Context(), deaf{}); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = m.Close(context.Background()) })
	return m
}

// BenchmarkPublish is the bus's own part of a message: no work is done in
// Deliver.
func BenchmarkPublish(b *testing.B) {
	for _, c := range []struct {
		name string
		keep bus.Retention
	}{{"plain", bus.Retention{}}, {"history", bus.Retention{Keep: 200}}} {
		b.Run(c.name, func(b *testing.B) {
			m := benchBus(b)
			if _, err := m.Subscribe(b.Context(), "room", c.keep.Kept()); err != nil {
				b.Fatal(err)
			}
			msg := message("room", `"hello"`)
			msg.Retention = c.keep
			receipt := receiptFunc(func(bus.Result) {})
			b.ReportAllocs()
			for b.Loop() {
				if err := m.Publish(msg, receipt); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkPublishRooms has every processor publish to its own room.
func BenchmarkPublishRooms(b *testing.B) {
	m := benchBus(b)
	var rooms atomic.Int64
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		room := fmt.Sprint("room-", rooms.Add(1))
		if _, err := m.Subscribe(b.Context(), room, true); err != nil {
			b.Error(err)
		}
		msg := message(room, `"hello"`)
		receipt := receiptFunc(func(bus.Result) {})
		for pb.Next() {
			_ = m.Publish(msg, receipt)
		}
	})
}

// BenchmarkEnterLeave is one member's coming and going in a room of others.
func BenchmarkEnterLeave(b *testing.B) {
	for _, others := range []int{10, 10_000} {
		b.Run(fmt.Sprint(others), func(b *testing.B) {
			m := benchBus(b)
			e := &bus.Entry{Room: "room", User: []byte(`{}`), Presence: true, Announce: true}
			for i := range others {
				e.Member = fmt.Sprint(i)
				if _, err := m.Enter(b.Context(), e); err != nil {
					b.Fatal(err)
				}
			}
			e.Member = "m"
			l := &bus.Leaving{Room: "room", Member: "m"}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := m.Enter(b.Context(), e); err != nil {
					b.Fatal(err)
				}
				if err := m.Leave(b.Context(), l); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
