package telemetry

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"syscall"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// The way of one message with a policy, a built-in filter, a plugin and ten
// receivers, at a share. What matters is cpu-ns/msg: processor time of the whole
// process, export over OTLP/HTTP to a server that throws it away included.
func BenchmarkMessage(b *testing.B) {
	for _, share := range []float64{0, 0.01, 1} {
		b.Run(fmt.Sprintf("%v%%", share*100), func(b *testing.B) { benchmarkMessage(b, share) })
	}
}

func benchmarkMessage(b *testing.B, share float64) {
	away := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	defer away.Close()
	exporter, err := newSpanExporter(OTLP{Endpoint: away.URL, Protocol: HTTP})
	if err != nil {
		b.Fatal(err)
	}
	announced := announcing{exporter, make(chan struct{}, 1)}
	tr := assemble(Options{Log: discard}, TracesOptions{Tuning: Tuning{Slow: time.Second}}, resource.Empty(), announced)
	tr.start()
	o := NewEntrance(EntranceOptions{Sample: Share(share)}).Origin(nil, time.Time{})
	var ids [1 << 14][16]byte
	for i := range ids {
		_, _ = rand.Read(ids[i][:])
	}
	conns := [10]string{"conn-0", "conn-1", "conn-2", "conn-3", "conn-4", "conn-5", "conn-6", "conn-7", "conn-8", "conn-9"}
	now := time.Now()
	b.ReportAllocs()
	before := cpu()
	for i := 0; b.Loop(); i++ {
		id := ids[i%len(ids)]
		c := tr.Decide(id, &o, 0)
		if tr.TooSlow(now, now) {
			b.Fatal("slow")
		}
		if !c.Sampled() {
			continue
		}
		for tr.queue.waiting() > tr.queue.max/2 {
			<-announced.exported // the rate that the exporter keeps up with: nothing is dropped
		}
		now := time.Now()
		m := tr.Message(c, &o, Facts{ID: id, Start: now, Endpoint: "/ws", Connection: "conn-0", Policy: "support-{team}-*", Room: "support-red-1", User: "user-1", Size: 128})
		m.Policy(PolicyStep{Action: "publish", Rule: "members", Result: "allowed", Start: now, End: now})
		m.Filter(FilterStep{Filter: "words", Mode: "enforce", Start: now, End: now, Action: "allow"})
		m.Filter(FilterStep{Filter: "profanity", Mode: "enforce", Start: now, End: now, Action: "allow", Plugin: true, Batch: 1, Generation: 1})
		m.Published(Publication{Start: now, End: now, System: "redis", Operation: "EVALSHA", Pipeline: 1, Seq: 1})
		d := tr.Deliver(c, DeliveryFacts{ID: id, Policy: "support-{team}-*", Room: "support-red-1", Seq: 1, Start: now})
		for _, conn := range conns {
			d.Enqueued(conn)
		}
		d.Sent(len(conns))
		for _, conn := range conns {
			d.Wrote(conn, time.Now())
		}
		m.End(Outcome{End: now})
	}
	_ = tr.stop(context.Background())
	b.ReportMetric(float64(cpu()-before)/float64(b.N), "cpu-ns/msg")
	if tr.queue.dropped.Load() != 0 {
		b.Fatalf("%d spans were dropped", tr.queue.dropped.Load())
	}
}

// announcing says when something was exported.
type announcing struct {
	sdktrace.SpanExporter
	exported chan struct{} // holds one
}

// ExportSpans implements sdktrace.SpanExporter.
func (a announcing) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := a.SpanExporter.ExportSpans(ctx, spans)
	select {
	case a.exported <- struct{}{}:
	default:
	}
	return err
}

// What every message pays for tracing.
func BenchmarkDecide(b *testing.B) {
	tr, o, id, yes := &Traces{}, Origin{Sample: Share(0.01)}, randomID(), 0
	id[9] = 0 // not sampled
	b.ReportAllocs()
	for b.Loop() {
		if tr.Decide(id, &o, 0).Sampled() {
			yes++
		}
	}
	if yes > 0 {
		b.Fatal("sampled")
	}
}

func cpu() int64 {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // cannot fail for oneself
	return u.Utime.Nano() + u.Stime.Nano()
}

// With the collector away, telling costs what filling a queue costs, and at the
// 99th percentile too: nobody on a message's way waits.
func BenchmarkCollectorAway(b *testing.B) {
	for _, away := range []bool{false, true} {
		b.Run(map[bool]string{false: "there", true: "away"}[away], func(b *testing.B) {
			s := &sink{}
			if away {
				s.block = make(chan struct{})
			}
			tr := assemble(Options{Log: discard}, TracesOptions{}, resource.Empty(), s)
			tr.start()
			b.ReportAllocs()
			took := make([]time.Duration, 0, 1<<20)
			for b.Loop() {
				began := time.Now()
				tell(tr, 1)
				if len(took) < cap(took) {
					took = append(took, time.Since(began))
				}
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds()), "p99-ns")
			if away {
				close(s.block)
			}
			_ = tr.stop(context.Background())
		})
	}
}

func BenchmarkInstruments(b *testing.B) {
	tel, err := New(Options{Log: discard})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = tel.Stop(context.Background()) }()
	b.Run("count", func(b *testing.B) {
		c := tel.Metrics.Count(Messages, "p", "accepted")
		for b.Loop() {
			c.Add(1)
		}
	})
	b.Run("histogram", func(b *testing.B) {
		h := tel.Metrics.Histogram(MessageDuration, "p")
		for b.Loop() {
			h.Observe(int64(3 * time.Millisecond))
		}
	})
}

func TestUnsampledMessagesAllocateNothing(t *testing.T) {
	tr := assemble(Options{Log: discard}, TracesOptions{Tuning: Tuning{Slow: time.Second}}, resource.Empty(), &sink{})
	defer func() { _ = tr.stop(context.Background()) }()
	e := NewEntrance(EntranceOptions{Sample: Share(0)})
	now := time.Now()
	var id [16]byte
	if n := testing.AllocsPerRun(1000, func() {
		id[3]++
		o := e.Origin(nil, now)
		c := tr.Decide(id, &o, 0)
		var m *Message
		if c.Sampled() {
			m = tr.Message(c, &o, Facts{ID: id})
		}
		m.Policy(PolicyStep{})
		d := tr.Deliver(c, DeliveryFacts{ID: id})
		d.Enqueued("x")
		d.Sent(1)
		if tr.TooSlow(now, now) {
			t.Error("slow")
		}
		m.End(Outcome{})
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
