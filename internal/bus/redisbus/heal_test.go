package redisbus

import (
	"fmt"
	"strings"
	"testing"

	"github.com/wsrelay/relay/internal/bus"
)

// told writes deliveries down: a chat as its seq, others as a word.
type told struct {
	bus.AtOnce
	strings.Builder
}

func (d *told) Deliver(e *bus.Event) {
	if d.Len() > 0 {
		d.WriteByte(' ')
	}
	switch {
	case e.Kind == bus.Notice && e.Notice == bus.NoticeEpoch:
		fmt.Fprintf(d, "epoch:%s@%d", e.Epoch, e.To)
	case e.Kind == bus.Notice && e.Notice == bus.NoticeLost:
		fmt.Fprintf(d, "lost:%d-%d", e.From, e.To)
	case e.Kind == bus.Joined:
		fmt.Fprintf(d, "join:%d", e.Version)
	case e.Kind == bus.Signal:
		d.WriteString("signal")
	case e.Kind == bus.Resync:
		fmt.Fprintf(d, "list:%d", e.Version)
	default:
		fmt.Fprintf(d, "%s%d", e.Epoch, e.Seq)
	}
}

func (*told) Sanctioned(*bus.Sanction) {}
func (*told) Lifted(*bus.Sanction)     {}

func testRoom(t *testing.T, at bus.Position) (*room, *told) {
	t.Helper()
	b, err := New(Options{URL: "redis://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
	d := &told{}
	b.handler = d
	r := &room{bus: b, lane: b.lanes[0], name: "room", keeps: true, placed: true, pos: at}
	return r, d
}

func chatAt(epoch string, seq uint64) frame {
	at := bus.Position{Epoch: epoch, Seq: seq}
	id := bus.MessageID{15: byte(seq)}
	copy(id[:8], epoch)
	copy(id[8:], epoch)
	return frame{event: &bus.Event{Kind: bus.Chat, Position: at, ID: id}, at: at, sequenced: true, size: 10}
}

func joinAfter(epoch string, seq, version uint64) frame {
	return frame{event: &bus.Event{Kind: bus.Joined, Version: version}, at: bus.Position{Epoch: epoch, Seq: seq}, size: 10}
}

func stream(epoch string, seq uint64, shared int64, events ...uint64) *state {
	s := &state{Position: bus.Position{Epoch: epoch, Seq: seq}, shared: shared, covered: seq}
	for _, n := range events {
		s.events = append(s.events, chatAt(epoch, n).event)
	}
	return s
}

// TestMending: what is held is told in its place among what was read back, and
// what neither has is told as lost.
func TestMending(t *testing.T) {
	a := func(seq uint64) bus.Position { return bus.Position{Epoch: "a", Seq: seq} }
	signal := frame{event: &bus.Event{Kind: bus.Signal}, size: 10}
	for _, c := range []struct {
		name  string
		at    bus.Position
		held  []frame
		now   *state
		want  string
		whole bool
	}{
		{"hole", a(2), []frame{chatAt("a", 5)}, stream("a", 5, 2, 3, 4, 5), "a3 a4 a5", true},
		{"held beyond what was read", a(2), []frame{chatAt("a", 5), chatAt("a", 6)}, stream("a", 5, 2, 3, 4, 5), "a3 a4 a5 a6", true},
		{"read beyond what is held", a(2), []frame{chatAt("a", 4)}, stream("a", 6, 2, 3, 4, 5, 6), "a3 a4 a5 a6", true},
		{"a join keeps its place", a(2), []frame{joinAfter("a", 3, 1), chatAt("a", 4)}, stream("a", 5, 2, 3, 4, 5), "a3 join:1 a4 a5", true},
		{"a signal too", a(2), []frame{chatAt("a", 4), signal, chatAt("a", 5)}, stream("a", 5, 2, 3, 4, 5), "a3 a4 signal a5", true},
		{"trimmed", a(2), []frame{chatAt("a", 9)}, stream("a", 9, 2, 7, 8, 9), "lost:3-6 a7 a8 a9", true},
		{"trimmed with redacted ones", a(2), nil, &state{Position: a(9), shared: 2, covered: 9, tombs: []uint64{3, 5, 6}, events: []*bus.Event{chatAt("a", 9).event}}, "lost:4-4 lost:7-8 a9", true},
		{"trimmed, but held", a(2), []frame{chatAt("a", 5), chatAt("a", 9)}, stream("a", 9, 2, 8, 9), "lost:3-4 a5 lost:6-7 a8 a9", true},
		{"unreadable", a(2), nil, &state{Position: a(4), shared: 2, covered: 4, events: []*bus.Event{{Position: a(3)}, chatAt("a", 4).event}}, "lost:3-3 a4", true},
		{"all gone", a(2), nil, stream("a", 4, 2), "lost:3-4", true},
		{"redacted inside", a(2), nil, stream("a", 6, 2, 3, 5, 6), "a3 a5 a6", true},
		{"redacted, and held all the same", a(2), []frame{chatAt("a", 4), chatAt("a", 5)}, stream("a", 5, 2, 3, 5), "a3 a5", true},
		{"nothing missed", a(2), nil, stream("a", 2, 2), "", true},
		{"fork ahead of us", a(2), []frame{chatAt("b", 4)}, stream("b", 4, 3, 3, 4), "epoch:b@3 b3 b4", true},
		{"fork behind us", a(5), []frame{chatAt("b", 4)}, stream("b", 4, 3, 4), "lost:4-5 epoch:b@3 b4", true},
		{"another room by that name", a(5), []frame{chatAt("b", 1)}, stream("b", 1, -1, 1), "epoch:b@5 b1", true},
		{"from before the first", bus.Position{}, []frame{chatAt("b", 3)}, stream("b", 3, -1, 1, 2, 3), "b1 b2 b3", true},
		{"more than one reading", a(0), []frame{chatAt("a", 9)}, &state{Position: a(9), shared: 0, covered: 2, events: []*bus.Event{chatAt("a", 1).event, chatAt("a", 2).event}}, "a1 a2", false},
		{"flushed and silent", a(5), nil, nil, "", true},
		{"a frame of the next epoch", a(2), []frame{chatAt("a", 3), chatAt("b", 4)}, stream("a", 3, 2, 3), "a3", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, d := testRoom(t, c.at)
			r.healing = true
			for _, f := range c.held {
				r.hold(f)
			}
			if whole := r.mend(c.now, c.at); whole != c.whole || r.healing == c.whole {
				t.Errorf("whole is %v, healing %v", whole, r.healing)
			}
			if d.String() != c.want {
				t.Errorf("told %q, want %q", d, c.want)
			}
		})
	}
}

// TestAFrameThatNeverFitsIsLetGo: one of an epoch that is over, or that a
// primary took which was then replaced, must not be waited for forever.
func TestAFrameThatNeverFitsIsLetGo(t *testing.T) {
	at := bus.Position{Epoch: "b", Seq: 2}
	r, d := testRoom(t, at)
	r.healing = true
	r.hold(chatAt("a", 9))
	r.hold(chatAt("b", 3))
	if r.mend(stream("b", 2, 2), at) {
		t.Fatal("whole at once: nothing was looked up again for the other epoch")
	}
	if !r.mend(stream("b", 3, 2, 3), at) || d.String() != "b3" {
		t.Errorf("told %q, healing %v", d, r.healing)
	}
}

// TestConflict: the same epoch and seq with another message is no repeat.
func TestConflict(t *testing.T) {
	r, d := testRoom(t, bus.Position{Epoch: "a"})
	for seq := range uint64(5) {
		r.take(chatAt("a", seq+1))
	}
	r.take(chatAt("a", 3))
	if r.healing || r.conflict != 0 || r.bus.stats.Repeated.Load() != 1 {
		t.Error("a repeat was not taken for one")
	}
	other := chatAt("a", 4)
	other.event.ID[15] = 99
	r.take(other)
	if !r.healing || r.conflict != 4 {
		t.Errorf("healing %v, conflict at %d", r.healing, r.conflict)
	}
	if d.String() != "a1 a2 a3 a4 a5" {
		t.Errorf("told %q", d)
	}
}

// TestHeldIsBounded: what is too much is let go, and the room looked up again.
func TestHeldIsBounded(t *testing.T) {
	at := bus.Position{Epoch: "a", Seq: 1}
	r, d := testRoom(t, at)
	r.healing = true
	r.bus.opts.MaxHeld = 45
	for seq := range uint64(5) {
		r.hold(chatAt("a", seq+3))
	}
	if len(r.held) != 0 || !r.spilled {
		t.Fatalf("%d held, spilled %v", len(r.held), r.spilled)
	}
	if r.mend(stream("a", 3, 1, 2, 3), at) {
		t.Error("whole without what was let go")
	}
	r.spilled = false
	if !r.mend(stream("a", 7, 3, 4, 5, 6, 7), r.pos) || d.String() != "a2 a3 a4 a5 a6 a7" {
		t.Errorf("told %q", d)
	}
}

// TestAHoleInTheMemberList: each change of the list adds one to its version. Where
// one is missing, the list is told as a whole, and one that was read before what
// was delivered since is not.
func TestAHoleInTheMemberList(t *testing.T) {
	r, d := testRoom(t, bus.Position{Epoch: "a", Seq: 1})
	b := r.bus
	b.roster.rooms[r.name] = &roll{room: r.name, members: map[string]*record{"m": {member: "m", busy: true, present: presence{terms: &terms{listed: true}}}}}
	owed := func() bool {
		was := r.lane.healer.queued[r]
		delete(r.lane.healer.queued, r)
		return was
	}
	look := func(version uint64) { r.see(seen{Position: r.pos, version: version, told: r.version}, true) }
	join := func(version uint64) { r.take(joinAfter("a", 1, version)) }
	join(11)
	join(12)
	look(12)
	look(13) // which is on its way
	join(13)
	look(13)
	look(13)
	if owed() || r.whole != 13 {
		t.Errorf("whole up to %d, or a list is owed without reason", r.whole)
	}
	join(15) // 14 was not told, or got lost
	look(15)
	if owed() {
		t.Error("a list at once, though 14 may be on its way")
	}
	look(15)
	if !owed() {
		t.Error("no list, though 14 is missing")
	}
	tell := func(version uint64) {
		t.Helper()
		r.list(bus.MemberPage{Version: version, Count: 1}, 1, 13)
	}
	tell(14)
	if d.String() != "join:11 join:12 join:13 join:15" || r.alert == 0 {
		t.Errorf("told %q, alert %d", d, r.alert)
	}
	tell(15)
	join(15)
	join(16)
	if d.String() != "join:11 join:12 join:13 join:15 list:15 join:16" || r.whole != 16 {
		t.Errorf("told %q, whole up to %d", d, r.whole)
	}
	join(17)
	join(16) // of a Redis that lost the last two
	if r.version != 16 || r.whole != 0 || !b.audit.asked[partitionOf(r.name)] {
		t.Errorf("at %d, whole up to %d", r.version, r.whole)
	}
	tell(16)
	if d.String() != "join:11 join:12 join:13 join:15 list:15 join:16 join:17 join:16 list:16" || r.whole != 16 {
		t.Errorf("told %q, whole up to %d", d, r.whole)
	}
}

// TestWhereNoListIsShown: a room whose members are shown no list owes none, and is
// not looked at again and again for it.
func TestWhereNoListIsShown(t *testing.T) {
	r, _ := testRoom(t, bus.Position{Epoch: "a", Seq: 1})
	r.take(joinAfter("a", 1, 5))
	r.listWentBack()
	if err := r.lane.healer.tellMembers(r); err != nil || r.owed || r.version != 0 {
		t.Errorf("owed %v, version %d, %v", r.owed, r.version, err)
	}
}

// TestTheFirstChangeIsNoBeginning: where somebody came back without a word before it.
func TestTheFirstChangeIsNoBeginning(t *testing.T) {
	r, d := testRoom(t, bus.Position{Epoch: "a", Seq: 1})
	r.take(frame{version: 11})
	r.take(joinAfter("a", 1, 12))
	if r.whole >= 11 || d.String() != "join:12" {
		t.Errorf("whole up to %d, told %q", r.whole, d)
	}
}
