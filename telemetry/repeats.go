package telemetry

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// repeatWindow and repeatMax: of lines with the same level and message, so
	// many are written in a window; the rest is counted, and told at its end.
	repeatWindow = time.Second
	repeatMax    = 100
	// repeatKinds bounds the messages that are told apart. Ours are constants;
	// those of libraries may not be.
	repeatKinds = 1024
	// auditMessage is that of audit lines, of which none is ever left out.
	auditMessage = "audit"
)

// repeats keeps a flood of one message from being a flood of lines. What is left
// out is told in one line when the window is over.
type repeats struct {
	slog.Handler
	*flood
}

// flood is what all handlers of one logger share.
type flood struct {
	base       slog.Handler // tells of what was left out
	suppressed atomic.Int64

	mu    sync.Mutex
	kinds map[kind]*window // guarded by mu
}

type kind struct {
	level   slog.Level
	message string
}

type window struct {
	began   time.Time
	lines   int
	omitted int
}

func limitRepeats(h slog.Handler) *repeats {
	return &repeats{h, &flood{base: h, kinds: make(map[kind]*window)}}
}

// Handle implements slog.Handler.
func (r *repeats) Handle(ctx context.Context, rec slog.Record) error {
	if rec.Message != auditMessage && !r.admit(kind{rec.Level, rec.Message}, time.Now()) {
		r.suppressed.Add(1)
		return nil
	}
	return r.Handler.Handle(ctx, rec)
}

// WithAttrs implements slog.Handler.
func (r *repeats) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &repeats{r.Handler.WithAttrs(attrs), r.flood}
}

// WithGroup implements slog.Handler.
func (r *repeats) WithGroup(name string) slog.Handler {
	return &repeats{r.Handler.WithGroup(name), r.flood}
}

// admit says whether a line is to be written.
func (f *flood) admit(k kind, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	w := f.kinds[k]
	if w == nil || now.Sub(w.began) >= repeatWindow && w.omitted == 0 {
		if len(f.kinds) >= repeatKinds {
			f.forget(now)
		}
		if len(f.kinds) >= repeatKinds && w == nil {
			return true // too many kinds to tell apart are no repeats
		}
		w = &window{began: now}
		f.kinds[k] = w
	}
	w.lines++
	if w.lines <= repeatMax {
		return true
	}
	if w.omitted == 0 {
		time.AfterFunc(w.began.Add(repeatWindow).Sub(now), func() { f.tell(k, w) })
	}
	w.omitted++
	return false
}

// forget drops the windows that are over. mu is held.
func (f *flood) forget(now time.Time) {
	for k, w := range f.kinds {
		if w.omitted == 0 && now.Sub(w.began) >= repeatWindow {
			delete(f.kinds, k)
		}
	}
}

// tell says how many lines a window left out.
func (f *flood) tell(k kind, w *window) {
	f.mu.Lock()
	if f.kinds[k] == w {
		delete(f.kinds, k)
	}
	n := w.omitted
	f.mu.Unlock()
	rec := slog.NewRecord(time.Now(), k.level, "lines like this one were left out", 0)
	rec.AddAttrs(slog.String("line", k.message), slog.Int("lines", n))
	_ = f.base.Handle(context.Background(), rec) // as with any line, there is nobody to tell
}

// TraceID is a log line's link to a trace: nothing, where there is none.
func TraceID(c Context) slog.Attr {
	if c.TraceID == [16]byte{} {
		return slog.Attr{}
	}
	return slog.String("trace_id", hexID(c.TraceID))
}
