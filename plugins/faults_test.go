package plugins

import (
	"context"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/wsrelay/relay/internal/room"
	"github.com/wsrelay/relay/plugins/filter"
)

// signalPlugin sends a signal to the process of the only filter.
func signalPlugin(t *testing.T, h *Host, sig syscall.Signal) (pid int) {
	t.Helper()
	pid = status1(t, h).PID
	if err := syscall.Kill(pid, sig); err != nil {
		t.Fatal(err)
	}
	if sig == syscall.SIGSTOP {
		eventually(t, "it has stopped", func() bool { return state(pid) == "T" })
	}
	return pid
}

// replaced waits for a process other than pid that judges.
func replaced(t *testing.T, h *Host, c *Chain, pid int) {
	t.Helper()
	eventually(t, "another process judges", func() bool {
		r := judge(t, c, chat(`"x"`)) // also makes one be missed that is only asked
		st := status1(t, h)
		return st.PID != 0 && st.PID != pid && r.Action == filter.ActionAllow && r.Steps[0].Failure == ""
	})
}

func TestAStoppedPluginIsReplaced(t *testing.T) {
	for _, role := range []string{"role-words", "role-unary"} {
		t.Run(role, func(t *testing.T) {
			h := newHost(t)
			h.times.ping, h.times.health = 100*time.Millisecond, 500*time.Millisecond
			o := process(t, "words", role, nil)
			o.Timeout = 50 * time.Millisecond
			c := commit(t, h, o)
			pid := signalPlugin(t, h, syscall.SIGSTOP)
			start := time.Now()
			r := judge(t, c, chat(`"x"`))
			if took := time.Since(start); took < 40*time.Millisecond || took > 2*time.Second {
				t.Errorf("a budget of 50 ms took %v", took)
			}
			if !r.Unavailable || r.Action != filter.ActionReject || r.Filter != "words" || r.Steps[0].Failure != Timeout {
				t.Errorf("%+v", r)
			}
			replaced(t, h, c, pid)
			if alive(pid) {
				t.Error("the stopped process is still there")
			}
			if st := status1(t, h); !strings.Contains(st.LastError, "frozen") || st.Failures != 1 || st.Generation != 2 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// A plugin that sleeps over its budget is not asked for a while, and asked again
// afterwards.
func TestASleepingPluginOpensTheBreaker(t *testing.T) {
	h := newHost(t)
	o := process(t, "words", "role-words", nil)
	o.Timeout, o.OnError = 20*time.Millisecond, OnError{Timeout: Pass}
	c := commit(t, h, o)
	var wg sync.WaitGroup
	for range breakAfter {
		wg.Go(func() {
			if r := judge(t, c, chat(`"sleep"`)); r.Action != filter.ActionAllow || r.Steps[0].Failure != Timeout {
				t.Errorf("on_error timeout: allow gave %+v", r)
			}
		})
	}
	wg.Wait()
	start := time.Now()
	r := judge(t, c, chat(`"x"`))
	if r.Steps[0].Failure != Overload || !r.Unavailable || time.Since(start) > 10*time.Millisecond {
		t.Errorf("open: %+v after %v", r, time.Since(start))
	}
	if st := status1(t, h); st.Breaker != "open" {
		t.Errorf("breaker %s", st.Breaker)
	}
	eventually(t, "the breaker is closed by a verdict", func() bool {
		return judge(t, c, chat(`"x"`)).Action == filter.ActionAllow && status1(t, h).Breaker == "closed"
	})
}

// flood is a plugin that writes as fast as it can to both its outputs, with and
// without lines, from its first message on.
func flood() {
	stdout, stderr := os.Stdout, os.Stderr // not go-plugin's, which takes their place
	start := sync.OnceFunc(func() {
		go pour(stderr, []byte(strings.Repeat("x", 100)+"\n"))
		go pour(stdout, make([]byte, 1<<16))
		go pour(os.Stdout, []byte(strings.Repeat("y", 100)+"\n"))
	})
	serveText(func(m *filter.Message) (filter.Verdict, error) {
		start()
		if m.Text() == "spam" {
			return filter.Reject("word", ""), nil
		}
		return filter.Allow(), nil
	})
}

func pour(w io.Writer, b []byte) {
	for {
		if _, err := w.Write(b); err != nil {
			return
		}
	}
}

// The flood costs the relay little: what it has read is bounded.
func TestAFloodingPluginJudgesAndIsNotLoggedWhole(t *testing.T) {
	h, book := loggingHost(t)
	c := commit(t, h, process(t, "words", "role-flood", nil))
	before := selfCPU()
	start := time.Now()
	eventually(t, "the flood is noticed", func() bool {
		if r := judge(t, c, chat(`"spam"`)); r.Filter != "words" || r.Unavailable {
			t.Fatalf("%+v", r)
		}
		return strings.Contains(book.String(), "suppressed_lines=")
	})
	wall, cpu := time.Since(start), selfCPU()-before
	t.Logf("%v of processor in %v", cpu, wall)
	if n := strings.Count(book.String(), "xxxx"); n == 0 || n > 100*(3+int(wall.Seconds()))*20 {
		t.Errorf("%d pieces of the flood are in the log", n)
	}
}

func selfCPU() time.Duration {
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		return 0
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

func TestAPanicCostsOneMessage(t *testing.T) {
	h := newHost(t)
	o := process(t, "words", "role-words", nil)
	o.OnError.Error = Pass
	c := commit(t, h, o)
	for _, text := range []string{`"panic"`, `"error"`, `"shadow"`} { // shadow is not among its actions
		r := judge(t, c, chat(text))
		if r.Action != filter.ActionAllow || r.Steps[0].Failure != Failed {
			t.Errorf("%s: %+v", text, r)
		}
	}
	if r := judge(t, c, chat(`"x"`)); r.Steps[0].Failure != "" || r.Steps[0].Generation != 1 {
		t.Errorf("the next: %+v", r.Steps)
	}
}

// eater is a plugin that takes 64 MiB of memory with each message.
func eater() {
	var hoard [][]byte
	var mu sync.Mutex
	serveText(func(*filter.Message) (filter.Verdict, error) {
		b := make([]byte, 64<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		mu.Lock()
		defer mu.Unlock()
		hoard = append(hoard, b)
		return filter.Allow(), nil
	})
}

func TestAPluginThatEatsMemoryIsReplaced(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("memory is not known here")
	}
	h := newHost(t)
	o := process(t, "eater", "role-eater", nil)
	o.Memory = 192 << 20
	c := commit(t, h, o)
	pid := status1(t, h).PID
	eventually(t, "the process is replaced", func() bool {
		judge(t, c, chat(`"x"`))
		st := status1(t, h)
		return st.PID != 0 && st.PID != pid && strings.Contains(st.LastError, "memory")
	})
	if alive(pid) {
		t.Error("the process that ate the memory is still there")
	}
}

// A child that holds the pipes neither keeps the death of its parent from being
// noticed nor outlives it.
func TestAForkThatHoldsThePipesIsKilledToo(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("groups of the dead are not killed here")
	}
	h := newHost(t)
	c := commit(t, h, process(t, "forks", "role-forks", nil))
	child := childrenOf(t, status1(t, h).PID)[0]
	pid := signalPlugin(t, h, syscall.SIGKILL)
	replaced(t, h, c, pid) // the child would hold the pipes for ever
	eventually(t, "the child is gone", func() bool { return !alive(child) })
}

// What was in flight goes to the next process where the plugin is stateless; where
// it is not, on_error decides.
func TestAMessageInFlightIsTriedOnceMore(t *testing.T) {
	for _, c := range []struct {
		role       string
		failure    string
		starts     uint64
		retries    uint64
		generation int
	}{
		{"role-stateless", Crash, 3, 1, 2}, // which dies of it too
		{"role-words", Crash, 2, 0, 1},
	} {
		t.Run(c.role, func(t *testing.T) {
			h := newHost(t)
			ch := commit(t, h, process(t, "words", c.role, nil))
			r := judge(t, ch, chat(`"die"`))
			if st := r.Steps[0]; st.Failure != c.failure || st.Generation != c.generation || !r.Unavailable {
				t.Errorf("%+v", r)
			}
			eventually(t, "the next process is there", func() bool { return status1(t, h).Starts == c.starts })
			if st := status1(t, h); st.Retries != c.retries {
				t.Errorf("%d retries", st.Retries)
			}
		})
	}
}

// Under a steady stream of messages and a kill every so often: every message is
// answered, and with on_error reject none passes unjudged.
func TestAPluginThatIsKilledAgainAndAgain(t *testing.T) {
	for _, role := range []string{"role-words", "role-stateless"} {
		t.Run(role, func(t *testing.T) {
			h := newHost(t)
			h.times.short = 0 // they live as long as the test lets them
			o := process(t, "words", role, wordsConfig{Words: []string{"spam"}})
			o.Timeout = 20 * time.Second // a machine that does much else starts a process in seconds
			c := commit(t, h, o)
			load := startLoad(t, c, 8)
			var worst time.Duration
			for range 5 {
				load.more(&load.answered, 50)
				pid := status1(t, h).PID
				if pid == 0 {
					continue
				}
				starts := status1(t, h).Starts
				killed := time.Now()
				_ = syscall.Kill(pid, syscall.SIGKILL)
				eventually(t, "there is another process", func() bool { return status1(t, h).Starts > starts })
				load.more(&load.judged, 1)
				worst = max(worst, time.Since(killed))
			}
			load.stop()
			t.Logf("%s: %d judged, %d not; from kill to verdict at most %v; %d retries",
				role, load.judged.Load(), load.failed.Load(), worst, status1(t, h).Retries)
			if role == "role-stateless" && load.failed.Load() > 0 {
				t.Errorf("%d messages failed although they could be tried again", load.failed.Load())
			}
		})
	}
}

// While one plugin is stopped with all the messages that it can hold, another
// one's are judged as ever.
func TestAStoppedPluginDoesNotConcernOthers(t *testing.T) {
	h := newHost(t)
	stopped := process(t, "stopped", "role-words", nil)
	stopped.Timeout = 30 * time.Second
	fine := process(t, "fine", "role-words", nil)
	commit(t, h, stopped, fine)
	chain := func(name string) *Chain {
		c, err := h.current.Chain([]string{name}, 0)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for _, st := range h.Status() {
		if st.Filter == "stopped" {
			if err := syscall.Kill(st.PID, syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			eventually(t, "it has stopped", func() bool { return state(st.PID) == "T" })
		}
	}
	var held, refused atomic.Int64
	sick, well := chain("stopped"), chain("fine")
	for range 2 * maxQueued {
		sick.Judge(chat(`"`+strings.Repeat("x", 1000)+`"`), func(r *room.Ruling) {
			if r.Steps[0].Failure == Overload {
				refused.Add(1)
			} else {
				held.Add(1)
			}
		})
	}
	if refused.Load() == 0 || held.Load() != 0 {
		t.Errorf("of %d messages, %d were refused and %d answered", 2*maxQueued, refused.Load(), held.Load())
	}
	var worst time.Duration
	for range 200 {
		start := time.Now()
		if r := judge(t, well, chat(`"x"`)); r.Action != filter.ActionAllow || r.Steps[0].Failure != "" {
			t.Fatalf("%+v", r)
		}
		worst = max(worst, time.Since(start))
	}
	t.Logf("the other plugin's verdicts took at most %v", worst)
	if worst > time.Second {
		t.Errorf("a verdict of another plugin took %v", worst)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := h.Close(ctx); err == nil {
		t.Error("a stopped plugin was drained")
	}
	if held.Load()+refused.Load() != 2*maxQueued {
		t.Errorf("%d of %d messages have an answer", held.Load()+refused.Load(), 2*maxQueued)
	}
}
