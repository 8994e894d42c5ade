package plugins

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	plugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/wsrelay/relay/internal/room"
	"github.com/wsrelay/relay/plugins/filter"
	pb "github.com/wsrelay/relay/plugins/filter/filterpb"
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
	start := time.Now()
	replaced(t, h, c, pid)
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
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
			o.Timeout = time.Second
			c := commit(t, h, o)
			load := startLoad(t, c, 8)
			var worst time.Duration
			for range 5 {
				n := load.answered.Load()
				eventually(t, "messages are judged", func() bool { return load.answered.Load() > n+50 })
				pid := status1(t, h).PID
				if pid == 0 {
					continue
				}
				starts := status1(t, h).Starts
				killed := time.Now()
				_ = syscall.Kill(pid, syscall.SIGKILL)
				eventually(t, "there is another process", func() bool { return status1(t, h).Starts > starts })
				n = load.judged.Load()
				eventually(t, "it judges", func() bool { return load.judged.Load() > n })
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

// load asks a chain all the time and looks at what it gets.
type load struct {
	t                        *testing.T
	quit                     chan struct{}
	wg                       sync.WaitGroup
	answered, judged, failed atomic.Uint64
}

func startLoad(t *testing.T, c room.Filters, senders int) *load {
	l := &load{t: t, quit: make(chan struct{})}
	for i := range senders {
		l.wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-l.quit:
					return
				default:
				}
				l.one(c, fmt.Sprintf(`"message %d of %d %s"`, n, i, [...]string{"spam", "eggs"}[n%2]), n%2 == 0)
			}
		})
	}
	return l
}

// one asks about one message. A refused one must be one that has to be, unless it
// is unavailable; and none that has to be refused may pass.
func (l *load) one(c room.Filters, body string, spam bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	r, err := Judge(ctx, c, chat(body))
	if err != nil {
		l.t.Errorf("no answer: %v", err)
		return
	}
	l.answered.Add(1)
	switch {
	case r.Unavailable:
		l.failed.Add(1)
		if r.Action != filter.ActionReject || r.Steps[0].Failure == "" {
			l.t.Errorf("%s: %+v", body, r)
		}
	case len(r.Steps) == 0 || r.Steps[0].Failure != "" || (r.Action == filter.ActionReject) != spam:
		l.t.Errorf("%s was judged by nobody or wrongly: %+v", body, r)
	default:
		l.judged.Add(1)
	}
}

func (l *load) stop() {
	close(l.quit)
	l.wg.Wait()
}

// Twenty upgrades under load: a new configuration each time. Every message gets a
// verdict, of the old process or the new.
func TestTwentyUpgradesUnderLoadLoseNothing(t *testing.T) {
	h := newHost(t)
	options := func(i int) Options {
		return process(t, "words", "role-words", wordsConfig{Words: []string{"spam"}, Tag: fmt.Sprint(i)})
	}
	var current atomic.Pointer[Chain]
	current.Store(commit(t, h, options(0)))
	load := startLoad(t, latest{&current}, 8)
	for i := 1; i <= 20; i++ {
		set, err := h.Prepare(t.Context(), []Options{options(i)})
		if err != nil {
			t.Fatal(err)
		}
		c, err := set.Chain([]string{"words"}, 0)
		if err != nil {
			t.Fatal(err)
		}
		current.Store(c)
		h.Commit(set)
		if r := judge(t, c, chat(`"x"`)); len(r.Flags) != 1 || r.Flags[0].Label != fmt.Sprint(i) || r.Steps[0].Generation != i+1 {
			t.Errorf("after upgrade %d: %+v", i, r)
		}
	}
	load.stop()
	t.Logf("%d judged, %d not", load.judged.Load(), load.failed.Load())
	if load.failed.Load() > 0 || load.judged.Load() == 0 {
		t.Errorf("%d messages without a verdict", load.failed.Load())
	}
	if st := status1(t, h); st.Failures != 0 || st.Generation != 21 {
		t.Errorf("%+v", st)
	}
}

// latest is a chain that may be exchanged, as a room's policy is at a reload.
type latest struct{ at *atomic.Pointer[Chain] }

func (l latest) Wants(e filter.Event) bool                      { return l.at.Load().Wants(e) }
func (l latest) Recent() int                                    { return 0 }
func (l latest) Judge(q *room.Query, done func(r *room.Ruling)) { l.at.Load().Judge(q, done) }

// A set that is refused leaves what is in force as it is, and one that changed
// nothing of a process leaves that alone.
func TestABadUpgradeLeavesTheOldInForce(t *testing.T) {
	h := newHost(t)
	c := commit(t, h, process(t, "words", "role-words", wordsConfig{Tag: "old"}))
	pid := status1(t, h).PID
	if _, err := h.Prepare(t.Context(), []Options{process(t, "words", "role-dies", wordsConfig{Tag: "new"})}); err == nil {
		t.Fatal("accepted")
	}
	if r := judge(t, c, chat(`"x"`)); r.Flags[0].Label != "old" || status1(t, h).PID != pid {
		t.Errorf("%+v", r)
	}
	discarded, err := h.Prepare(t.Context(), []Options{process(t, "words", "role-words", wordsConfig{Tag: "new"})})
	if err != nil {
		t.Fatal(err)
	}
	discarded.Discard()
	if r := judge(t, c, chat(`"x"`)); r.Flags[0].Label != "old" {
		t.Errorf("%+v", r)
	}
	o := process(t, "words", "role-words", wordsConfig{Tag: "old"})
	o.Timeout, o.Mode = 3*time.Second, Observe
	commit(t, h, o)
	if st := status1(t, h); st.PID != pid || st.Mode != Observe || st.Starts != 1 {
		t.Errorf("%+v", st)
	}
}

// A changed program is another one, under the same name and configuration.
func TestAChangedProgramIsStarted(t *testing.T) {
	h := newHost(t)
	o := process(t, "words", "role-words", nil)
	script := filepath.Join(t.TempDir(), "filter")
	write := func(comment string) {
		t.Helper()
		text := fmt.Sprintf("#!/bin/sh\n# %s\nexec %q role-words\n", comment, o.Command[0])
		if err := os.WriteFile(script+".new", []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(script+".new", script); err != nil {
			t.Fatal(err)
		}
	}
	self := o.Command[0]
	write("one")
	o.Command = []string{script}
	commit(t, h, o)
	pid := status1(t, h).PID
	o2 := o
	commit(t, h, o2)
	if status1(t, h).PID != pid {
		t.Error("an unchanged one was started again")
	}
	o.Command[0] = self
	write("two")
	o.Command[0] = script
	commit(t, h, o)
	if status1(t, h).PID == pid {
		t.Error("a changed one was not started")
	}
}

// A plugin whose program is gone cannot come back by itself: its messages are
// Overload, at once. A reload that names a good one mends that.
func TestAReloadMendsWhatCannotStartAnyMore(t *testing.T) {
	h, book := loggingHost(t)
	good := process(t, "words", "role-words", nil)
	script := filepath.Join(t.TempDir(), "filter")
	if err := os.WriteFile(script, fmt.Appendf(nil, "#!/bin/sh\nexec %q role-words\n", good.Command[0]), 0o700); err != nil {
		t.Fatal(err)
	}
	bad := good
	bad.Command = []string{script}
	c := commit(t, h, bad)
	if err := os.Remove(script); err != nil {
		t.Fatal(err)
	}
	signalPlugin(t, h, syscall.SIGKILL)
	eventually(t, "messages do not wait for it any more", func() bool {
		return judge(t, c, chat(`"x"`)).Steps[0].Failure == Overload
	})
	if st := status1(t, h); st.PID != 0 || st.Breaker != "open" || !strings.Contains(st.LastError, "finding its program") {
		t.Errorf("%+v", st)
	}
	eventually(t, "the log tells how it ended", func() bool { return strings.Contains(book.String(), `how="signal: killed"`) })
	if err := h.Check(t.Context(), []Options{bad}); err == nil {
		t.Error("a reload does not notice")
	}
	commit(t, h, good)
	if r := judge(t, c, chat(`"x"`)); r.Action != filter.ActionAllow || r.Steps[0].Failure != "" {
		t.Errorf("after the reload: %+v", r)
	}
}

// rawServer is a plugin in some other language, which knows CheckBatch alone.
type rawServer struct{ pb.UnimplementedFilterServer }

func (rawServer) Describe(context.Context, *pb.DescribeRequest) (*pb.DescribeResponse, error) {
	return &pb.DescribeResponse{Name: "raw", Version: "0", Actions: []pb.Action{pb.Action_ACTION_REJECT}}, nil
}

func (rawServer) Configure(context.Context, *pb.ConfigureRequest) (*pb.ConfigureResponse, error) {
	return &pb.ConfigureResponse{}, nil
}

func (rawServer) CheckBatch(_ context.Context, b *pb.Batch) (*pb.VerdictBatch, error) {
	res := &pb.VerdictBatch{}
	for _, m := range b.GetMessages() {
		v := &pb.Verdict{Call: m.GetCall()}
		switch text := m.GetTexts()[0].GetText(); {
		case text == "forget":
			continue
		case text == "die":
			os.Exit(1)
		case strings.Contains(text, "spam"):
			v.Action, v.Code = pb.Action_ACTION_REJECT, "Spam! "+strings.Repeat("x", 100)
		}
		res.Verdicts = append(res.Verdicts, v)
	}
	return res, nil
}

// garbage is a plugin that answers what nobody asked.
type garbage struct{ rawServer }

func (garbage) Session(s pb.Filter_SessionServer) error {
	for {
		f, err := s.Recv()
		if err != nil {
			return nil //nolint:nilerr // the end
		}
		var answers []*pb.Verdict
		for _, m := range f.GetBatch().GetMessages() {
			n := m.GetCall()
			answers = append(answers, &pb.Verdict{Call: n + 1}, &pb.Verdict{Call: 0}, &pb.Verdict{Call: 1 << 63}, &pb.Verdict{Call: n ^ 1},
				&pb.Verdict{Call: n, Action: 99}, &pb.Verdict{Call: n, Action: pb.Action_ACTION_ALLOW})
		}
		for _, out := range []*pb.FilterFrame{
			{},
			{Frame: &pb.FilterFrame_Pong{Pong: &pb.Pong{N: 12345}}},
			{Frame: &pb.FilterFrame_Late{Late: &pb.Late{Id: "not an id", Redact: true}}},
			{Frame: &pb.FilterFrame_Verdicts{Verdicts: &pb.VerdictBatch{Verdicts: answers}}},
		}[pick(len(answers) == 0):] {
			if err := s.Send(out); err != nil {
				return err
			}
		}
	}
}

// pick leaves out the frame without anything while a first ping is to be answered.
func pick(ping bool) int {
	if ping {
		return 1
	}
	return 0
}

type rawPlugin struct {
	plugin.NetRPCUnsupportedPlugin
	srv pb.FilterServer
}

func (r rawPlugin) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	pb.RegisterFilterServer(s, r.srv)
	return nil
}

func (r rawPlugin) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, nil
}

func serveRaw(srv pb.FilterServer) {
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: filter.Handshake(), Plugins: plugin.PluginSet{filter.DispenseName: rawPlugin{srv: srv}},
		GRPCServer: plugin.DefaultGRPCServer,
	})
}

func TestAPluginThatReturnsGarbageJudgesNothing(t *testing.T) {
	h := newHost(t)
	c := commit(t, h, process(t, "garbage", "role-garbage", nil), always("after", filter.Allow()))
	for range 10 {
		r := judge(t, c, chat(`"x"`))
		if !r.Unavailable || r.Steps[0].Failure != Failed {
			t.Errorf("%+v", r)
		}
	}
	if st := h.Status()[1]; st.Unknown != 50 || st.TooLate < 10 || st.Generation != 1 {
		t.Errorf("%+v", st)
	}
}

// noGRPC listens where it should and speaks nothing that anybody knows.
func noGRPC() {
	path := filepath.Join(os.Getenv(filter.SocketDirKey), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		panic(err)
	}
	fmt.Printf("1|1|unix|%s|grpc\n", path)
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = c.Write([]byte("HTTP/1.1 418 I'm a teapot\r\n\r\n"))
		_ = c.Close()
	}
}

func TestAProgramThatSpeaksSomethingElseIsRefused(t *testing.T) {
	for _, mtls := range []bool{false, true} {
		h := newHost(t)
		h.times.start, h.times.configure = 2*time.Second, 2*time.Second
		o := process(t, "teapot", "role-no-grpc", nil)
		o.MTLS = mtls
		set, err := h.Prepare(t.Context(), []Options{o})
		if err == nil {
			set.Discard()
			t.Fatal("accepted")
		}
		wantIn(t, err, "filter teapot: ")
	}
}

// A plugin without Session is asked one batch at a time.
func TestAPluginThatKnowsOnlyCheckBatch(t *testing.T) {
	h := newHost(t)
	o := process(t, "unary", "role-unary", nil)
	o.MTLS = false
	c := commit(t, h, o)
	if r := judge(t, c, chat(`"spam"`)); r.Action != filter.ActionReject || r.Code != "spam__"+strings.Repeat("x", 58) {
		t.Errorf("%+v", r)
	}
	if r := judge(t, c, chat(`"forget"`)); r.Steps[0].Failure != Failed {
		t.Errorf("without a verdict: %+v", r)
	}
	load := startLoad(t, c, 16)
	eventually(t, "many are judged", func() bool { return load.judged.Load() > 200 })
	load.stop()
	if st := status1(t, h); !st.Unary || st.InFlight != 0 || st.Mended == 0 || load.failed.Load() > 0 {
		t.Errorf("%+v", st)
	}
	pid := signalPlugin(t, h, syscall.SIGKILL)
	replaced(t, h, c, pid)
}

func selfCPU() time.Duration {
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		return 0
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

// A filter that a configuration does not have any more ends, though somebody may
// still hold a chain of it.
func TestARemovedFilterEnds(t *testing.T) {
	h := newHost(t)
	c := commit(t, h, process(t, "words", "role-words", nil))
	pid := status1(t, h).PID
	commit(t, h)
	if len(h.Status()) != 0 {
		t.Errorf("%+v", h.Status())
	}
	if r := judge(t, c, chat(`"x"`)); r.Action != filter.ActionAllow || r.Steps[0].Failure != "" {
		t.Errorf("who had the chain a moment before: %+v", r)
	}
	eventually(t, "its process is gone", func() bool { return !alive(pid) })
	if r := judge(t, c, chat(`"x"`)); !r.Unavailable || r.Steps[0].Failure != Crash {
		t.Errorf("%+v", r)
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
