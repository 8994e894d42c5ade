package room

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wsrelay/relay/auth"
	"github.com/wsrelay/relay/internal/bus"
	"github.com/wsrelay/relay/internal/room/policy"
	"github.com/wsrelay/relay/internal/wire"
)

// scripted is a bus whose answers a test decides, and whose events it delivers
// by hand: in any order that two ways to Redis allow.
type scripted struct {
	bus.Bus // what a test does not expect is a nil call

	at      bus.Position // of Subscribe
	enter   func() (*bus.Entered, error)
	publish func(*bus.Message, bus.Receipt) error
	left    []bus.Leaving
	users   int // Subscribes less Unsubscribes

	sanction func(*bus.Sanction)
	away     error // of Sanction
	inForce  []*bus.Sanction
	redact   func(*bus.Redaction)
	signal   func(*bus.Event)
	history  []*bus.Event
	before   func() // of History
	entering func(*bus.Entry)
	leave    func() // of Leave, which several call at once

	mu sync.Mutex
}

func (s *scripted) Sanction(_ context.Context, x *bus.Sanction) (*bus.Sanction, error) {
	s.sanction(x)
	return x, s.away
}
func (s *scripted) InForce(_, _, _ string) []*bus.Sanction { return s.inForce }
func (s *scripted) Redact(_ context.Context, r *bus.Redaction) (bus.Position, error) {
	s.redact(r)
	return bus.Position{}, nil
}
func (s *scripted) Signal(e *bus.Event) error { s.signal(e); return nil }
func (s *scripted) History(context.Context, bus.HistoryQuery) (bus.HistoryPage, error) {
	if s.before != nil {
		s.before()
	}
	return bus.HistoryPage{Events: s.history}, nil
}

func (s *scripted) Subscribe(context.Context, string, bool) (bus.Position, error) {
	s.users++
	return s.at, nil
}

func (s *scripted) Unsubscribe(string) {
	s.mu.Lock()
	s.users--
	s.mu.Unlock()
}

func (s *scripted) Enter(_ context.Context, e *bus.Entry) (*bus.Entered, error) {
	if s.entering != nil {
		s.entering(e)
	}
	return s.enter()
}

func (s *scripted) Leave(_ context.Context, l *bus.Leaving) error {
	s.mu.Lock()
	s.left = append(s.left, *l)
	s.mu.Unlock()
	if s.leave != nil {
		s.leave()
	}
	return nil
}
func (s *scripted) Publish(m *bus.Message, r bus.Receipt) error { return s.publish(m, r) }

// ear is a socket that notes what it is sent.
type ear struct{ heard []string }

func (e *ear) Send(f *wire.Frame) { e.heard = append(e.heard, brief(string(f.Payload()))) }
func (e *ear) Evicted(*Seat, string) {
	e.heard = append(e.heard, "evicted")
}

// brief is the type of a frame, with its seq or text.
func brief(payload string) string {
	after := func(key string) string {
		_, rest, ok := strings.Cut(payload, `"`+key+`":`)
		if !ok {
			return ""
		}
		return strings.Trim(rest[:strings.IndexAny(rest, ",}")], `"`)
	}
	s := after("type")
	if seq := after("seq"); seq != "" {
		s += " " + seq
	}
	return s
}

func registry(t *testing.T, b *scripted, s policy.Settings) *Registry {
	t.Helper()
	set, problems := policy.Compile([]policy.Spec{{Match: "*", Create: "anyone", Join: "anyone", Settings: s}})
	if problems != nil {
		t.Fatal(problems)
	}
	return New(Options{Bus: b, Rules: Rules{Policies: set}, Log: slog.New(slog.DiscardHandler)})
}

var kept = policy.Settings{Presence: true, History: &policy.History{Keep: 10, For: time.Hour}}

func actor(id string) *Actor {
	return &Actor{Identity: &auth.Identity{ID: id, Guest: true}, User: []byte(`{"id":"` + id + `"}`), Conn: "c-" + id}
}

func chat(epoch string, seq uint64) *bus.Event {
	return &bus.Event{
		Kind: bus.Chat, Room: "r", Position: bus.Position{Epoch: epoch, Seq: seq}, ID: bus.NewMessageID(),
		Sender: bus.Sender{Member: "other", User: []byte(`{"id":"other"}`), Conn: "c-other"}, Body: []byte(`1`),
	}
}

func epochNotice(epoch string, to uint64) *bus.Event {
	return &bus.Event{Kind: bus.Notice, Room: "r", Notice: bus.NoticeEpoch, Position: bus.Position{Epoch: epoch}, To: to}
}

func memberEvent(version uint64) *bus.Event {
	return &bus.Event{Kind: bus.Joined, Room: "r", Sender: bus.Sender{Member: "m", User: []byte(`{"id":"m"}`)}, Version: version}
}

// The joined reply speaks of one moment, wherever the events of before and after
// it are at that time: already here, held back, or still on their way.
func TestTheJoinBarrier(t *testing.T) {
	for name, c := range map[string]struct {
		during, later []*bus.Event // of the script's run
		want          string
	}{
		"nothing":                     {nil, nil, "joined 5"},
		"before, while it ran":        {[]*bus.Event{chat("e", 4), chat("e", 5)}, []*bus.Event{chat("e", 6)}, "joined 5,chat 6"},
		"before and after":            {[]*bus.Event{chat("e", 5), chat("e", 6)}, []*bus.Event{chat("e", 7)}, "joined 5,chat 6,chat 7"},
		"before, and late":            {nil, []*bus.Event{chat("e", 4), chat("e", 5), chat("e", 6)}, "joined 5,chat 6"},
		"members of before, late":     {[]*bus.Event{memberEvent(2)}, []*bus.Event{memberEvent(3), memberEvent(4)}, "joined 5,member_joined"},
		"an epoch began while it ran": {[]*bus.Event{chat("old", 3), epochNotice("e", 3), chat("e", 5)}, []*bus.Event{chat("e", 6)}, "joined 5,chat 6"},
		"an epoch begins after":       {nil, []*bus.Event{chat("e", 6), epochNotice("f", 6), chat("f", 7)}, "joined 5,chat 6,notice,chat 7"},
		"numbers begin anew":          {nil, []*bus.Event{epochNotice("f", 5), chat("f", 1), memberEvent(1)}, "joined 5,notice,chat 1,member_joined"},
	} {
		t.Run(name, func(t *testing.T) {
			b := &scripted{at: bus.Position{Epoch: "e", Seq: 3}}
			g := registry(t, b, kept)
			b.enter = func() (*bus.Entered, error) {
				for _, e := range c.during {
					g.Deliver(e)
				}
				return &bus.Entered{Position: bus.Position{Epoch: "e", Seq: 5}, Version: 3}, nil
			}
			sink := &ear{}
			seat, err := g.Join(t.Context(), actor("a"), sink, "r", nil, func(at *bus.Entered) *wire.Frame {
				return (&wire.Joined{RoomID: "r", Epoch: at.Epoch, Seq: at.Seq}).Frame()
			})
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range c.later {
				g.Deliver(e)
			}
			if got := strings.Join(sink.heard, ","); got != c.want {
				t.Errorf("heard %s, want %s", got, c.want)
			}
			seat.Leave(t.Context(), false)
			if b.users != 0 || len(b.left) != 1 || g.Stats().Rooms.Load() != 0 {
				t.Errorf("%d subscriptions, %d leaves, %d rooms are left", b.users, len(b.left), g.Stats().Rooms.Load())
			}
		})
	}
}

// Chats alone are deliveries, and those that a barrier held back are some too.
func TestChatsAreCountedWhenTheyAreQueued(t *testing.T) {
	b := &scripted{at: bus.Position{Epoch: "e"}}
	g := registry(t, b, kept)
	b.enter = func() (*bus.Entered, error) {
		g.Deliver(chat("e", 1))
		g.Deliver(memberEvent(1))
		return &bus.Entered{Position: bus.Position{Epoch: "e"}}, nil
	}
	if _, err := g.Join(t.Context(), actor("a"), &ear{}, "r", nil, func(*bus.Entered) *wire.Frame { return (&wire.Joined{}).Frame() }); err != nil {
		t.Fatal(err)
	}
	g.Deliver(chat("e", 2))
	g.Deliver(memberEvent(2))
	if n := g.Stats().Delivered.Load(); n != 2 {
		t.Errorf("%d deliveries of 2 chats", n)
	}
}

// A seat that entered an epoch which this instance has yet to reach hears
// nothing of the older one.
func TestASeatAheadOfItsInstance(t *testing.T) {
	b := &scripted{at: bus.Position{Epoch: "old", Seq: 9}}
	g := registry(t, b, kept)
	at := bus.Position{Epoch: "old", Seq: 9}
	b.enter = func() (*bus.Entered, error) { return &bus.Entered{Position: at}, nil }
	first, second := &ear{}, &ear{}
	join := func(id string, sink *ear) {
		t.Helper()
		if _, err := g.Join(t.Context(), actor(id), sink, "r", nil, func(*bus.Entered) *wire.Frame { return (&wire.Joined{}).Frame() }); err != nil {
			t.Fatal(err)
		}
	}
	join("a", first)
	at = bus.Position{Epoch: "new", Seq: 12}
	join("b", second)
	for _, e := range []*bus.Event{chat("old", 10), epochNotice("new", 10), chat("new", 11), chat("new", 12), chat("new", 13)} {
		g.Deliver(e)
	}
	if got := strings.Join(first.heard, ","); got != "joined,chat 10,notice,chat 11,chat 12,chat 13" {
		t.Errorf("the first heard %s", got)
	}
	if got := strings.Join(second.heard, ","); got != "joined,chat 13" {
		t.Errorf("the second heard %s", got)
	}
}

// The ack stands where the message stands, whichever of the bus's answer and the
// message comes first.
func TestTheAckIsInItsPlace(t *testing.T) {
	for name, order := range map[string][]string{
		"the answer first":  {"answer", "1", "2", "3"},
		"the message first": {"1", "2", "answer", "3"},
		"late":              {"1", "2", "3", "answer"},
	} {
		t.Run(name, func(t *testing.T) {
			b := &scripted{at: bus.Position{Epoch: "e"}}
			g := registry(t, b, kept)
			b.enter = func() (*bus.Entered, error) { return &bus.Entered{Position: bus.Position{Epoch: "e"}}, nil }
			var own *bus.Message
			var receipt bus.Receipt
			b.publish = func(m *bus.Message, r bus.Receipt) error { own, receipt = m, r; return nil }
			sink := &ear{}
			seat, err := g.Join(t.Context(), actor("a"), sink, "r", nil, func(*bus.Entered) *wire.Frame { return (&wire.Joined{}).Frame() })
			if err != nil {
				t.Fatal(err)
			}
			if err := seat.Publish(Chat{Message: []byte(`1`)}, func(r Accepted, e *wire.Error) {
				sink.heard = append(sink.heard, fmt.Sprint("ack ", r.Seq))
			}); err != nil {
				t.Fatal(err)
			}
			for _, step := range order {
				switch step {
				case "answer":
					receipt.Published(bus.Result{Position: bus.Position{Epoch: "e", Seq: 2}, ID: own.Event.ID})
				case "2":
					e := own.Event
					e.Position = bus.Position{Epoch: "e", Seq: 2}
					g.Deliver(&e)
				case "1":
					g.Deliver(chat("e", 1))
				case "3":
					g.Deliver(chat("e", 3))
				}
			}
			if got := strings.Join(sink.heard, ","); got != "joined,chat 1,ack 2,chat 3" {
				t.Errorf("heard %s", got)
			}
			if err := seat.Drained(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// A message whose outcome was unknown, and which comes by after all, is shown to
// its sender: no ack is left to stand in its place.
func TestAnUnknownOutcomeIsSeenAfterAll(t *testing.T) {
	b := &scripted{at: bus.Position{Epoch: "e"}}
	g := registry(t, b, kept)
	b.enter = func() (*bus.Entered, error) { return &bus.Entered{Position: bus.Position{Epoch: "e"}}, nil }
	var own *bus.Message
	b.publish = func(m *bus.Message, r bus.Receipt) error {
		own = m
		r.Published(bus.Result{Err: bus.ErrUnknownOutcome})
		return nil
	}
	sink := &ear{}
	seat, err := g.Join(t.Context(), actor("a"), sink, "r", nil, func(*bus.Entered) *wire.Frame { return (&wire.Joined{}).Frame() })
	if err != nil {
		t.Fatal(err)
	}
	if err := seat.Publish(Chat{Message: []byte(`1`)}, func(_ Accepted, e *wire.Error) {
		sink.heard = append(sink.heard, fmt.Sprint(e.Code, " ", e.Outcome))
	}); err != nil {
		t.Fatal(err)
	}
	e := own.Event
	e.Position = bus.Position{Epoch: "e", Seq: 1}
	g.Deliver(&e)
	if got := strings.Join(sink.heard, ","); got != "joined,unavailable unknown,chat 1" {
		t.Errorf("heard %s", got)
	}
}

// said is a room at 1 of epoch e, with a seat whose message is on its way.
func said(t *testing.T) (g *Registry, seat *Seat, sink *ear, own *bus.Message, receipt bus.Receipt) {
	t.Helper()
	b := &scripted{at: bus.Position{Epoch: "e"}}
	g = registry(t, b, kept)
	b.enter = func() (*bus.Entered, error) { return &bus.Entered{Position: bus.Position{Epoch: "e"}}, nil }
	b.publish = func(m *bus.Message, r bus.Receipt) error { own, receipt = m, r; return nil }
	sink = &ear{}
	seat, err := g.Join(t.Context(), actor("a"), sink, "r", nil, func(*bus.Entered) *wire.Frame { return (&wire.Joined{}).Frame() })
	if err != nil {
		t.Fatal(err)
	}
	if err := seat.Publish(Chat{Message: []byte(`1`)}, func(r Accepted, e *wire.Error) {
		if e != nil {
			sink.heard = append(sink.heard, fmt.Sprint(e.Code, " ", e.Outcome))
			return
		}
		sink.heard = append(sink.heard, fmt.Sprint("ack ", r.Seq))
	}); err != nil {
		t.Fatal(err)
	}
	g.Deliver(chat("e", 1))
	return g, seat, sink, own, receipt
}

// A new epoch does not answer for what the old one stored: what holds of it is
// acked when it comes by, and what was dropped has an unknown outcome.
func TestAcksAcrossAFork(t *testing.T) {
	for name, c := range map[string]struct {
		stored uint64 // in the old epoch, which ends at 2
		anew   bool
		then   *bus.Event // what comes by
		want   string
	}{
		"it holds":        {2, false, chat("f", 2), "joined,chat 1,notice,ack 2,chat 3"},
		"it was dropped":  {3, false, nil, "joined,chat 1,notice,unavailable unknown,chat 3"},
		"all was dropped": {2, true, nil, "joined,chat 1,notice,unavailable unknown,chat 3"},
		"it came before":  {1, false, nil, "joined,chat 1,notice,ack 1,chat 3"},
	} {
		t.Run(name, func(t *testing.T) {
			g, seat, sink, own, receipt := said(t)
			notice := epochNotice("f", 2)
			notice.Anew = c.anew
			g.Deliver(notice)
			receipt.Published(bus.Result{Position: bus.Position{Epoch: "e", Seq: c.stored}, ID: own.Event.ID})
			if c.then != nil {
				e := own.Event
				e.Position = c.then.Position
				g.Deliver(&e)
			}
			g.Deliver(chat("f", 3))
			if got := strings.Join(sink.heard, ","); got != c.want {
				t.Errorf("heard %s, want %s", got, c.want)
			}
			if err := seat.Drained(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// An ack that waits is answered whatever epochs come before its message does.
func TestAnAckOutlivesTwoForks(t *testing.T) {
	for name, c := range map[string]struct {
		second uint64 // where the second epoch ends
		want   string
	}{
		"it holds":                   {5, "joined,chat 1,notice,notice,ack 3"},
		"the second fork dropped it": {2, "joined,chat 1,notice,notice,unavailable unknown,chat 3"},
	} {
		t.Run(name, func(t *testing.T) {
			g, seat, sink, own, receipt := said(t)
			g.Deliver(epochNotice("f", 4))
			receipt.Published(bus.Result{Position: bus.Position{Epoch: "e", Seq: 3}, ID: own.Event.ID})
			g.Deliver(epochNotice("g", c.second))
			e := own.Event
			e.Position = bus.Position{Epoch: "g", Seq: 3}
			g.Deliver(&e)
			if got := strings.Join(sink.heard, ","); got != c.want {
				t.Errorf("heard %s, want %s", got, c.want)
			}
			if err := seat.Drained(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestABusyRoomCannotFillAJoin(t *testing.T) {
	b := &scripted{at: bus.Position{Epoch: "e"}}
	g := registry(t, b, kept)
	b.enter = func() (*bus.Entered, error) {
		big := chat("e", 1)
		big.Body = []byte(`"` + strings.Repeat("x", 600<<10) + `"`)
		for seq := uint64(1); seq < 4; seq++ {
			e := *big
			e.Seq = seq
			g.Deliver(&e)
		}
		return &bus.Entered{Position: bus.Position{Epoch: "e"}}, nil
	}
	_, err := g.Join(t.Context(), actor("a"), &ear{}, "r", nil, func(*bus.Entered) *wire.Frame { return (&wire.Joined{}).Frame() })
	if err == nil || err.Code != wire.Unavailable || !err.Retry {
		t.Errorf("%+v", err)
	}
	if b.users != 0 || len(b.left) != 1 || g.Stats().Seats.Load() != 0 || g.Stats().JoinOverflow.Load() != 1 {
		t.Errorf("something is left: %d subscriptions, %d leaves", b.users, len(b.left))
	}
}

func TestRates(t *testing.T) {
	now := time.Now()
	l := newLimiters(0, func() time.Time { return now })
	x := l.pin("r", "u")
	took := func(n int) (ok int) {
		for range n {
			if l.take(x, 10, 5) == 0 {
				ok++
			}
		}
		return ok
	}
	if n := took(20); n != 5 {
		t.Errorf("a burst of %d", n)
	}
	if wait := l.take(x, 10, 5); wait <= 0 || wait > 100*time.Millisecond {
		t.Errorf("wait %s", wait)
	}
	now = now.Add(time.Second)
	if n := took(20); n != 5 {
		t.Errorf("%d after a second, with a burst of 5", n)
	}
	// Leaving and coming back brings no fresh burst.
	l.unpin(x)
	if x = l.pin("r", "u"); took(1) != 0 {
		t.Error("a fresh burst after leaving")
	}
	l.unpin(x)
	now = now.Add(time.Minute)
	x = l.pin("r", "u")
	l.unpin(x)
	if n := l.kept(); n != 0 {
		t.Errorf("%d limiters are kept that are as good as new", n)
	}
}

func (l *limiters) kept() (n int) {
	for i := range l.parts {
		n += len(l.parts[i].known)
	}
	return n
}

func TestLimitersAreBounded(t *testing.T) {
	now := time.Now()
	l := newLimiters(2000, func() time.Time { return now })
	for i := range 10_000 {
		x := l.pin("r", fmt.Sprint(i))
		l.take(x, 0.001, 1)
		l.unpin(x)
	}
	if n := l.kept(); n > 2000 {
		t.Errorf("%d limiters are kept", n)
	}
}

// While a rejoin is under way, acks wait behind the events that it holds back:
// what becomes of it does not matter to their places.
func TestAcksKeepTheirPlaceDuringARejoin(t *testing.T) {
	at := func(seq uint64) *bus.Entered { return &bus.Entered{Position: bus.Position{Epoch: "e", Seq: seq}} }
	for name, c := range map[string]struct {
		at    *bus.Entered
		err   error
		bound int // of what is held back
		want  string
	}{
		"it fails":               {nil, bus.ErrUnavailable, 0, "chat 1,ack 1 2,chat 3,ack redaction"},
		"it tells of all":        {at(4), nil, 0, "joined 4,ack 1 2,ack redaction"},
		"it tells of some":       {at(1), nil, 0, "joined 1,ack 1 2,chat 3,ack redaction"},
		"too much comes by":      {nil, bus.ErrUnavailable, 1, "ack 1 2,ack redaction"},
		"too much for its reply": {at(4), nil, 1, "ack 1 2,ack redaction"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newCourtroom(t, kept)
			b.join(t)
			b.say(t, `1`)
			if c.bound > 0 {
				b.g.opt.JoinBuffer = c.bound
			}
			b.sink.heard = nil
			b.scripted.enter = func() (*bus.Entered, error) {
				b.g.Deliver(chat("e", 1))
				b.store(0, 2)
				b.g.Deliver(chat("e", 3))
				b.seat.room.mu.Lock()
				b.seat.room.after(bus.Position{Epoch: "e", Seq: 3}, func() {
					b.seat.inPlace(func() { b.sink.heard = append(b.sink.heard, "ack redaction") })
				})
				b.seat.room.mu.Unlock()
				return c.at, c.err
			}
			reply := func(at *bus.Entered) *wire.Frame { return (&wire.Joined{Epoch: at.Epoch, Seq: at.Seq}).Frame() }
			if e := b.seat.Rejoin(t.Context(), nil, reply); (e == nil) != (c.err == nil && c.bound == 0) {
				t.Errorf("rejoined: %v", e)
			}
			if got := strings.Join(b.sink.heard, ","); got != c.want {
				t.Errorf("heard %q, want %q", got, c.want)
			}
			if err := b.seat.Drained(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}
