package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/wsrelay/relay/auth"
	"github.com/wsrelay/relay/internal/bus"
	"github.com/wsrelay/relay/internal/bus/membus"
	"github.com/wsrelay/relay/internal/gateway/door"
	"github.com/wsrelay/relay/internal/gateway/socket"
	"github.com/wsrelay/relay/internal/room"
	"github.com/wsrelay/relay/internal/room/policy"
	"github.com/wsrelay/relay/internal/wire"
)

// lineless is a connection that forgets what it is sent.
type lineless struct{ resumed chan struct{} }

func (lineless) Start(socket.Handler)         {}
func (lineless) Send(*wire.Frame)             {}
func (lineless) Close(wire.CloseCode, string) {}
func (lineless) Pause()                       {}
func (l lineless) Resume()                    { l.resumed <- struct{}{} }

// inMemory is a gateway over a bus in memory whose rooms let everybody in.
func inMemory(t testing.TB, history *policy.History, sockets *socket.Group) (*Gateway, *Endpoint) {
	t.Helper()
	set, problems := policy.Compile([]policy.Spec{{Match: "*", Create: "anyone", Join: "anyone", Settings: policy.Settings{History: history}}})
	if problems != nil {
		t.Fatal(problems)
	}
	log := slog.New(slog.DiscardHandler)
	var store bus.Bus = membus.New(membus.Options{})
	rooms := room.New(room.Options{Bus: store, Rules: room.Rules{Policies: set}, Log: log})
	if err := store.Start(t.Context(), rooms); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(context.Background()); err != nil {
			t.Errorf("closing the bus: %v", err)
		}
	})
	ep := &Endpoint{
		Path: "/ws", Auth: auth.NewChain(auth.NewAnonymous(auth.AnonymousOptions{Name: "guests"})), Door: door.New(door.Options{}),
		Socket: socket.Options{PingEvery: time.Hour}, RoomsPerConnection: 1,
	}
	return New(Options{Instance: "i", Rooms: rooms, Sockets: sockets, Log: log, Endpoints: []*Endpoint{ep}}), ep
}

// joined is the session of somebody in a room.
func joined(b *testing.B, g *Gateway, ep *Endpoint, room, user string) *session {
	b.Helper()
	line := lineless{make(chan struct{}, 1)}
	s := &session{gw: g, id: "i-" + user, conn: line, place: new(door.Admission)}
	s.ep.Store(ep)
	s.open(nil)
	s.Message([]byte(`{"type":"join","roomId":"` + room + `","user":{"id":"` + user + `","name":"Ann"}}`))
	<-line.resumed // joined
	if s.seat([]byte(room)) == nil {
		b.Fatal("not joined")
	}
	return s
}

func chatOf(room string) []byte {
	return []byte(`{"type":"chat","roomId":"` + room + `","message":"` + strings.Repeat("x", 128) + `"}`)
}

// BenchmarkChat is a client's message from the bytes of its frame to the bus,
// and what the bus says of it back to the session: everything between the socket
// and a bus in memory.
func BenchmarkChat(b *testing.B) {
	for name, history := range map[string]*policy.History{"plain": nil, "history": {Keep: 100, For: time.Hour}} {
		b.Run(name, func(b *testing.B) {
			g, ep := inMemory(b, history, nil)
			s, request := joined(b, g, ep, "r", "ann"), chatOf("r")
			b.ReportAllocs()
			for b.Loop() {
				s.Message(request)
			}
		})
	}
}

// BenchmarkGrowth is what a delivery costs an instance apart from its sockets, with
// more and more members in rooms of 10 whose messages come in no order that a
// cache could guess.
func BenchmarkGrowth(b *testing.B) {
	const members = 10
	for _, sockets := range []int{1_000, 10_000, 50_000} {
		b.Run(fmt.Sprint(sockets), func(b *testing.B) {
			g, ep := inMemory(b, nil, nil)
			var speakers []*session
			var requests [][]byte
			for i := range sockets {
				room := fmt.Sprint("room-", i/members)
				if s := joined(b, g, ep, room, fmt.Sprint("u", i)); i%members == 0 {
					speakers, requests = append(speakers, s), append(requests, chatOf(room))
				}
			}
			order := rand.New(rand.NewPCG(1, 2)).Perm(len(speakers))
			runtime.GC()
			next := 0
			for b.Loop() {
				i := order[next]
				speakers[i].Message(requests[i])
				if next++; next == len(order) {
					next = 0
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*members), "ns/delivery")
		})
	}
}
