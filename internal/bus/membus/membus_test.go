package membus_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/wsrelay/relay/internal/bus"
	"github.com/wsrelay/relay/internal/bus/bustest"
	"github.com/wsrelay/relay/internal/bus/membus"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestContract runs the suite that every bus passes, in virtual time.
func TestContract(t *testing.T) {
	bustest.Run(t, func(t testing.TB, n int) *bustest.Backend {
		broker := membus.NewBroker(membus.Options{Lease: time.Second, MaxSanctions: 20})
		t.Cleanup(broker.Close)
		b := &bustest.Backend{}
		for range n {
			b.Instances = append(b.Instances, broker.Instance())
		}
		b.Another = func() bus.Bus { return broker.Instance() }
		return b
	}, bustest.Capabilities{Bubble: synctest.Test, Lease: time.Second, ExactKeep: true, MaxSanctions: 20})
}

// sink keeps what it is given; tests read it when nothing delivers.
type sink struct {
	bus.AtOnce
	events []*bus.Event
}

func (s *sink) Deliver(e *bus.Event) { s.events = append(s.events, e) }

func (*sink) Sanctioned(*bus.Sanction) {}
func (*sink) Lifted(*bus.Sanction)     {}

type receiptFunc func(bus.Result)

func (f receiptFunc) Published(r bus.Result) { f(r) }

var kept = bus.Retention{Keep: 1000, For: time.Hour}

func message(room, body string) *bus.Message {
	return &bus.Message{Retention: kept, Event: bus.Event{
		Kind: bus.Chat, Room: room, ID: bus.NewMessageID(), Time: time.Now().UnixMilli(),
		Sender: bus.Sender{Member: "m"}, Body: []byte(body),
	}}
}

func publish(t *testing.T, b bus.Bus, m *bus.Message) (got bus.Result) {
	t.Helper()
	if err := b.Publish(m, receiptFunc(func(r bus.Result) { got = r })); err != nil {
		t.Fatal(err)
	}
	return got
}

func enter(t *testing.T, b bus.Bus, e *bus.Entry) *bus.Entered {
	t.Helper()
	entered, err := b.Enter(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	return entered
}

// start makes a broker with one instance. Both end with the test.
func start(t *testing.T, o membus.Options, h bus.Handler) (*membus.Broker, *membus.Bus) {
	t.Helper()
	broker := membus.NewBroker(o)
	b := broker.Instance()
	if err := b.Start(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(context.Background()); err != nil {
			t.Error(err)
		}
		broker.Close()
	})
	return broker, b
}

// agree compares the broker's counters with a new count.
func agree(t *testing.T, broker *membus.Broker) membus.Held {
	t.Helper()
	counted, counters := broker.Held()
	if counted != counters {
		t.Errorf("counters say %+v, there are %+v", counters, counted)
	}
	return counted
}

func TestHistoryBytesAreBoundedOldestRoomsFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const bound = 100_000
		broker, b := start(t, membus.Options{MaxHistoryBytes: bound}, &sink{})
		var last bus.Result
		for i := range 400 {
			last = publish(t, b, message(fmt.Sprint("room-", i/10), string(make([]byte, 600))))
			time.Sleep(time.Millisecond) // virtual: rooms get an age
			if held := agree(t, broker); held.HistoryBytes > bound {
				t.Fatalf("message %d: %d bytes held", i, held.HistoryBytes)
			}
		}
		// What was trimmed shows: the oldest room cannot be resumed, but goes on.
		old := enter(t, b, &bus.Entry{Room: "room-0", Member: "m", Retention: kept, Resume: &bus.Position{Seq: 0}})
		if old.OldestHistory != 0 || old.Seq != 10 {
			t.Errorf("oldest room: %+v", old)
		}
		back := enter(t, b, &bus.Entry{Room: "room-0", Member: "m", Retention: kept, Resume: &bus.Position{Epoch: old.Epoch, Seq: 3}})
		if back.Recovered || back.Missed != nil {
			t.Errorf("resumed from what was trimmed: %+v", back)
		}
		if next := publish(t, b, message("room-0", "1")); next.Epoch != old.Epoch || next.Seq != 11 {
			t.Errorf("next is %+v", next)
		}
		newest := enter(t, b, &bus.Entry{Room: "room-39", Member: "m", Retention: kept, Resume: &bus.Position{Epoch: last.Epoch}})
		if !newest.Recovered || len(newest.Missed) != 10 {
			t.Errorf("newest room: %+v", newest)
		}
	})
}

func TestHistoryBytesOfOneRoomAreBounded(t *testing.T) {
	const bound = 50_000
	broker, b := start(t, membus.Options{MaxHistoryBytes: bound}, &sink{})
	for range 200 {
		publish(t, b, message("room", string(make([]byte, 600))))
	}
	if held := agree(t, broker); held.HistoryBytes > bound || held.HistoryBytes < bound/3 {
		t.Errorf("%d bytes held with a bound of %d", held.HistoryBytes, bound)
	}
	page, err := b.History(t.Context(), bus.HistoryQuery{Room: "room", Limit: 5})
	if err != nil || len(page.Events) != 5 || page.Events[4].Seq != 200 {
		t.Errorf("the newest: %+v, %v", page, err)
	}
}

func TestKeysAreBoundedByRefusalAndForgottenInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker, b := start(t, membus.Options{MaxKeys: 2}, &sink{})
		keyed := func(key string) *bus.Message {
			m := message("room", "1")
			m.Key = key
			return m
		}
		first := publish(t, b, keyed("a"))
		publish(t, b, keyed("b"))
		var called bool
		err := b.Publish(keyed("c"), receiptFunc(func(bus.Result) { called = true }))
		if !errors.Is(err, bus.ErrUnavailable) || called {
			t.Errorf("a third key of two: %v, receipt called: %v", err, called)
		}
		if again := publish(t, b, keyed("a")); !again.Duplicate || again.Position != first.Position {
			t.Errorf("repeat: %+v", again)
		}
		time.Sleep(bus.KeyTTL - time.Second)
		if again := publish(t, b, keyed("a")); !again.Duplicate {
			t.Errorf("repeat within the time: %+v", again)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if held := agree(t, broker); held.Keys != 0 {
			t.Errorf("%d keys held after their time", held.Keys)
		}
		if anew := publish(t, b, keyed("a")); anew.Duplicate || anew.Seq != 3 {
			t.Errorf("after the time: %+v", anew)
		}
	})
}

func TestKeysOutliveTheirRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker, b := start(t, membus.Options{}, &sink{})
		short := &bus.Entry{Room: "room", Member: "m", Idle: time.Second, Retention: bus.Retention{Keep: 10, For: time.Second}}
		m := message("room", "1")
		m.Key, m.Retention = "key", short.Retention
		enter(t, b, short)
		first := publish(t, b, m)
		if err := b.Leave(t.Context(), &bus.Leaving{Room: "room", Member: "m"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if anew := enter(t, b, short); !anew.Created || anew.Epoch == first.Epoch {
			t.Fatalf("entered %+v", anew)
		}
		if again := publish(t, b, m); !again.Duplicate || again.Position != first.Position {
			t.Errorf("repeat: %+v, first %+v", again, first)
		}
		agree(t, broker)
	})
}

func TestRoomsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker, b := start(t, membus.Options{MaxRooms: 3}, &sink{})
		for _, room := range []string{"a", "b", "c"} {
			enter(t, b, &bus.Entry{Room: room, Member: "m", Idle: time.Hour})
		}
		if _, err := b.Enter(t.Context(), &bus.Entry{Room: "d", Member: "m"}); !errors.Is(err, bus.ErrUnavailable) {
			t.Errorf("a fourth of three, all occupied: %v", err)
		}
		if err := b.Publish(message("d", "1"), receiptFunc(func(bus.Result) {})); !errors.Is(err, bus.ErrUnavailable) {
			t.Errorf("a fourth of three, by a message: %v", err)
		}
		for _, room := range []string{"b", "a"} {
			if err := b.Leave(t.Context(), &bus.Leaving{Room: room, Member: "m"}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		enter(t, b, &bus.Entry{Room: "d", Member: "m", Create: bus.MustCreate}) // b was empty longest
		enter(t, b, &bus.Entry{Room: "a", Member: "m", Create: bus.MustExist})
		if held := agree(t, broker); held.Rooms != 3 || held.Records != 3 {
			t.Errorf("held: %+v", held)
		}
	})
}

// TestNothingIsLeftOfForgottenRooms runs rooms through everything that leaves
// something behind, and lets them end.
func TestNothingIsLeftOfForgottenRooms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker, b := start(t, membus.Options{}, &sink{})
		for i := range 500 {
			room := fmt.Sprint("room-", i)
			e := &bus.Entry{Room: room, Member: "m", Presence: true, Announce: true, Idle: 2 * time.Hour, Retention: kept}
			if i%2 == 0 {
				e.Retention = bus.Retention{}
			}
			if i%5 != 0 { // every fifth room is only published to
				enter(t, b, e)
				e.Member = "other"
				enter(t, b, e)
			}
			if _, err := b.Subscribe(t.Context(), room, true); err != nil {
				t.Fatal(err)
			}
			for k := range 5 {
				m := message(room, "1")
				m.Retention, m.Key = e.Retention, fmt.Sprint(k)
				sent := publish(t, b, m)
				if k == 2 && e.Retention.Kept() {
					if _, err := b.Redact(t.Context(), &bus.Redaction{Room: room, Target: sent.ID, Seq: sent.Seq, Retention: kept}); err != nil {
						t.Fatal(err)
					}
				}
			}
			for _, member := range []string{"m", "other"} {
				if err := b.Leave(t.Context(), &bus.Leaving{Room: room, Member: member, Grace: time.Duration(i) * time.Second}); err != nil {
					t.Fatal(err)
				}
			}
			b.Unsubscribe(room)
		}
		if held := agree(t, broker); held.Rooms == 0 || held.Keys == 0 || held.HistoryBytes == 0 {
			t.Fatalf("held: %+v", held)
		}
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		if held := agree(t, broker); held != (membus.Held{}) {
			t.Errorf("left behind: %+v", held)
		}
	})
}

// TestANewEpochIsTold: an instance that stayed subscribed to a room that was
// forgotten must not take the new stream for the old.
func TestANewEpochIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s sink
		_, b := start(t, membus.Options{}, &s)
		if _, err := b.Subscribe(t.Context(), "room", true); err != nil {
			t.Fatal(err)
		}
		old := publish(t, b, message("room", "1"))
		time.Sleep(2 * kept.For)
		anew := publish(t, b, message("room", "2"))
		if len(s.events) != 3 || anew.Epoch == old.Epoch || anew.Seq != 1 {
			t.Fatalf("%d events, %+v then %+v", len(s.events), old, anew)
		}
		e := s.events[1]
		if e.Kind != bus.Notice || e.Notice != bus.NoticeEpoch || e.Epoch != anew.Epoch || e.To != old.Seq || e.Room != "room" {
			t.Errorf("told %+v", e)
		}
	})
}

func TestBeforeStartNothingWorksAndStartIsOnce(t *testing.T) {
	b := membus.New(membus.Options{})
	if err := b.Health(); !errors.Is(err, bus.ErrUnavailable) {
		t.Errorf("health: %v", err)
	}
	if _, err := b.Subscribe(t.Context(), "room", true); !errors.Is(err, bus.ErrUnavailable) {
		t.Errorf("subscribing: %v", err)
	}
	for i, want := range []bool{true, false} {
		if err := b.Start(t.Context(), &sink{}); (err == nil) != want {
			t.Errorf("start %d: %v", i+1, err)
		}
	}
	if err := b.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAReceiptMayUseTheBus(t *testing.T) {
	_, b := start(t, membus.Options{}, &sink{})
	var second bus.Result
	err := b.Publish(message("room", "1"), receiptFunc(func(bus.Result) {
		second = publish(t, b, message("room", "2"))
	}))
	if err != nil || second.Seq != 2 {
		t.Errorf("%+v, %v", second, err)
	}
}

func TestCloseWaitsForReceiptsWithinItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := membus.New(membus.Options{})
		if err := b.Start(t.Context(), &sink{}); err != nil {
			t.Fatal(err)
		}
		release := make(chan struct{})
		go b.Publish(message("room", "1"), receiptFunc(func(bus.Result) { <-release }))
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := b.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("closing with a receipt stuck: %v", err)
		}
		closed := make(chan error)
		go func() { closed <- b.Close(context.Background()) }()
		synctest.Wait()
		select {
		case err := <-closed:
			t.Errorf("closed before the receipt was done: %v", err)
		default:
		}
		close(release)
		if err := <-closed; err != nil {
			t.Errorf("closing: %v", err)
		}
	})
}

func TestAClosedBrokerRingsNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s sink
		broker, b := start(t, membus.Options{}, &s)
		if _, err := b.Subscribe(t.Context(), "room", false); err != nil {
			t.Fatal(err)
		}
		enter(t, b, &bus.Entry{Room: "room", Member: "m", Presence: true, Announce: true})
		if err := b.Leave(t.Context(), &bus.Leaving{Room: "room", Member: "m", Grace: time.Second}); err != nil {
			t.Fatal(err)
		}
		broker.Close()
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(s.events) != 1 {
			t.Errorf("%d events, want the join only", len(s.events))
		}
	})
}
