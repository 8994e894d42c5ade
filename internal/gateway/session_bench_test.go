package gateway

import (
	"context"
	"log/slog"
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

// BenchmarkChat is a client's message from the bytes of its frame to the bus,
// and what the bus says of it back to the session: everything between the socket
// and a bus in memory.
func BenchmarkChat(b *testing.B) {
	for name, history := range map[string]*policy.History{"plain": nil, "history": {Keep: 100, For: time.Hour}} {
		b.Run(name, func(b *testing.B) {
			set, problems := policy.Compile([]policy.Spec{{Match: "*", Create: "anyone", Join: "anyone", Settings: policy.Settings{History: history}}})
			if problems != nil {
				b.Fatal(problems)
			}
			log := slog.New(slog.DiscardHandler)
			var store bus.Bus = membus.New(membus.Options{})
			rooms := room.New(room.Options{Bus: store, Rules: room.Rules{Policies: set}, Log: log})
			if err := store.Start(b.Context(), rooms); err != nil {
				b.Fatal(err)
			}
			defer func() { _ = store.Close(context.Background()) }()
			g := New(Options{Instance: "i", Rooms: rooms, Log: log})
			ep := &Endpoint{
				Path: "/ws", Auth: auth.NewChain(auth.NewAnonymous(auth.AnonymousOptions{Name: "guests"})), Door: door.New(door.Options{}),
			}
			line := lineless{make(chan struct{}, 1)}
			s := &session{gw: g, id: "i-1", conn: line, place: new(door.Admission)}
			s.ep.Store(ep)
			s.open(nil)
			s.Message([]byte(`{"type":"join","roomId":"r","user":{"id":"ann","name":"Ann"}}`))
			<-line.resumed // joined
			if s.seat([]byte("r")) == nil {
				b.Fatal("not joined")
			}
			request := []byte(`{"type":"chat","roomId":"r","message":"` + strings.Repeat("x", 128) + `"}`)
			b.ReportAllocs()
			for b.Loop() {
				s.Message(request)
			}
		})
	}
}
