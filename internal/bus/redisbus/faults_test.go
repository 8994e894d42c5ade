package redisbus_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wsrelay/relay/internal/bus"
	"github.com/wsrelay/relay/internal/bus/redisbus"
	"github.com/wsrelay/relay/internal/bus/redisbus/redistest"
)

// TestScriptsFlushedUnderLoad: a server that forgets the scripts again and again
// costs round trips and nothing else.
func TestScriptsFlushedUnderLoad(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	a, b := start(t, redisbus.Options{URL: server.URL()}), start(t, redisbus.Options{URL: server.URL()})
	a.subscribe("room", true)
	b.subscribe("room", true)
	stopA, stopB := flow(t, a, "room", keep), flow(t, b, "other", keep)
	for range 30 {
		server.Do("SCRIPT", "FLUSH")
		a.awaitMore("room", 10)
	}
	stored := storedOf(t, stopA())
	storedOf(t, stopB())
	a.follows("room", stored)
	b.follows("room", stored)
	if a.Stats().Resent.Load() == 0 {
		t.Error("no script was ever missing: the test has tested nothing")
	}
}

// TestPubSubConnectionsKilled: what came while they were down is read back.
func TestPubSubConnectionsKilled(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	a, b := start(t, redisbus.Options{URL: server.URL()}), start(t, redisbus.Options{URL: server.URL()})
	a.subscribe("room", true)
	b.subscribe("room", true)
	stop := flow(t, a, "room", keep)
	for range 20 {
		server.Do("CLIENT", "KILL", "TYPE", "pubsub")
		b.awaitMore("room", 10)
	}
	stored := storedOf(t, stop())
	a.follows("room", stored)
	b.follows("room", stored)
	if b.Stats().Healed.Load() == 0 {
		t.Error("nothing had to be healed: the test has tested nothing")
	}
}

// TestConnectionsCutUnderLoad: answers get lost with the connections, and what
// is sent again is not stored again.
func TestConnectionsCutUnderLoad(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	way := redistest.NewProxy(t, server.Addr())
	a, b := start(t, redisbus.Options{URL: way.URL()}), start(t, redisbus.Options{URL: server.URL()})
	a.subscribe("room", true)
	b.subscribe("room", true)
	stop := flow(t, a, "room", keep)
	for range 40 {
		way.Cut()
		b.awaitMore("room", 5)
	}
	stored := storedOf(t, stop(), bus.ErrUnavailable)
	a.follows("room", stored)
	b.follows("room", stored)
}

// TestAnswersLost: everything reaches Redis and no answer comes back, until it
// does. Each message is stored once, and its receipt says where.
func TestAnswersLost(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	way := redistest.NewProxy(t, server.Addr())
	a, b := start(t, redisbus.Options{URL: way.URL()}), start(t, redisbus.Options{URL: server.URL()})
	b.subscribe("room", true)
	for name, spoil := range map[string]func(){"dropped": way.DropReplies, "held": way.HoldReplies, "both ways held": way.Blackhole} {
		t.Run(name, func(t *testing.T) {
			f := newFates()
			before := len(b.room(name))
			b.subscribe(name, true)
			spoil()
			for i := range 20 {
				f.send(a, name, fmt.Sprint(before+i), keep)
			}
			eventually(t, "the bus to notice", func() error {
				if a.Health() == nil {
					return errors.New("it is well")
				}
				return nil
			})
			way.Heal()
			list := f.wait(t, 20)
			eventually(t, "health", a.Health)
			last := newFates()
			last.send(a, name, "last", keep)
			stored := storedOf(t, append(list, last.wait(t, 1)...), bus.ErrUnavailable, bus.ErrUnknownOutcome)
			b.follows(name, stored)
			for _, f := range list {
				if errors.Is(f.Err, bus.ErrUnavailable) && slices.ContainsFunc(b.room(name), func(e *bus.Event) bool { return string(e.Body) == f.body }) {
					t.Errorf("message %s was said not to have happened, and was delivered", f.body)
				}
			}
		})
	}
	if a.Stats().Resent.Load() == 0 {
		t.Error("nothing was sent again: the test has tested nothing")
	}
}

// TestUnknownOnlyWhenItIs: what Redis never answered within the time is of
// unknown outcome, and what never left is not.
func TestUnknownOnlyWhenItIs(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	a := start(t, redisbus.Options{URL: server.URL()})
	f := newFates()
	f.send(a, "room", "before", keep)
	f.wait(t, 1)
	server.Freeze()
	f.send(a, "room", "frozen", keep)
	eventually(t, "the bus to notice", a.unwell)
	f.send(a, "room", "refused", keep) // returns, with a server that answers nobody
	list := f.wait(t, 3)
	server.Thaw()
	for _, x := range list {
		switch x.body {
		case "frozen":
			if !errors.Is(x.Err, bus.ErrUnknownOutcome) {
				t.Errorf("what was sent to a frozen server: %v", x.Err)
			}
		case "refused":
			if !errors.Is(x.Err, bus.ErrUnavailable) {
				t.Errorf("what was never sent: %v", x.Err)
			}
		}
	}
	eventually(t, "health", a.Health)
	page, err := a.History(t.Context(), bus.HistoryQuery{Room: "room", Limit: 10})
	if err != nil || len(page.Events) > 2 {
		t.Errorf("%d messages are stored, %v", len(page.Events), err)
	}
}

// TestRestartWithData: nothing acked is lost, and the restart is told as a new
// epoch that shares all that was.
func TestRestartWithData(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	a, b := start(t, redisbus.Options{URL: server.URL()}), start(t, redisbus.Options{URL: server.URL()})
	b.subscribe("room", true)
	enter(t, a, "room", "m")
	stop := flow(t, a, "room", keep)
	b.awaitMore("room", 50)
	server.Kill()
	eventually(t, "the bus to notice", a.unwell)
	server.Up()
	for _, n := range []*instance{a, b} {
		eventually(t, "health", n.Health)
	}
	b.awaitMore("room", 50)
	stored := storedOf(t, stop(), bus.ErrUnavailable)
	b.follows("room", stored)
	var epochs, lost int
	for _, e := range b.room("room") {
		switch {
		case e.Kind == bus.Notice && e.Notice == bus.NoticeEpoch:
			epochs++
		case e.Kind == bus.Notice:
			lost++
		}
	}
	if epochs != 1 || lost != 0 {
		t.Errorf("told of %d epochs and %d losses", epochs, lost)
	}
	page, err := b.Members(t.Context(), "room", "", 10)
	if err != nil || page.Count != 1 {
		t.Errorf("members are %+v, %v", page, err)
	}
}

// TestRestartWithoutData: what is gone is told, never silent.
func TestRestartWithoutData(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	a, b := start(t, redisbus.Options{URL: server.URL()}), start(t, redisbus.Options{URL: server.URL()})
	b.subscribe("room", true)
	enter(t, a, "room", "m")
	f := newFates()
	for i := range 5 {
		f.send(a, "room", fmt.Sprint(i), keep)
	}
	old := f.wait(t, 5)[4]
	b.awaitMore("room", 0)
	server.Kill()
	eventually(t, "the bus to notice", a.unwell)
	server.Up()
	eventually(t, "health", a.Health)
	// The member comes back by itself, and with it the room, in another epoch;
	// nobody needs to publish for it to be told.
	eventually(t, "the new epoch to be told", func() error {
		for _, e := range b.room("room") {
			if e.Kind == bus.Notice && e.Notice == bus.NoticeEpoch && e.Epoch != old.Epoch {
				return nil
			}
		}
		return errors.New("not told")
	})
	eventually(t, "the member to be back", func() error {
		page, err := b.Members(t.Context(), "room", "", 10)
		if err == nil && page.Count != 1 {
			err = fmt.Errorf("%d members", page.Count)
		}
		return err
	})
	f.send(a, "room", "after", keep)
	if after := f.wait(t, 6)[5]; after.Err != nil || after.Epoch == old.Epoch || after.Seq != 1 {
		t.Errorf("published %+v after %+v", after, old)
	}
}

// TestFrozenBeyondSilence: a server that stops in its tracks is noticed, calls
// fail at once then, and all is well again by itself when it goes on.
func TestFrozenBeyondSilence(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	a, b := start(t, redisbus.Options{URL: server.URL()}), start(t, redisbus.Options{URL: server.URL()})
	a.subscribe("room", true)
	b.subscribe("room", true)
	enter(t, a, "room", "m")
	stop := flow(t, a, "room", keep)
	b.awaitMore("room", 20)
	for range 2 {
		server.Freeze()
		eventually(t, "the bus to notice", a.unwell)
		eventually(t, "calls to fail at once", func() error {
			ctx, cancel := context.WithCancel(t.Context())
			cancel() // whoever waits for anything is told of that
			if _, err := a.Enter(ctx, entry("room", "late")); !errors.Is(err, bus.ErrUnavailable) || errors.Is(err, context.Canceled) {
				return fmt.Errorf("entering: %w", err)
			}
			return nil
		})
		eventually(t, "both leases to run out", func() error {
			if a.Health() == nil || b.Health() == nil {
				return errors.New("one is well")
			}
			return nil
		})
		server.Thaw()
		eventually(t, "health", a.Health)
		eventually(t, "health", b.Health)
		b.awaitMore("room", 20)
	}
	stored := storedOf(t, stop(), bus.ErrUnavailable, bus.ErrUnknownOutcome)
	a.follows("room", stored)
	b.follows("room", stored)
	for _, e := range b.room("room") {
		if e.Kind == bus.Left {
			t.Error("a member was told to have left")
		}
	}
}

// TestAPausedInstanceIsReapedAndComesBack: its members leave once, and return
// with a new incarnation when it finds its lease gone.
func TestAPausedInstanceIsReapedAndComesBack(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	way := redistest.NewProxy(t, server.Addr())
	a, b := start(t, redisbus.Options{URL: way.URL()}), start(t, redisbus.Options{URL: server.URL()})
	b.subscribe("room", true)
	enter(t, a, "room", "m")
	enter(t, b, "room", "witness")
	changes := func() string {
		var s strings.Builder
		for _, e := range b.room("room") {
			if e.Sender.Member == "m" {
				fmt.Fprint(&s, map[bus.Kind]string{bus.Joined: "+", bus.Left: "-"}[e.Kind])
			}
		}
		return s.String()
	}
	way.Refuse()
	eventually(t, "the member to leave", func() error {
		if c := changes(); c != "+-" {
			return errors.New(c)
		}
		return nil
	})
	way.Heal()
	eventually(t, "the member to return", func() error {
		if c := changes(); c != "+-+" {
			return errors.New(c)
		}
		return nil
	})
	if a.Stats().Reborn.Load() != 1 || b.Stats().Reaped.Load() != 1 {
		t.Errorf("reborn %d times, reaped %d", a.Stats().Reborn.Load(), b.Stats().Reaped.Load())
	}
	if err := a.Leave(t.Context(), &bus.Leaving{Room: "room", Member: "m"}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the member to leave for good", func() error {
		if c := changes(); c != "+-+-" {
			return errors.New(c)
		}
		return nil
	})
}

// TestPartOfRedisForgets: presence that is gone while the lease is not is put
// back by the comparison, and nothing fails until it is.
func TestPartOfRedisForgets(t *testing.T) {
	t.Parallel()
	for name, keys := range map[string]string{
		"all of a room": "relay:{p*", "who is in it": "relay:{p*}:p:room", "whose members they are": "relay:{p*}:i:*", "their order": "relay:{p*}:[op]:room",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			a := start(t, redisbus.Options{URL: server.URL()})
			a.subscribe("room", true)
			enter(t, a, "room", "m")
			enter(t, a, "room", "n")
			server.Do(append([]string{"DEL"}, strings.Fields(server.Do("--raw", "KEYS", keys))...)...)
			if _, err := a.Members(t.Context(), "room", "", 10); err != nil {
				t.Errorf("listing members: %v", err)
			}
			enter(t, a, "room", "another")
			eventually(t, "the members to be back", func() error {
				page, err := a.Members(t.Context(), "room", "", 10)
				if err == nil && (page.Count != 3 || len(page.Members) != 3) {
					err = fmt.Errorf("%d members, %d listed", page.Count, len(page.Members))
				}
				return err
			})
			for _, m := range []string{"m", "n", "another"} {
				if err := a.Leave(t.Context(), &bus.Leaving{Room: "room", Member: m}); err != nil {
					t.Error(err)
				}
			}
			if page, err := a.Members(t.Context(), "room", "", 10); err != nil || page.Count != 0 {
				t.Errorf("%d members are left: %v", page.Count, err)
			}
		})
	}
}

// goBack makes the stream of the room, the only one, what it was at an earlier seq.
func goBack(server *redistest.Server, from, to int) {
	meta := server.Do("--raw", "KEYS", "*:m:room")
	stream := strings.Replace(meta, ":m:", ":s:", 1)
	server.Do("HSET", meta, "s", fmt.Sprint(to))
	for seq := to + 1; seq <= from; seq++ {
		server.Do("XDEL", stream, fmt.Sprint(seq, "-0"))
	}
	server.Do("XSETID", stream, fmt.Sprint(to, "-0"))
}

// TestStreamGoneBack: a snapshot put in place of what is there, with the same
// server, has the epoch of what was lost. It is found and told.
func TestStreamGoneBack(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	a, b := start(t, redisbus.Options{URL: server.URL()}), start(t, redisbus.Options{URL: server.URL()})
	b.subscribe("room", true)
	f := newFates()
	send := func(count int) []fate { return f.sendMore(t, a, count) }
	first := send(10)
	b.follows("room", first)
	goBack(server, 10, 5)
	after := send(1)[0]
	eventually(t, "the loss to be told", func() error {
		var epoch, lost bool
		for _, e := range b.room("room") {
			epoch = epoch || e.Kind == bus.Notice && e.Notice == bus.NoticeEpoch && e.To == 5
			lost = lost || e.Kind == bus.Notice && e.Notice == bus.NoticeLost && e.From == 6 && e.To == 10
		}
		if !epoch || !lost {
			return fmt.Errorf("epoch %v, lost %v", epoch, lost)
		}
		return nil
	})
	eventually(t, "the message after", func() error {
		for _, e := range b.room("room") {
			if string(e.Body) == after.body {
				return nil
			}
		}
		return errors.New("not delivered")
	})
	next := send(1)[0]
	if next.Epoch == first[0].Epoch || next.Seq != 7 {
		t.Errorf("the next is %+v after %+v", next, first[0])
	}
	// Who resumes from before what both share gets everything, from beyond not.
	for from, want := range map[uint64]bool{6: false, 9: false} {
		e := entry("room", "m")
		e.Resume = &bus.Position{Epoch: first[0].Epoch, Seq: from}
		in, err := b.Enter(t.Context(), e)
		if err != nil || in.Recovered != want || in.ForkedAt != 5 {
			t.Errorf("resumed from %d: %+v, %v", from, in, err)
		}
	}
}

// TestStreamGoneBackUnseen: while an instance hears nothing the stream goes back
// and, under the same epoch, on, to before or beyond where the instance is. Where
// the stream stands tells little then; the messages that were delivered last do, or
// that none of them is there. (Where it stands as before, nothing is looked at.)
func TestStreamGoneBackUnseen(t *testing.T) {
	t.Parallel()
	const back = 5
	for _, c := range []struct {
		name             string
		before, on, from int
	}{
		{"to before", 10, 1, 6},
		{"beyond", 10, 8, 6},
		{"far back", 40, 0, 1},
		{"far back, and to before", 40, 8, 1},
		{"far back, and beyond", 40, 36, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			way := redistest.NewProxy(t, server.Addr())
			a, b := start(t, redisbus.Options{URL: server.URL()}), start(t, redisbus.Options{URL: way.URL()})
			b.subscribe("room", true)
			f := newFates()
			send := func(count int) []fate {
				t.Helper()
				if count == 0 {
					return nil
				}
				return storedOf(t, f.sendMore(t, a, count))
			}
			first := send(c.before)
			b.follows("room", first)
			way.Blackhole()
			goBack(server, c.before, back)
			want := []string{fmt.Sprint(bus.NoticeLost, c.from, "-", c.before), fmt.Sprint(bus.NoticeEpoch, 0, "-", c.from-1)}
			for _, f := range slices.Concat(first[c.from-1:back], send(c.on)) {
				want = append(want, f.body)
			}
			way.Cut()
			way.Heal()
			eventually(t, "the loss and what came instead to be told", func() error {
				var told []string
				events := b.room("room")
				for _, e := range events[min(c.before, len(events)):] {
					switch {
					case e.Kind == bus.Notice:
						told = append(told, fmt.Sprint(e.Notice, e.From, "-", e.To))
					case e.Kind == bus.Chat:
						told = append(told, string(e.Body))
					}
				}
				if !slices.Equal(told, want) {
					return fmt.Errorf("told %q, want %q", told, want)
				}
				return nil
			})
		})
	}
}

// TestARestartThatLosesMuch: a server that begins with an old snapshot has what it
// had, which nobody is given again, however much came after.
func TestARestartThatLosesMuch(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	a, b := start(t, redisbus.Options{URL: server.URL()}), start(t, redisbus.Options{URL: server.URL()})
	b.subscribe("room", true)
	f := newFates()
	for i := range 40 {
		if i == 5 {
			f.wait(t, 5)
			server.Do("SAVE")
		}
		f.send(a, "room", fmt.Sprint(i), keep)
	}
	b.follows("room", storedOf(t, f.wait(t, 40)))
	server.Kill()
	server.Up()
	told := func() (told []string) {
		for _, e := range b.room("room")[40:] {
			switch e.Kind {
			case bus.Notice:
				told = append(told, fmt.Sprint(e.Notice, e.From, "-", e.To))
			case bus.Chat:
				told = append(told, string(e.Body))
			}
		}
		return told
	}
	want := []string{fmt.Sprint(bus.NoticeLost, 6, "-", 40), fmt.Sprint(bus.NoticeEpoch, 0, "-", 5)}
	eventually(t, "the loss to be told", func() error {
		if got := told(); !slices.Equal(got, want) {
			return fmt.Errorf("told %q, want %q", got, want)
		}
		return nil
	})
	eventually(t, "health", a.Health)
	f.send(a, "room", "after", keep)
	if after := f.wait(t, 41)[40]; after.Err != nil || after.Seq != 6 {
		t.Fatalf("published %+v", after)
	}
	eventually(t, "what comes after", func() error {
		if got := told(); !slices.Equal(got, append(slices.Clone(want), "after")) {
			return fmt.Errorf("told %q", got)
		}
		return nil
	})
}

// TestQueueIsBounded: with Redis frozen, Publish refuses once the bound is
// reached, and Close ends in time.
func TestQueueIsBounded(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	a := start(t, redisbus.Options{URL: server.URL(), MaxQueued: 1 << 20})
	f := newFates()
	server.Freeze()
	defer server.Thaw()
	body := `"` + strings.Repeat("x", 10_000) + `"`
	const count = 400
	for range count {
		f.send(a, "room", body, keep)
	}
	f.mu.Lock()
	refused := len(f.list)
	f.mu.Unlock()
	if waiting := count - refused; refused == 0 || waiting > 128+110 {
		t.Errorf("%d of %d refused: %d wait", refused, count, waiting)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := a.Close(ctx); err == nil {
		t.Error("closed well with messages waiting")
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("closing took %v", took)
	}
	f.wait(t, count)
}
