package room

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/wsrelay/relay/internal/bus"
	"github.com/wsrelay/relay/internal/room/policy"
	"github.com/wsrelay/relay/internal/wire"
	"github.com/wsrelay/relay/plugins/filter"
)

func entered() (*bus.Entered, error) { return &bus.Entered{Position: bus.Position{Epoch: "e"}}, nil }

func joined(*bus.Entered) *wire.Frame { return (&wire.Joined{}).Frame() }

// seat joins room r.
func seat(t *testing.T, g *Registry, id string, sink Sink) *Seat {
	t.Helper()
	s, e := g.Join(t.Context(), actor(id), sink, "r", nil, joined)
	if e != nil {
		t.Fatal(e)
	}
	return s
}

// evicted is a socket that is told so.
type evicted chan string

func (e evicted) Send(*wire.Frame)               {}
func (e evicted) Evicted(_ *Seat, reason string) { e <- reason }

func finished(t *testing.T, g *Registry) {
	t.Helper()
	if err := g.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// A seat can be taken away while its join is under way, before the bus is asked
// or after, and the bus may then let the member in or not. Whatever happens, what
// the join took is given back once: nobody else's subscription is, and no member
// stays without a socket.
func TestAJoinThatIsEvictedGivesBackWhatItTook(t *testing.T) {
	for name, c := range map[string]struct {
		before bool  // the bus is asked
		err    error // of the bus
		leaves int
	}{
		"before, let in":       {true, nil, 1},
		"before, refused":      {true, bus.ErrRoomFull, 0},
		"before, nobody knows": {true, bus.ErrUnknownOutcome, 1},
		"while, let in":        {false, nil, 1},
		"while, refused":       {false, bus.ErrRoomFull, 0},
		"while, nobody knows":  {false, bus.ErrUnknownOutcome, 1},
	} {
		t.Run(name, func(t *testing.T) {
			b := newCourtroom(t, kept)
			g, bobs := b.g, &ear{}
			seat(t, g, "bob", bobs)
			gone := make(evicted, 1)
			evict := func() {
				g.Sanctioned(&bus.Sanction{Kind: bus.Kick, Room: "r", Member: "x"})
				for g.stats.Seats.Load() > 1 {
					runtime.Gosched()
				}
			}
			if c.before {
				b.filters.recent = 1 // which are asked for with the seat in its place
				b.before = func() {
					evict()
					if reason := <-gone; reason != ReasonKicked {
						t.Errorf("told that it is %s", reason)
					}
				}
			}
			b.enter = func() (*bus.Entered, error) {
				if !c.before {
					evict()
				}
				if c.err != nil {
					return nil, c.err
				}
				return entered()
			}
			if _, e := g.Join(t.Context(), actor("x"), gone, "r", nil, joined); e == nil || c.err == nil && e.Code != wire.NotMember {
				t.Errorf("%+v", e)
			}
			finished(t, g)
			if b.users != 1 || len(b.left) != c.leaves || g.stats.Rooms.Load() != 1 || g.stats.Seats.Load() != 1 {
				t.Errorf("%d subscriptions, %+v left, %d rooms, %d seats", b.users, b.left, g.stats.Rooms.Load(), g.stats.Seats.Load())
			}
			g.Deliver(chat("e", 1))
			if got := strings.Join(bobs.heard, ","); got != "joined,chat 1" {
				t.Errorf("who stays heard %s", got)
			}
		})
	}
}

// A rejoin enters again only while its seat has not left: else the Leave of the
// seat would come before the Enter, and the member would stay for good.
func TestARejoinDoesNotEnterBehindItsLeave(t *testing.T) {
	b := newCourtroom(t, kept)
	b.join(t)
	r := b.seat.room
	b.enter = func() (*bus.Entered, error) { t.Error("entered"); return entered() }
	// The rejoin waits where another socket of the user is about to leave.
	b.seat.who.mu.Lock()
	answer := make(chan *wire.Error)
	go func() { answer <- b.seat.Rejoin(context.Background(), nil, joined) }()
	for behind := false; !behind; runtime.Gosched() {
		r.mu.Lock()
		behind = b.seat.barrier != nil
		r.mu.Unlock()
	}
	r.detach(b.seat)
	b.seat.stage |= settled
	b.seat.who.mu.Unlock()
	if e := <-answer; e == nil || e.Code != wire.NotMember {
		t.Errorf("%+v", e)
	}
}

// Who has lost the seat says nothing as a member any more, not even what was with
// the filters when it went.
func TestWhoHasNoSeatDoesNotPublish(t *testing.T) {
	c := newCourtroom(t, kept)
	c.join(t)
	c.seat.speak()
	c.seat.room.detach(c.seat)
	if e := c.seat.Publish(Chat{Message: []byte(`1`)}, nil); e == nil || e.Code != wire.NotMember {
		t.Errorf("published: %v", e)
	}
	c = newCourtroom(t, kept, filter.Chat)
	c.join(t)
	c.say(t, `1`)
	c.seat.room.detach(c.seat)
	c.filters.answer[0](&Ruling{})
	if want := "joined,not_member 1  "; c.heard() != want || len(c.published) != 0 {
		t.Errorf("heard %s, want %s; %d published", c.heard(), want, len(c.published))
	}
	if err := c.seat.Drained(t.Context()); err != nil {
		t.Error(err)
	}
}

// A ban and a kick hold from the moment they are told: messages that are under
// way are waited for, and no others join them, which could go on for as long as
// there is one more each time.
func TestWhoIsExpelledSaysNothingMore(t *testing.T) {
	for name, c := range map[string]struct {
		kind   bus.SanctionKind
		reason string
	}{"kicked": {bus.Kick, ReasonKicked}, "banned": {bus.Ban, ReasonBanned}} {
		t.Run(name, func(t *testing.T) {
			b := newCourtroom(t, kept)
			gone := make(evicted, 1)
			s := seat(t, b.g, "x", gone)
			if e := s.Publish(Chat{Message: []byte(`1`)}, func(Accepted, *wire.Error) {}); e != nil {
				t.Fatal(e)
			}
			b.g.Sanctioned(&bus.Sanction{Kind: c.kind, Room: "r", Member: "x"})
			for range 3 {
				if e := s.Publish(Chat{Message: []byte(`2`)}, nil); e == nil || e.Code != wire.NotMember {
					t.Errorf("published: %v", e)
				}
				if e := s.Signal([]byte(`2`)); e == nil || e.Code != wire.NotMember {
					t.Errorf("signalled: %v", e)
				}
			}
			if len(gone) != 0 {
				t.Error("it left before its message was resolved")
			}
			b.store(0, 1)
			if reason := <-gone; reason != c.reason {
				t.Errorf("told that it is %s", reason)
			}
			finished(t, b.g)
		})
	}
}

// A ban that is in force holds for who still sits there, and for what is with the
// filters.
func TestABanHoldsForWhoStillSits(t *testing.T) {
	c := newCourtroom(t, kept, filter.Chat)
	c.join(t)
	c.say(t, `1`)
	c.inForce = []*bus.Sanction{{Kind: bus.Ban, Member: "a", Room: "r"}}
	if e := c.seat.Publish(Chat{Message: []byte(`2`)}, nil); e == nil || e.Code != wire.Banned {
		t.Errorf("published: %v", e)
	}
	c.filters.answer[0](&Ruling{})
	if want := "joined,banned 1  "; c.heard() != want || len(c.published) != 0 {
		t.Errorf("heard %s, want %s; %d published", c.heard(), want, len(c.published))
	}
	if err := c.seat.Drained(t.Context()); err != nil {
		t.Error(err)
	}
}

// Nobody who is banned stays, however many they are, however slow the bus is, and
// whatever else waits for it.
func TestAllWhoAreBannedLeave(t *testing.T) {
	c := newCourtroom(t, kept)
	const guests = 4 * maxAsides
	sink := make(evicted, guests)
	for i := range guests {
		a := actor(fmt.Sprint("guest", i))
		a.Bound = "192.0.2.1"
		if _, e := c.g.Join(t.Context(), a, sink, "r", nil, joined); e != nil {
			t.Fatal(e)
		}
	}
	bob := seat(t, c.g, "bob", &ear{})
	slow := make(chan struct{})
	release := sync.OnceFunc(func() { close(slow) })
	defer release()
	c.leave = func() { <-slow }
	for range maxAsides {
		c.g.aside("something else", func(context.Context) error { <-slow; return nil })
	}
	c.g.Sanctioned(&bus.Sanction{Kind: bus.Ban, Room: "r", Member: "guest0", IP: "192.0.2.1"})
	release()
	finished(t, c.g)
	if n := c.g.stats.Seats.Load(); n != 1 || bob.Gone() || len(sink) != guests {
		t.Errorf("%d seats are left, %d were told of %d", n, len(sink), guests)
	}
}

// A ban that comes between the look for one and the seat, which it cannot find
// yet, holds all the same.
func TestABanFindsWhoIsAboutToSit(t *testing.T) {
	c := newCourtroom(t, kept, filter.Join)
	banned := onAsk{c.filters, func() {
		ban := &bus.Sanction{Kind: bus.Ban, Member: "x", Room: "r"}
		c.inForce = []*bus.Sanction{ban}
		c.g.Sanctioned(ban)
		c.filters.answer[0](&Ruling{})
	}}
	c.g.force.Load().Filters[0] = banned
	c.enter = func() (*bus.Entered, error) { t.Error("entered"); return entered() }
	if _, e := c.g.Join(t.Context(), actor("x"), &ear{}, "r", nil, joined); e == nil || e.Code != wire.Banned {
		t.Errorf("%+v", e)
	}
	if c.users != 0 || c.g.stats.Rooms.Load() != 0 || c.g.stats.Seats.Load() != 0 {
		t.Errorf("%d subscriptions, %d rooms, %d seats are left", c.users, c.g.stats.Rooms.Load(), c.g.stats.Seats.Load())
	}
}

// A reload that comes while a filter thinks about a join holds for the room that
// the join makes, and for the one who joins.
func TestAReloadDuringAJoinHolds(t *testing.T) {
	for name, c := range map[string]struct {
		join, create string
		enters       bus.CreateMode
		refused      bool
	}{
		"nobody may join":   {"nobody", "anyone", 0, true},
		"nobody may create": {"anyone", "nobody", bus.MustExist, false},
		"others may speak":  {"anyone", "anyone", bus.MayCreate, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := newCourtroom(t, kept, filter.Join)
			b.g.force.Load().Filters[0] = onAsk{b.filters, func() {
				set, problems := policy.Compile([]policy.Spec{{
					Match: "*", Create: c.create, Join: c.join, Publish: "nobody", Settings: policy.Settings{Presence: true, MembersMax: 7},
				}})
				if problems != nil {
					t.Fatal(problems)
				}
				b.g.Reload(t.Context(), Rules{Policies: set})
				b.filters.answer[0](&Ruling{})
			}}
			var entry *bus.Entry
			b.entering = func(e *bus.Entry) { entry = e }
			s, e := b.g.Join(t.Context(), actor("a"), b.sink, "r", nil, joined)
			if c.refused {
				if e == nil || e.Code != wire.Forbidden || entry != nil || b.users != 0 || b.g.stats.Rooms.Load() != 0 {
					t.Errorf("%v; entered %+v, %d subscriptions", e, entry, b.users)
				}
				return
			}
			if e != nil {
				t.Fatal(e)
			}
			if entry.Create != c.enters || entry.Max != 7 || entry.Retention.Kept() {
				t.Errorf("entered with %+v", entry)
			}
			if e := s.Publish(Chat{Message: []byte(`1`)}, nil); e == nil || e.Code != wire.Forbidden {
				t.Errorf("published: %v", e)
			}
		})
	}
}

// A reload and a fresh token may come at once. Neither undoes the other: who sits
// there in the end is who the token says, and that is who was asked for.
func TestAReloadDoesNotUndoAFreshToken(t *testing.T) {
	b := newCourtroom(t, kept)
	b.join(t)
	set, problems := policy.Compile([]policy.Spec{{Match: "*", Create: "anyone", Join: `user.id == "a" && user.name == "fresh"`, Settings: kept}})
	if problems != nil {
		t.Fatal(problems)
	}
	r, fresh := b.seat.room, actor("a")
	fresh.Identity.Name = "fresh"
	r.rules.Store((&Rules{Policies: set}).match("r"))
	r.mu.Lock() // the question waits here to see how many are in the room
	done := make(chan bool)
	go func() { done <- b.g.recheck(context.Background(), b.seat) }()
	for range 1000 {
		runtime.Gosched()
	}
	b.seat.actor.Store(fresh)
	r.mu.Unlock()
	if kept := <-done; !kept || b.seat.Gone() || b.seat.actor.Load() != fresh {
		t.Errorf("kept %v, as %+v", kept, b.seat.actor.Load().Identity)
	}
}
