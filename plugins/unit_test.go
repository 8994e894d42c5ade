package plugins

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wsrelay/relay/internal/bus"
	"github.com/wsrelay/relay/internal/room"
	"github.com/wsrelay/relay/plugins/filter"
)

// lonelyUnit is a unit whose plugin is away, and a chain that asks it.
func lonelyUnit(t *testing.T, budget time.Duration) (*unit, *Chain) {
	t.Helper()
	h := New(HostOptions{Log: slog.New(slog.DiscardHandler)})
	u := newUnit(h, h.log, &tally{})
	st := &stage{opts: Options{Name: "away", Timeout: budget, Enforce: 100}, unit: u, tally: u.tally, log: h.log}
	st.limit()
	set := &Set{host: h, stages: map[string]*stage{"away": st}, order: []string{"away"}}
	c, err := set.Chain([]string{"away"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	return u, c
}

// failures counts what rulings give as the reason.
type failures struct {
	mu sync.Mutex
	by map[string]int
}

func (f *failures) done(r *room.Ruling) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.by == nil {
		f.by = map[string]int{}
	}
	f.by[r.Steps[0].Failure]++
}

func (f *failures) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return fmt.Sprint(f.by)
}

// Messages wait for a plugin that is away, as long as their budget is and up to
// the bounds of the queue. What is beyond is Overload at once.
func TestTheQueueIsBoundedInNumberAndBytes(t *testing.T) {
	for _, c := range []struct {
		body string
		fits int
	}{
		{`"x"`, maxQueued},
		{`"` + strings.Repeat("x", 1<<20-2) + `"`, 32},
	} {
		synctest.Test(t, func(t *testing.T) {
			u, chain := lonelyUnit(t, 50*time.Millisecond)
			var got failures
			for range c.fits + 10 {
				chain.Judge(chat(c.body), got.done)
			}
			if got.String() != "map[overload:10]" {
				t.Errorf("at once: %v", &got)
			}
			time.Sleep(49 * time.Millisecond)
			if got.String() != "map[overload:10]" {
				t.Errorf("before their time: %v", &got)
			}
			time.Sleep(2 * time.Millisecond)
			synctest.Wait()
			if want := fmt.Sprintf("map[crash:%d overload:10]", c.fits); got.String() != want {
				t.Errorf("after their time: %v, want %s", &got, want)
			}
			u.mu.Lock()
			if u.bytes != 0 || u.queued != 0 || len(u.queue) != 0 || u.soonest.first != nil || u.soonest.last != nil || !u.armed.IsZero() {
				t.Errorf("left: %d bytes, %d queued, %d in the list", u.bytes, u.queued, len(u.queue))
			}
			u.mu.Unlock()
			chain.Judge(chat(c.body), got.done) // there is room again
			u.mu.Lock()
			if u.queued != 1 {
				t.Error("nothing is taken any more")
			}
			u.mu.Unlock()
			time.Sleep(time.Second)
		})
	}
}

// One timer serves all budgets, also when a shorter one comes after a longer one.
func TestEveryMessageIsAnsweredWhenItsBudgetEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u, long := lonelyUnit(t, time.Second)
		_, short := lonelyUnit(t, 10*time.Millisecond)
		short.stages[0].unit = u
		start := time.Now()
		var took []time.Duration
		var mu sync.Mutex
		note := func(*room.Ruling) { mu.Lock(); took = append(took, time.Since(start)); mu.Unlock() }
		long.Judge(chat(`"x"`), note)
		short.Judge(chat(`"x"`), note)
		time.Sleep(5 * time.Millisecond)
		short.Judge(chat(`"x"`), note)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if want := []time.Duration{10 * time.Millisecond, 15 * time.Millisecond, time.Second}; !slices.Equal(took, want) {
			t.Errorf("answered after %v, want %v", took, want)
		}
	})
}

func TestDeadlinesStayInOrder(t *testing.T) {
	var d deadlines
	var in []*call
	start := time.Now()
	for range 5000 {
		if len(in) > 0 && rand.IntN(3) == 0 {
			i := rand.IntN(len(in))
			d.remove(in[i])
			in = slices.Delete(in, i, i+1)
		} else {
			c := &call{start: start.Add(time.Duration(rand.IntN(1000))), stage: &stage{}}
			d.add(c)
			in = append(in, c)
		}
		n := 0
		for c, before := d.first, (*call)(nil); c != nil; c, before = c.next, c {
			n++
			if c.prev != before || before != nil && before.deadline().After(c.deadline()) {
				t.Fatal("out of order")
			}
			if c.next == nil && d.last != c {
				t.Fatal("the last is not the last")
			}
		}
		if n != len(in) {
			t.Fatalf("%d in the list, of %d", n, len(in))
		}
	}
}

// A number is answered once, and comes never again; a slot that nobody waits for
// is taken until the plugin answers or long after.
func TestSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(2)
		a, b := &call{}, &call{}
		s.put(a)
		s.put(b)
		if len(s.free) != 0 || s.taken != 2 || a.n == b.n {
			t.Fatalf("%+v", s)
		}
		for _, n := range []uint64{0, 1, a.n + 1, a.n ^ 1<<60, 1<<64 - 1} {
			if n != b.n && s.take(n) != nil {
				t.Errorf("%d was somebody's", n)
			}
		}
		old := a.n
		if s.take(old) != a || s.take(old) != nil {
			t.Error("an answer does not count once")
		}
		c := &call{}
		s.put(c)
		if c.n == old || s.take(old) != nil {
			t.Error("a number came again")
		}
		s.abandon(b.n)
		s.abandon(c.n)
		if s.take(b.n) != nil || s.taken != 1 {
			t.Error("an answer after the time was over")
		}
		if s.reclaim(time.Now()) != 0 || s.taken != 1 {
			t.Error("an abandoned one is free at once")
		}
		time.Sleep(abandoned)
		if s.reclaim(time.Now()) != 1 || s.taken != 0 || len(s.free) != 2 || len(s.given) != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestTheBreaker(t *testing.T) {
	now := time.Now()
	var b breaker
	if b.failed(breakAfter-1, now) || !b.admit(now) || b.String() != "closed" {
		t.Error("it opened early")
	}
	b.succeeded()
	if b.failed(breakAfter-1, now) || !b.failed(1, now) || b.admit(now) || b.String() != "open" {
		t.Error("it did not open")
	}
	if b.failed(5, now) || b.wait != breakFirst {
		t.Error("what was under way keeps it open longer")
	}
	wait := breakFirst
	for range 6 {
		if b.admit(now.Add(wait - 1)) {
			t.Errorf("it let one through before %v", wait)
		}
		now = now.Add(wait)
		if !b.admit(now) || b.admit(now) || b.String() != "half-open" {
			t.Error("it did not let one through")
		}
		b.failed(1, now)
		wait = min(2*wait, breakMost)
	}
	now = now.Add(wait)
	if !b.admit(now) || !b.succeeded() || !b.admit(now) || b.succeeded() || b.String() != "closed" {
		t.Error("a verdict did not close it")
	}
}

func TestBackoff(t *testing.T) {
	var b backoff
	var got []time.Duration
	for range 12 {
		b.died(true)
		got = append(got, b.next())
	}
	if got[0] != 0 || got[1] != firstBackoff || got[2] != 2*firstBackoff || got[11] != maxBackoff {
		t.Errorf("%v", got)
	}
	if b.died(false); b.next() != 0 {
		t.Error("a long life does not count")
	}
}

func TestMessagesAreRememberedForLaterVerdictsForABoundedTime(t *testing.T) {
	var l lates
	now := time.Now()
	ids := make([]bus.MessageID, maxLates+1)
	for i := range ids {
		ids[i] = bus.NewMessageID()
		if n := l.add(ids[i], &late{until: now.Add(room.LateWindow)}, now); n != uint64(i/maxLates) {
			t.Fatalf("%d were forgotten at %d", n, i)
		}
	}
	if l.find(ids[0].String()) != nil || l.find(ids[1].String()) == nil {
		t.Error("not the oldest was forgotten")
	}
	for _, id := range []string{"", "xyz", ids[1].String() + "00", ids[1].String()[:30], strings.Repeat("z", 32)} {
		if l.find(id) != nil && id != ids[1].String()+"00" {
			t.Errorf("%q is remembered", id)
		}
	}
	if l.prune(now.Add(room.LateWindow + 1)); len(l.by) != 0 || len(l.order) != 0 {
		t.Errorf("%d are remembered for too long", len(l.by))
	}
}

// A plugin that does not come to an end is not waited for longer than Close may
// take, and what it has is answered.
func TestCloseIsBounded(t *testing.T) {
	h := New(HostOptions{Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	c := commit(t, h, process(t, "words", "role-words", nil))
	pid := h.Status()[0].PID
	answer := make(chan *room.Ruling, 1)
	c.Judge(chat(`"hang"`), func(r *room.Ruling) { answer <- r })
	eventually(t, "the plugin has it", func() bool { return h.Status()[0].InFlight == 1 })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	if err := h.Close(ctx); err == nil || time.Since(start) > 3*time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
	select {
	case r := <-answer:
		if !r.Unavailable || r.Steps[0].Failure != Crash {
			t.Errorf("%+v", r)
		}
	default:
		t.Error("the message has no answer")
	}
	if alive(pid) {
		t.Error("the process lives")
	}
	if r := judge(t, c, chat(`"x"`)); !r.Unavailable || r.Steps[0].Failure != Crash {
		t.Errorf("after Close: %+v", r)
	}
}

// An orderly end answers what the plugin has.
func TestCloseDrains(t *testing.T) {
	h := newHost(t)
	c := commit(t, h, process(t, "words", "role-words", nil))
	var judged atomic.Int64
	for range 500 {
		c.Judge(chat(`"x"`), func(r *room.Ruling) {
			if r.Action == filter.ActionAllow && r.Steps[0].Failure == "" {
				judged.Add(1)
			}
		})
	}
	if err := h.Close(t.Context()); err != nil || judged.Load() != 500 {
		t.Errorf("%v, %d of 500 judged", err, judged.Load())
	}
}

func TestLinesOfALog(t *testing.T) {
	for line, want := range map[string]string{
		`plain text`: `level=INFO msg="plain text"`,
		`{"time":"x","level":"ERROR","msg":"bad","n":1}`:  `level=ERROR msg=bad fields=map[n:1]`,
		`{"@level":"warn","@message":"hc","@module":"m"}`: `level=WARN msg=hc fields=map[@module:m]`,
		`{"level":"shout","msg":"x"}`:                     `level=INFO msg=x`,
		`{"filter":"me","msg":"x","trace_id":"forged"}`:   `level=INFO msg=x fields="map[filter:me trace_id:forged]"`,
		`{"no":"message"}`:                                `level=INFO msg="{\"no\":\"message\"}"`,
		`{"msg":`:                                         `level=INFO msg="{\"msg\":"`,
		"\xff":                                            "level=INFO msg=\"\uFFFD\"",
	} {
		var b bytes.Buffer
		log := slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}}))
		o := &output{log: log, stream: "stderr", gone: make(chan struct{})}
		if _, err := o.Write([]byte(line + "\n\n")); err != nil {
			t.Error(err)
		}
		if got := strings.TrimSpace(b.String()); got != want+" stream=stderr" {
			t.Errorf("%s became\n%s, want\n%s", line, got, want)
		}
	}
}

// However much is printed, a bounded part of it is logged, and the rest counted.
func TestTooManyLinesAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		o := &output{log: slog.New(slog.NewTextHandler(&b, nil)), stream: "stdout", gone: make(chan struct{})}
		start := time.Now()
		o.read(strings.NewReader(strings.Repeat("0123456789abcde\n", 3*readBurst/16)), nil)
		o.close()
		if n := strings.Count(b.String(), "0123"); n > 4*lineBurst || n < lineBurst {
			t.Errorf("%d lines are logged", n)
		}
		if took := time.Since(start); took < 2*time.Second || took > 4*time.Second {
			t.Errorf("three seconds' worth was read in %v", took)
		}
		if o.line("late"); !strings.Contains(b.String(), "suppressed_lines=") || strings.Contains(b.String(), "late") {
			t.Error("the rest is not counted, or something is logged after the end")
		}
		if got := strings.Count(o.last(), "\n"); got != tailLines-1 {
			t.Errorf("%d lines are kept", got+1)
		}
	})
}
