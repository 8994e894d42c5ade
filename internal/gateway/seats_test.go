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
	"github.com/wsrelay/relay/internal/room"
	"github.com/wsrelay/relay/internal/room/policy"
	"github.com/wsrelay/relay/internal/wire"
)

// busy is a bus on which something happens while a member enters.
type busy struct {
	bus.Bus
	meanwhile func()
}

func (b *busy) Enter(ctx context.Context, e *bus.Entry) (*bus.Entered, error) {
	b.meanwhile()
	return b.Bus.Enter(ctx, e)
}

// told is a connection that notes what it is sent.
type told struct {
	lineless
	heard []string
}

func (c *told) Send(f *wire.Frame) { c.heard = append(c.heard, string(f.Payload())) }

// alone is a session of a guest, and the bus under it.
func alone(t *testing.T) (*session, *told, *busy) {
	t.Helper()
	set, problems := policy.Compile([]policy.Spec{{
		Match: "*", Create: "anyone", Join: "anyone",
		Settings: policy.Settings{History: &policy.History{Keep: 100, For: time.Hour}},
	}})
	if problems != nil {
		t.Fatal(problems)
	}
	log := slog.New(slog.DiscardHandler)
	b := &busy{Bus: membus.New(membus.Options{}), meanwhile: func() {}}
	rooms := room.New(room.Options{Bus: b, Rules: room.Rules{Policies: set}, Log: log, JoinBuffer: 100})
	if err := b.Start(t.Context(), rooms); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close(context.Background()) })
	c := &told{lineless: lineless{make(chan struct{}, 1)}}
	s := &session{gw: New(Options{Instance: "i", Rooms: rooms, Log: log}), id: "i-1", conn: c, place: new(door.Admission)}
	s.ep.Store(&Endpoint{Path: "/ws", Auth: auth.NewChain(auth.NewAnonymous(auth.AnonymousOptions{Name: "guests"})), Door: door.New(door.Options{})})
	s.open(nil)
	return s, c, b
}

// ask sends a request that is carried out beside the reader, and gives back what
// is heard by the end of it.
func (c *told) ask(s *session, request string) string {
	c.heard = nil
	s.Message([]byte(request))
	<-c.resumed
	return strings.Join(c.heard, "\n")
}

// A rejoin that fails may cost the seat. Then the user is told so by what comes
// next, and joins again like anybody else.
func TestARejoinThatFailedCanBeTriedAgain(t *testing.T) {
	s, c, b := alone(t)
	const join = `{"type":"join","id":1,"roomId":"r"}`
	if got := c.ask(s, join); !strings.Contains(got, `"joined"`) {
		t.Fatal(got)
	}
	b.meanwhile = func() { // more than is held back for who joins
		s.gw.opt.Rooms.Deliver(&bus.Event{Kind: bus.Chat, Room: "r", Body: []byte(`"` + strings.Repeat("x", 200) + `"`)})
	}
	if got := c.ask(s, join); !strings.Contains(got, `"unavailable"`) || !strings.Contains(got, `"retry":true`) {
		t.Fatal(got)
	}
	b.meanwhile = func() {}
	c.heard = nil
	s.Message([]byte(`{"type":"chat","id":2,"roomId":"r","message":1}`))
	if got := strings.Join(c.heard, "\n"); !strings.Contains(got, `"not_member"`) {
		t.Errorf("who has no seat spoke: %s", got)
	}
	if got := c.ask(s, join); !strings.Contains(got, `"joined"`) {
		t.Errorf("tried again: %s", got)
	}
}

// A seat that is taken away before the session has noted it is not kept: nothing
// would take it from there again.
func TestASeatThatIsGoneIsNotTaken(t *testing.T) {
	s, c, _ := alone(t)
	c.ask(s, `{"type":"join","roomId":"other"}`)
	seat, e := s.gw.opt.Rooms.Join(t.Context(), s.actor.Load(), s, "r", nil, func(*bus.Entered) *wire.Frame { return (&wire.Joined{}).Frame() })
	if e != nil {
		t.Fatal(e)
	}
	seat.Leave(t.Context(), false)
	s.Evicted(seat, room.ReasonKicked)
	if e := s.take(t.Context(), seat, nil); e != nil || s.seat([]byte("r")) != nil {
		t.Errorf("%v, and it is kept: %v", e, s.seat([]byte("r")) != nil)
	}
}
