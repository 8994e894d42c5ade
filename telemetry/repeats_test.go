package telemetry

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// page is written to by timers too.
type page struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (p *page) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.b.Write(b)
}

func (p *page) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.b.String()
}

func TestAFloodOfOneLineIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out page
		l, err := NewLog(LogOptions{Format: "json", Output: &out})
		if err != nil {
			t.Fatal(err)
		}
		log := l.With("instance", "a")
		for i := range 1000 {
			log.Info("connection closed", "n", i)
			log.Warn("connection closed", "n", i) // another level is another line
			log.Info("audit", "n", i)
		}
		log.Info("something else")
		count := func(s string) int { return strings.Count(out.String(), s) }
		if n := count(`"msg":"connection closed"`); n != 2*repeatMax {
			t.Errorf("%d lines of 2,000", n)
		}
		if n := count(`"msg":"audit"`); n != 1000 {
			t.Errorf("%d audit lines of 1,000", n)
		}
		if count(`"msg":"something else"`) != 1 {
			t.Error("another line was left out")
		}
		if n := l.repeats.suppressed.Load(); n != 1800 {
			t.Errorf("%d counted, want 1,800", n)
		}
		time.Sleep(repeatWindow)
		synctest.Wait()
		if n := count(`"line":"connection closed","lines":900`); n != 2 {
			t.Errorf("told %d times, want 2:\n%s", n, out.String()[len(out.String())-600:])
		}
		log.Info("connection closed", "n", "later")
		if count(`"n":"later"`) != 1 {
			t.Error("silent after the window is over")
		}
	})
}

func TestDifferentLinesAreNoFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l, err := NewLog(LogOptions{Format: "text", Output: &out})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 3 * repeatKinds {
			l.Info(fmt.Sprint("line ", i))
		}
		if n := strings.Count(out.String(), "\n"); n != 3*repeatKinds {
			t.Errorf("%d lines of %d", n, 3*repeatKinds)
		}
		if n := len(l.repeats.kinds); n > repeatKinds {
			t.Errorf("%d kinds are kept", n)
		}
		time.Sleep(2 * repeatWindow)
		l.Info("one more")
		if n := len(l.repeats.kinds); n > 1 {
			t.Errorf("%d kinds are kept after their windows", n)
		}
	})
}

func TestALineLeadsToItsTrace(t *testing.T) {
	var out bytes.Buffer
	l, err := NewLog(LogOptions{Format: "json", Output: &out})
	if err != nil {
		t.Fatal(err)
	}
	l.Info("with", TraceID(Context{TraceID: [16]byte{0xab, 15: 1}}))
	l.Info("without", TraceID(Context{}))
	if s := out.String(); strings.Count(s, "trace_id") != 1 || !strings.Contains(s, `"trace_id":"ab000000000000000000000000000001"`) {
		t.Error(s)
	}
}
