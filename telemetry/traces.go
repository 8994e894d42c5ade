package telemetry

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// Traces turns messages into traces. A nil *Traces is tracing switched off: its
// methods do nothing. All methods are safe for concurrent use.
type Traces struct {
	service string
	log     *slog.Logger
	queue   *queue
	batch   int
	delay   time.Duration
	timeout time.Duration

	slow    atomic.Int64 // Tuning.Slow
	tuning  atomic.Pointer[Tuning]
	promote bucket
	refused bucket // of handshakes: a storm of them leaves messages their own
	open    openDeliveries

	exporter sdktrace.SpanExporter
	artist   *artist      // of run alone
	exported atomic.Int64 // spans
	granted  atomic.Int64 // promotions
	denied   atomic.Int64

	ctx     context.Context // of exports
	cancel  context.CancelFunc
	quit    chan struct{} // closed by stop
	done    sync.WaitGroup
	started atomic.Bool
	stopped sync.Once
	stopErr error
}

func newTraces(opt Options, res *resource.Resource) (*Traces, error) {
	o := *opt.Traces
	if err := errors.Join(o.OTLP.check(), o.Tuning.check()); err != nil {
		return nil, err
	}
	exporter, err := newSpanExporter(o.OTLP)
	if err != nil {
		return nil, err
	}
	return assemble(opt, o, res, exporter), nil
}

// assemble makes Traces around an exporter.
func assemble(opt Options, o TracesOptions, res *resource.Resource, exporter sdktrace.SpanExporter) *Traces {
	t := &Traces{service: serviceName(res), log: opt.Log, exporter: exporter, quit: make(chan struct{})}
	t.batch = fromEnv(o.Batch, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 4096)
	t.queue = newQueue(fromEnv(o.Queue, "OTEL_BSP_MAX_QUEUE_SIZE", 65_536), t.batch)
	t.delay = time.Duration(fromEnv(int(o.Delay/time.Millisecond), "OTEL_BSP_SCHEDULE_DELAY", 1000)) * time.Millisecond
	t.timeout = time.Duration(fromEnv(int(o.Timeout/time.Millisecond), "OTEL_BSP_EXPORT_TIMEOUT", 10_000)) * time.Millisecond
	t.artist = newArtist(res, &t.tuning, t.service)
	t.ctx, t.cancel = context.WithCancel(context.Background())
	_ = t.Tune(o.Tuning) // checked by newTraces
	return t
}

// fromEnv is what was set, else a positive number in the environment, else def.
func fromEnv(set int, name string, def int) int {
	if set > 0 {
		return set
	}
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil && n > 0 {
		return n
	}
	return def
}

// Tune puts another Tuning in force. One that New would refuse is an error, and
// changes nothing.
func (t *Traces) Tune(n Tuning) error {
	if t == nil {
		return nil
	}
	if err := n.check(); err != nil {
		return err
	}
	t.tuning.Store(&n)
	t.slow.Store(int64(n.Slow))
	t.promote.set(n.Promote)
	t.refused.set(n.Promote)
	return nil
}

// URL is where people can look at a trace; empty where no template is set, or
// the trace is not recorded.
func (t *Traces) URL(c Context) string {
	if t == nil || !c.Sampled() {
		return ""
	}
	ui := t.tuning.Load().UI
	return strings.ReplaceAll(ui, uiPlaceholder, hex.EncodeToString(c.TraceID[:]))
}

// UserHash is how a user stands in traces with ByHash: the first 32 hex digits
// of SHA-256 over service, a zero byte and the id.
func UserHash(service, user string) string {
	sum := sha256.Sum256([]byte(service + "\x00" + user))
	return hex.EncodeToString(sum[:16])
}

// bind counts what becomes of spans.
func (t *Traces) bind(m *Metrics) {
	m.Func(SpansExported, t.exported.Load)
	m.Func(SpansDropped, t.queue.dropped.Load)
	m.Func(SpansWaiting, func() int64 { return int64(t.queue.waiting()) })
	m.Func(Promotions, t.granted.Load, "granted")
	m.Func(Promotions, t.denied.Load, "denied")
}

func (t *Traces) start() {
	if !t.started.CompareAndSwap(false, true) {
		return
	}
	t.done.Add(2)
	go t.run()
	go t.sweep()
}

// sweep ends deliveries that take too long.
func (t *Traces) sweep() {
	defer t.done.Done()
	tick := time.NewTicker(deliverCap / 20)
	defer tick.Stop()
	for {
		select {
		case <-t.quit:
			return
		case now := <-tick.C:
			for _, d := range t.open.older(now.Add(-deliverCap)) {
				d.expire(now)
			}
		}
	}
}

// run exports until stop, then what is left.
func (t *Traces) run() {
	defer t.done.Done()
	var records []queued
	timer := time.NewTimer(0)
	defer timer.Stop()
	for t.await(timer) {
		records, _ = t.export(records)
		for t.queue.waiting() >= t.queue.full && !t.ending() {
			records, _ = t.export(records)
		}
	}
	// What is left, unless the collector is away: that must not hold up the end.
	for ok := true; ok && t.queue.waiting() > 0 && t.ctx.Err() == nil; {
		records, ok = t.export(records)
	}
}

func (t *Traces) ending() bool {
	select {
	case <-t.quit:
		return true
	default:
		return false
	}
}

// await returns when a batch is full or the oldest span has waited long enough;
// false at the end.
func (t *Traces) await(timer *time.Timer) bool {
	select {
	case <-t.quit:
		return false
	case <-t.queue.wake:
	}
	timer.Reset(t.delay)
	for t.queue.waiting() < t.queue.full {
		select {
		case <-t.quit:
			return false
		case <-timer.C:
			return true
		case <-t.queue.wake:
		}
	}
	return true
}

// stopFlush bounds the last exports where the caller is more patient.
const stopFlush = 5 * time.Second

func (t *Traces) stop(ctx context.Context) error {
	t.stopped.Do(func() {
		for _, d := range t.open.older(time.Now().Add(time.Hour)) {
			d.expire(time.Now())
		}
		close(t.quit)
		ctx, cancel := context.WithTimeout(ctx, stopFlush)
		defer cancel()
		release := context.AfterFunc(ctx, t.cancel)
		defer release()
		t.done.Wait()
		left := t.queue.waiting()
		t.queue.close()
		if t.started.Load() && left > 0 {
			t.log.Warn("traces: the collector did not take everything before the end", "spans", left)
		}
		t.cancel()
		if err := t.exporter.Shutdown(ctx); err != nil && ctx.Err() == nil {
			t.stopErr = fmt.Errorf("closing the exporter of traces: %w", err)
		}
	})
	return t.stopErr
}
