package verify_test

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/wsrelay/relay/internal/bus/redisbus/redistest"
	"github.com/wsrelay/relay/internal/verify"
)

var (
	repeat = flag.Int("faults.repeat", 1, "how often each fault is tried")
	table  = flag.String("faults.table", "", "file to append the results to, as rows of a Markdown table")
)

// The load of every run: 200 messages per second.
const (
	rooms     = 20
	perRoom   = 10
	every     = time.Second // between two messages of a member
	instances = 3
	warm      = 1500 * time.Millisecond // before the fault
	after     = 1500 * time.Millisecond // of load after it
	settle    = 60 * time.Second        // until all is seen
)

var binary string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "relay-faults")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "relay")
	if out, err := exec.Command("go", "build", "-o", binary, "../..").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building relay: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// process is one instance of relay, as users run it.
type process struct {
	t    *testing.T
	file string
	addr string
	cmd  *exec.Cmd
	out  *os.File
	done chan struct{}
}

func freeAddr(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func newProcess(t *testing.T, redis string) *process {
	t.Helper()
	p := &process{t: t, addr: freeAddr(t), file: filepath.Join(t.TempDir(), "relay.yaml")}
	yaml := fmt.Sprintf(`listen: %q
admin: {listen: ""}
redis: {%s}
endpoints: [{path: /ws, auth: [guests], limits: {connects: 10000/s, requests: 1000/s}}]
auth: {guests: {type: anonymous}}
rooms: [{match: "*", create: anyone, join: anyone, members: {grace: 5s}, history: {keep: 100000}}]
drain: {over: 500ms, timeout: 10s}
`, p.addr, redis)
	if err := os.WriteFile(p.file, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	p.start()
	t.Cleanup(func() { p.kill(); p.out.Close() })
	return p
}

func (p *process) url() string { return "ws://" + p.addr + "/ws" }

// start runs the process, again if it ran before, and returns when it serves.
func (p *process) start() {
	p.t.Helper()
	var err error
	if p.out == nil {
		if p.out, err = os.Create(p.file + ".log"); err != nil {
			p.t.Fatal(err)
		}
	}
	p.cmd = exec.Command(binary, "serve", "-c", p.file)
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	done := make(chan struct{})
	p.done = done
	cmd := p.cmd
	go func() { _ = cmd.Wait(); close(done) }()
	redistest.Eventually(p.t, 15*time.Second, "an instance that listens", func() error {
		c, err := net.Dial("tcp", p.addr)
		if err == nil {
			_ = c.Close()
			return nil
		}
		select {
		case <-done:
			p.t.Fatalf("relay ended:\n%s", p.tail())
		default:
		}
		return err
	})
}

func (p *process) tail() string {
	b, _ := os.ReadFile(p.file + ".log")
	return string(b[max(0, len(b)-4000):])
}

func (p *process) kill() { p.end(syscall.SIGKILL) }

// end sends a signal and waits for the end; an orderly one has to be status 0.
func (p *process) end(s syscall.Signal) {
	p.t.Helper()
	_ = p.cmd.Process.Signal(s)
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
		p.t.Errorf("an instance outlives %v by 20 s", s)
		_ = p.cmd.Process.Kill()
		<-p.done
	}
	if code := p.cmd.ProcessState.ExitCode(); s == syscall.SIGTERM && code != 0 {
		p.t.Errorf("exit status %d after SIGTERM:\n%s", code, p.tail())
	}
}

// world is all that a fault can do something to.
type world struct {
	t       *testing.T
	redis   *redistest.Server
	proxy   *redistest.Proxy // between the instances and redis
	relays  []*process
	members []*verify.Member
}

func single(t *testing.T) *world {
	r := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	w := &world{t: t, redis: r, proxy: redistest.NewProxy(t, r.Addr())}
	w.startRelays(fmt.Sprintf("url: %q", w.proxy.URL()))
	return w
}

func (w *world) startRelays(redis string) {
	for range instances {
		w.relays = append(w.relays, newProcess(w.t, redis))
	}
}

// load fills the rooms and keeps them busy until the returned function ends it:
// that waits until everything is home, and holds the records against what is
// stored.
func (w *world) load() (finish func() *verify.Report) {
	ctx, cancel := context.WithCancel(w.t.Context())
	var wg sync.WaitGroup
	var urls []string
	for _, p := range w.relays {
		urls = append(urls, p.url())
	}
	for r := range rooms {
		for k := range perRoom {
			m := &verify.Member{Room: fmt.Sprint("room-", r), Name: fmt.Sprintf("m%d-%d", r, k), URLs: urls, Every: every}
			w.members = append(w.members, m)
			wg.Go(func() { m.Run(ctx) })
		}
	}
	w.await("everybody to be in", func(m *verify.Member) error { return m.Settled(0) }, true)
	return func() *verify.Report {
		defer func() { cancel(); wg.Wait() }()
		for _, m := range w.members {
			m.Quiet()
		}
		w.await("acks to come home", func(m *verify.Member) error { return m.Settled(0) }, false)
		truth := make([][]verify.Stored, rooms)
		for r := range truth {
			truth[r] = w.history(fmt.Sprint("room-", r))
		}
		w.await("everybody to have seen everything", func(m *verify.Member) error {
			var r int
			_, _ = fmt.Sscanf(m.Room, "room-%d", &r)
			if n := len(truth[r]); n > 0 {
				return m.Settled(truth[r][n-1].Seq)
			}
			return nil
		}, false)
		w.presence()
		cancel()
		wg.Wait()
		sum := &verify.Report{}
		for r := range truth {
			var recs []*verify.Record
			for _, m := range w.members[r*perRoom : (r+1)*perRoom] {
				recs = append(recs, m.Record())
			}
			sum.Add(verify.Check(truth[r], recs))
		}
		return sum
	}
}

func (w *world) await(what string, ok func(*verify.Member) error, joining bool) {
	w.t.Helper()
	redistest.Eventually(w.t, settle, what, func() error {
		for _, m := range w.members {
			if err := ok(m); err != nil && !(joining && strings.Contains(err.Error(), "ack")) {
				return err
			}
		}
		return nil
	})
}

func (w *world) history(room string) (list []verify.Stored) {
	w.t.Helper()
	redistest.Eventually(w.t, settle, "the history of "+room, func() error {
		var err error
		for _, p := range w.relays {
			ctx, cancel := context.WithTimeout(w.t.Context(), 5*time.Second)
			list, err = verify.History(ctx, p.url(), room)
			cancel()
			if err == nil {
				return nil
			}
		}
		return err
	})
	return list
}

// presence: every member sees all members of its room and nobody else, once the
// ghosts of what was killed have had their two leases.
func (w *world) presence() {
	w.t.Helper()
	redistest.Eventually(w.t, 40*time.Second, "presence to be true", func() error {
		for n, m := range w.members {
			got := m.Members()
			slices.Sort(got)
			var want []string
			for _, o := range w.members[n/perRoom*perRoom : (n/perRoom+1)*perRoom] {
				want = append(want, o.Name)
			}
			slices.Sort(want)
			if !slices.Equal(got, want) {
				return fmt.Errorf("%s sees %v in %s", m.Name, got, m.Room)
			}
		}
		return nil
	})
}

// faults are what may happen. told says that messages may be lost in it, if
// clients hear of it.
var faults = []struct {
	name  string
	world func(*testing.T) *world
	told  bool
	do    func(*world)
}{
	{"nothing", single, false, func(w *world) { hold(2 * time.Second) }},
	{"an instance is killed (-9)", single, false, func(w *world) {
		p := w.relays[rand.IntN(instances)]
		p.kill()
		hold(time.Second)
		p.start()
	}},
	{"SIGTERM rolls through all instances", single, false, func(w *world) {
		for _, p := range w.relays {
			p.end(syscall.SIGTERM)
			p.start()
		}
	}},
	{"Redis is restarted (appendonly, always)", single, false, func(w *world) {
		w.redis.Kill()
		hold(500 * time.Millisecond)
		w.redis.Up()
	}},
	{"Redis is frozen for 6 s", single, false, func(w *world) { w.redis.Freeze(); hold(6 * time.Second); w.redis.Thaw() }},
	{"Redis is frozen for 15 s", single, false, func(w *world) { w.redis.Freeze(); hold(15 * time.Second); w.redis.Thaw() }},
	{"both directions are blackholed for 6 s", single, false, func(w *world) { w.proxy.Blackhole(); hold(6 * time.Second); w.proxy.Heal() }},
	{"every connection to Redis is cut each 200 ms, for 3 s", single, false, func(w *world) {
		stop := w.proxy.CutEvery(200 * time.Millisecond)
		hold(3 * time.Second)
		stop()
		w.proxy.Heal()
	}},
	{"CLIENT KILL of pub/sub connections", single, false, func(w *world) {
		for range 5 {
			w.redis.Do("CLIENT", "KILL", "TYPE", "pubsub")
			hold(300 * time.Millisecond)
		}
	}},
	{"SCRIPT FLUSH", single, false, func(w *world) {
		for range 5 {
			w.redis.Do("SCRIPT", "FLUSH")
			hold(200 * time.Millisecond)
		}
	}},
	{"FLUSHALL", single, true, func(w *world) { w.redis.Do("FLUSHALL"); hold(time.Second) }},
	{"client networks drop once a second", single, false, func(w *world) {
		for range 4 {
			for _, m := range w.members {
				m.Drop()
			}
			hold(time.Second)
		}
	}},
}

// hold is how long a fault lasts; it is part of what is tried, not a way to wait
// for something.
func hold(d time.Duration) { <-time.After(d) }

func TestFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes and takes minutes")
	}
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			sum := &verify.Report{}
			for range *repeat {
				t.Run("", func(t *testing.T) {
					w := f.world(t)
					finish := w.load()
					hold(warm)
					f.do(w)
					hold(after)
					r := finish()
					sum.Add(r)
					if !r.OK() {
						t.Errorf("lost %d, repeated %d, swapped %d, phantom %d:\n%s", r.Lost, r.Repeated, r.Swapped, r.Phantom, strings.Join(r.Violations, "\n"))
					}
					if r.Acked < 200 || r.Delivered < 1000 {
						t.Errorf("%d acked and %d delivered: there was no load", r.Acked, r.Delivered)
					}
					if !f.told && r.Noticed > 0 {
						t.Errorf("%d are missing with a notice, where nothing had to be lost", r.Noticed)
					}
					if t.Failed() {
						for _, p := range w.relays {
							t.Logf("%s:\n%s", p.addr, p.tail())
						}
					}
				})
			}
			row := fmt.Sprintf("| %s | %d | %d | %d | %d | %d | %d | %d | %.1f s |\n",
				f.name, *repeat, sum.Acked, sum.Delivered, sum.Lost+sum.Phantom, sum.Repeated, sum.Swapped, sum.Noticed, sum.Slowest.Seconds())
			t.Log(row)
			if err := appendRow(*table, row); err != nil {
				t.Error(err)
			}
		})
	}
}

func appendRow(file, row string) error {
	if file == "" {
		return nil
	}
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	b := bufio.NewWriter(f)
	_, _ = b.WriteString(row) // Flush tells
	return errors.Join(b.Flush(), f.Close())
}
