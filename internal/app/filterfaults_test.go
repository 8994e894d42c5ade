package app_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	client "github.com/wsrelay/relay/client/go"
	"github.com/wsrelay/relay/config"
	"github.com/wsrelay/relay/internal/bus/redisbus/redistest"
)

// What docs/plugins.md reports of crashes comes from a longer run:
//
//	go test ./internal/app -run TestAPluginKilledEverySecond -v -filters.faults 30s
var faultsFor = flag.Duration("filters.faults", 2*time.Second, "how long a plugin is killed every second, for each budget")

// The load: 500 messages a second in rooms that the plugin judges, three at a
// time so that their order is at stake, and 50 in a room that it does not.
const (
	pace   = 6 * time.Millisecond
	burst  = 3
	hushed = 20 * time.Millisecond
)

// launcher starts obey by way of a shell that writes its process id down first,
// which is how a test knows whom to kill, and how many there were.
type launcher struct {
	t               *testing.T
	script, program string
	list            string // file of process ids, a line each
}

func newLauncher(t *testing.T) *launcher {
	t.Helper()
	dir := t.TempDir()
	l := &launcher{t: t, script: filepath.Join(dir, "start.sh"), program: filepath.Join(dir, "obey"), list: filepath.Join(dir, "pids")}
	// A plugin has no PATH; all of this is built into the shell.
	if err := os.WriteFile(l.script, fmt.Appendf(nil, "echo $$ >> '%s'\nexec \"$1\"\n", l.list), 0o600); err != nil {
		t.Fatal(err)
	}
	l.deploy("")
	return l
}

// deploy puts another program in the place of the one that runs. The mark makes
// it another: what stands behind an executable's end does not matter to it.
func (l *launcher) deploy(mark string) {
	l.t.Helper()
	built, err := obey()
	if err != nil {
		l.t.Fatal(err)
	}
	b, err := os.ReadFile(built)
	if err != nil {
		l.t.Fatal(err)
	}
	fresh := l.program + ".new"
	if err := os.WriteFile(fresh, append(b, mark...), 0o700); err != nil {
		l.t.Fatal(err)
	}
	if err := os.Rename(fresh, l.program); err != nil {
		l.t.Fatal(err)
	}
}

// yaml is a configuration in which obey judges all rooms but the quiet one.
func (l *launcher) yaml(redis, budget, step string) string {
	y := strings.Replace(over(fmt.Sprintf("url: %q", redis)), "history: {}}", "history: {keep: 1000}, filters: [obey]}", 1)
	y = strings.Replace(y, "rooms: [", `rooms: [{match: quiet, create: anyone, join: anyone, members: {grace: 0s}, history: {}}, `, 1)
	return y + fmt.Sprintf(`
filters:
  obey:
    command: [sh, %q, %q]
    unpinned: true
    on_error: reject
    timeout: %s
    env: {STEP: %q}
`, l.script, l.program, budget, step)
}

// pids are the processes so far, the newest last.
func (l *launcher) pids() (list []int) {
	l.t.Helper()
	b, err := os.ReadFile(l.list)
	if err != nil {
		l.t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var pid int
		if _, err := fmt.Sscan(line, &pid); err != nil {
			l.t.Fatalf("%q is no process id: %v", line, err)
		}
		list = append(list, pid)
	}
	return list
}

// stage is two instances, and a crowd on both in rooms that obey judges.
type stage struct {
	redis    string
	launcher *launcher // of the first instance
	one      *instance
	busy     *crowd
	quiet    *crowd // in a room without filters
}

func newStage(t *testing.T, budget string) *stage {
	t.Helper()
	st := &stage{redis: redistest.Start(t).URL(), launcher: newLauncher(t)}
	st.one = start(t, st.launcher.yaml(st.redis, budget, "0"))
	two := start(t, newLauncher(t).yaml(st.redis, budget, "0"))
	st.busy = newCrowd(t, true, st.one, two, []string{"work-0", "work-1", "work-2", "work-3", "work-4"}, 4)
	st.quiet = newCrowd(t, false, st.one, two, []string{"quiet"}, 4)
	return st
}

// A plugin that is killed -9 again and again costs messages an error at worst:
// every one is answered, none is delivered unjudged, twice or out of order, no
// socket is lost, and rooms that do not use the plugin notice nothing.
func TestAPluginKilledEverySecond(t *testing.T) {
	// Shorter than a start takes, so that messages are refused meanwhile; the
	// default; and long enough for all to wait.
	for _, budget := range []string{"10ms", "50ms", "1s"} {
		t.Run(budget, func(t *testing.T) {
			st := newStage(t, budget)
			hush := st.quiet.talk(hushed, 1)
			stop := st.busy.talk(pace, burst)
			st.busy.await("verdicts before the first kill", func() bool { return st.busy.answered() > 100 })
			calm := int(*faultsFor / 3 / hushed / 2) // of both instances one, for a third of the time
			st.quiet.await("what to compare with", func() bool { return st.quiet.answered() >= calm })
			began := time.Now()
			gaps := st.kill(t, *faultsFor)
			stop()
			hush()
			st.busy.settle()
			st.quiet.settle()
			st.busy.check()
			st.quiet.check()

			said, refused := st.busy.tally()
			slices.Sort(gaps)
			t.Logf("budget %s: killed %d times in %v; from a kill to the next verdict: median %v, max %v", budget, len(gaps), time.Since(began).Round(time.Millisecond),
				gaps[len(gaps)/2].Round(100*time.Microsecond), gaps[len(gaps)-1].Round(100*time.Microsecond))
			t.Logf("%d messages, %.0f a second, %d (%.2f %%) refused as %s", said, float64(said)/time.Since(st.busy.began).Seconds(), refused, 100*float64(refused)/float64(said), unavailable)
			before, after := st.quiet.latencies(began)
			t.Logf("acks in the room without filters: p99 %v of %d before the first kill, %v of %d from then on", p99(before), len(before), p99(after), len(after))
			if _, refused := st.quiet.tally(); refused > 0 {
				t.Errorf("%d messages refused in a room without filters", refused)
			}
		})
	}
}

// kill kills the first instance's plugin every second, every other time after it
// was stopped for some messages, and returns how long it took from the kill to
// the next verdict.
func (st *stage) kill(t *testing.T, d time.Duration) (gaps []time.Duration) {
	t.Helper()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for over := time.After(d); ; {
		pids := st.launcher.pids()
		p, err := os.FindProcess(pids[len(pids)-1])
		if err != nil {
			t.Fatal(err)
		}
		if len(gaps)%2 == 1 { // catch it with messages in flight
			if err := p.Signal(syscall.SIGSTOP); err != nil {
				t.Fatalf("stopping the plugin: %v", err)
			}
			enough := st.busy.spoken() + 5*burst
			st.busy.await("messages to a stopped plugin", func() bool { return st.busy.spoken() >= enough })
		}
		killed := st.busy.mark(func() {
			if err := p.Kill(); err != nil {
				t.Fatalf("killing the plugin: %v", err)
			}
		})
		select {
		case gap := <-killed:
			gaps = append(gaps, gap)
		case <-time.After(time.Minute):
			t.Fatalf("no verdict within a minute of kill %d", len(gaps)+1)
		}
		if again := st.launcher.pids(); len(again) <= len(pids) {
			t.Fatalf("a verdict came without another process: %v, before the kill %v", again, pids)
		}
		select {
		case <-tick.C:
		case <-over:
			return gaps
		}
	}
}

// A reload with another environment or another program hands over under load: no
// message waits for an answer in vain, and each is judged.
func TestUpgradesUnderLoad(t *testing.T) {
	st := newStage(t, "10s")
	stop := st.busy.talk(pace, burst)
	const upgrades = 20
	env := 0
	for n := range upgrades {
		if n%2 == 0 {
			env++
		} else {
			st.launcher.deploy(fmt.Sprint("upgrade ", n))
		}
		cfg, src, err := config.Parse("relay.yaml", []byte(st.launcher.yaml(st.redis, "10s", fmt.Sprint(env))), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := st.one.Reload(t.Context(), cfg, src); err != nil {
			t.Fatalf("upgrade %d: %v", n, err)
		}
		if got := len(st.launcher.pids()); got != n+2 {
			t.Fatalf("%d processes so far after upgrade %d, want %d", got, n, n+2)
		}
		enough := st.busy.answered() + 50 // some of them by the new process
		st.busy.await("verdicts after an upgrade", func() bool { return st.busy.answered() >= enough })
	}
	stop()
	st.busy.settle()
	st.busy.check()
	said, refused := st.busy.tally()
	if refused > 0 {
		t.Errorf("%d of %d messages had no verdict", refused, said)
	}
	t.Logf("%d upgrades in %v under %d messages; %d refused", upgrades, time.Since(st.busy.began).Round(time.Millisecond), said, refused)
	// Obey is stateless: messages of a process that is cut off instead of drained
	// would be asked about again, and nobody would see it but here.
	for _, bad := range []string{"is gone; starting another", "did not answer all it had"} {
		if strings.Contains(st.one.logs.String(), bad) {
			t.Errorf("an upgrade that was not one: the log has %q", bad)
		}
	}
	old := st.launcher.pids()[:upgrades]
	redistest.Eventually(t, 30*time.Second, "the old processes to end", func() error {
		for _, pid := range old {
			if p, err := os.FindProcess(pid); err == nil && p.Signal(syscall.Signal(0)) == nil {
				return fmt.Errorf("process %d lives", pid)
			}
		}
		return nil
	})
	// Whoever was there all along still is.
	k := st.busy.talkers[0]
	if _, err := k.Do(t.Context(), &client.Request{Type: "members", RoomID: k.room}); err != nil {
		t.Error(err)
	}
}

// p99 is the 99th percentile of what is sorted.
func p99(sorted []time.Duration) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[len(sorted)*99/100].Round(100 * time.Microsecond)
}
