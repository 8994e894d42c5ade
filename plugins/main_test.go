package plugins

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/wsrelay/relay/internal/room"
	"github.com/wsrelay/relay/plugins/filter"
)

// The test binary is also the plugins that are tested, and a relay that is killed:
// what it is to be is its first argument.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		if play, ok := roles[os.Args[1]]; ok {
			play()
			return
		}
		if strings.HasPrefix(os.Args[1], "role-") { // or it would test, and start itself again
			fmt.Fprintln(os.Stderr, "no such role")
			os.Exit(2)
		}
	}
	goleak.VerifyTestMain(m)
}

var roles = map[string]func(){
	"role-words": func() { filter.Plugin{Name: "words", Config: filter.Configured(wordsConfig{}, words)}.Serve() },
	"role-stateless": func() {
		filter.Plugin{Name: "words", Stateless: true, Config: filter.Configured(wordsConfig{}, words)}.Serve()
	},
	"role-silent":  func() { fmt.Fprintln(os.Stderr, "loading the model"); _, _ = io.Copy(io.Discard, os.Stdin) },
	"role-dies":    func() { fmt.Fprintln(os.Stderr, "no such model: fluff"); os.Exit(3) },
	"role-host":    relayThatDies,
	"role-flood":   flood,
	"role-forks":   forks,
	"role-eater":   eater,
	"role-unary":   func() { serveRaw(rawServer{}) },
	"role-bench":   func() { serveText(lookForBadWord) },
	"role-garbage": func() { serveRaw(garbage{}) },
	"role-no-grpc": noGRPC,
	"role-noisy": func() {
		fmt.Print("loading… ") // no end of line: the handshake comes on this one
		fmt.Fprintln(os.Stderr, "warming up")
		serveText(func(*filter.Message) (filter.Verdict, error) {
			fmt.Println("a judge prints")
			return filter.Allow(), nil
		})
	},
}

type wordsConfig struct {
	Words []string `json:"words,omitempty"`
	Tag   string   `json:"tag,omitempty"`
}

// words is a plugin that rejects what has one of its words, and does other things
// when it reads that it should.
func words(c wordsConfig) (filter.Judge, error) {
	for i, w := range c.Words {
		if w == "" {
			return nil, filter.At(fmt.Sprintf("/words/%d", i), "empty")
		}
	}
	return func(ctx context.Context, m *filter.Message) (filter.Verdict, error) {
		text := m.Text()
		for _, w := range c.Words {
			if strings.Contains(text, w) {
				return filter.Reject("word", "Not that word."), nil
			}
		}
		switch {
		case text == "panic":
			panic("ouch")
		case text == "sleep":
			<-ctx.Done()
			time.Sleep(50 * time.Millisecond) // it is slow, in its own process
		case text == "hang":
			select {}
		case text == "die":
			os.Exit(7)
		case text == "error":
			return filter.Verdict{}, errors.New("no model")
		case text == "shadow":
			return filter.Shadow("x"), nil
		case text == "later":
			go func() { _ = m.Later(filter.Reject("nsfw", "Taken back.")) }()
		}
		return filter.Allow().Label("tag", c.Tag).Flag(c.Tag, 1), nil
	}, nil
}

func serveText(f func(m *filter.Message) (filter.Verdict, error)) {
	filter.Serve(func(_ context.Context, m *filter.Message) (filter.Verdict, error) { return f(m) })
}

// process are options of a plugin that is this test binary in a role.
func process(t testing.TB, name, role string, config any) Options {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	o := Options{
		Name: name, Command: []string{self, role}, Unpinned: true, MTLS: true, Enforce: 100, Timeout: 5 * time.Second,
		Actions: []filter.Action{filter.ActionModify, filter.ActionReject, filter.ActionDrop}, Env: map[string]string{"HELLO": "plugin", "GORACE": "atexit_sleep_ms=0"},
	}
	if config != nil {
		if o.Config, err = json.Marshal(config); err != nil {
			t.Fatal(err)
		}
	}
	return o
}

// logBook keeps what is logged.
type logBook struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func loggingHost(t *testing.T) (*Host, *logBook) {
	t.Helper()
	book := &logBook{}
	h := newHost(t)
	h.log = slog.New(slog.NewTextHandler(io.MultiWriter(book, t.Output()), nil))
	return h, book
}

// eventually polls a condition of another process, which nothing tells us about.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("not so after 15 s: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// status is that of the only filter.
func status1(t *testing.T, h *Host) Status {
	t.Helper()
	list := h.Status()
	if len(list) != 1 {
		t.Fatalf("%d filters", len(list))
	}
	return list[0]
}

// load asks a chain all the time and looks at what it gets.
type load struct {
	t                        *testing.T
	quit                     chan struct{}
	told                     chan struct{} // holds one: there was another answer
	wg                       sync.WaitGroup
	answered, judged, failed atomic.Uint64
}

func startLoad(t *testing.T, c room.Filters, senders int) *load {
	l := &load{t: t, quit: make(chan struct{}), told: make(chan struct{}, 1)}
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
	defer func() {
		l.answered.Add(1)
		select {
		case l.told <- struct{}{}:
		default:
		}
	}()
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

// more waits for n more answers of a kind.
func (l *load) more(of *atomic.Uint64, n uint64) {
	l.t.Helper()
	deadline := time.After(15 * time.Second)
	for least := of.Load() + n; of.Load() < least; {
		select {
		case <-l.told:
		case <-deadline:
			l.t.Fatalf("%d messages are answered, %d judged, %d not, after 15 s", l.answered.Load(), l.judged.Load(), l.failed.Load())
		}
	}
}

func (l *load) stop() {
	close(l.quit)
	l.wg.Wait()
}
