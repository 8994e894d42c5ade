package telemetry

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// tell tells n messages of two spans each.
func tell(tr *Traces, n int) {
	o := Origin{Sample: Share(1)}
	for i := range n {
		id := [16]byte{1, 14: byte(i >> 8), 15: byte(i)}
		m := tr.Message(tr.Decide(id, &o, 0), &o, Facts{ID: id, Start: time.Now(), Policy: "*", Room: "r"})
		m.Published(Publication{System: "redis"})
		m.End(Outcome{})
	}
}

func TestNothingWaitsForACollectorThatIsStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sink{block: make(chan struct{})}
		tr := traced(t, s, TracesOptions{Queue: 1000, Batch: 100, Timeout: 10 * time.Second})
		began := time.Now()
		tell(tr, 5000)
		if waited := time.Since(began); waited != 0 {
			t.Fatalf("waited %v", waited)
		}
		synctest.Wait()
		dropped, waiting := tr.queue.dropped.Load(), int64(tr.queue.waiting())
		if waiting > 1000 || dropped+waiting != 10_000-100 { // one batch is under way
			t.Errorf("%d dropped and %d waiting of 10,000", dropped, waiting)
		}
		time.Sleep(11 * time.Second) // the request is given up
		synctest.Wait()
		if got := tr.queue.dropped.Load(); got != dropped+100 {
			t.Errorf("%d dropped, want the batch that timed out to be counted", got)
		}
		close(s.block)
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if got := int64(len(s.all())) + tr.queue.dropped.Load(); got != 10_000 {
			t.Errorf("%d spans are accounted for of 10,000", got)
		}
		if tr.exported.Load() != int64(len(s.all())) {
			t.Errorf("%d exported, %d came", tr.exported.Load(), len(s.all()))
		}
	})
}

func TestStopIsBoundedAndCountsWhatIsLeft(t *testing.T) {
	for name, block := range map[string]bool{"stuck": true, "refusing": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &sink{err: errors.New("away")}
				if block {
					s.block = make(chan struct{})
				}
				tr := traced(t, s, TracesOptions{Queue: 1000, Batch: 100, Timeout: time.Minute})
				tell(tr, 400)
				synctest.Wait()
				began := time.Now()
				if err := tr.stop(context.Background()); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took > stopFlush {
					t.Errorf("took %v", took)
				}
				if n := tr.queue.dropped.Load(); n != 800 {
					t.Errorf("%d counted as dropped, want 800", n)
				}
				tell(tr, 1)
				if n := tr.queue.dropped.Load(); n != 802 {
					t.Errorf("%d counted as dropped after the end, want 802", n)
				}
				if err := tr.stop(context.Background()); err != nil {
					t.Errorf("second stop: %v", err)
				}
			})
		})
	}
}

func TestStopExportsWhatWaitsAndOpenDeliveries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sink{}
		tr := traced(t, s, TracesOptions{Delay: time.Hour, Batch: 100})
		tell(tr, 400)
		d := tr.Deliver(sampled, DeliveryFacts{ID: [16]byte{1}, Start: time.Now()})
		d.Enqueued("x")
		d.Sent(1)
		if err := tr.stop(context.Background()); err != nil {
			t.Fatal(err)
		}
		if n := len(s.all()); n != 801 {
			t.Errorf("%d spans, want 801", n)
		}
	})
}

func TestStopBeforeStart(t *testing.T) {
	s := &sink{}
	tr := assemble(Options{Log: discard}, TracesOptions{}, resource.Empty(), s)
	tell(tr, 1)
	if err := tr.stop(context.Background()); err != nil {
		t.Fatal(err)
	}
	if tr.queue.dropped.Load() != 2 {
		t.Error("what nobody exported is not counted")
	}
}

func TestBatchesAreFullUnderLoadAndPromptOtherwise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sink{}
		tr := traced(t, s, TracesOptions{Batch: 100, Delay: time.Second})
		tell(tr, 3)
		time.Sleep(999 * time.Millisecond)
		synctest.Wait()
		if len(s.all()) != 0 {
			t.Error("exported before the delay was over")
		}
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		if n := len(s.all()); n != 6 {
			t.Errorf("%d spans after the delay", n)
		}
		tell(tr, 125)
		synctest.Wait()
		if n := len(s.all()); n != 6+200 {
			t.Errorf("%d spans at once: full batches do not wait", n)
		}
		time.Sleep(time.Second + time.Millisecond)
		synctest.Wait()
		if n := len(s.all()); n != 6+250 {
			t.Errorf("%d spans in the end", n)
		}
	})
}

// Collectors take 4 MiB at once.
func TestRequestsStaySmall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sink{}
		tr := traced(t, s, TracesOptions{Batch: 8192, Queue: 20_000})
		o, long := Origin{Sample: Share(1)}, strings.Repeat("x", 4000)
		for i := range 3000 {
			id := [16]byte{1, 14: byte(i >> 8), 15: byte(i)}
			m := tr.Message(tr.Decide(id, &o, 0), &o, Facts{ID: id, Start: time.Now(), Room: long})
			m.End(Outcome{})
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		sum := 0
		for _, n := range s.sizes {
			sum += n
			if n*4000 > maxRequest+5000 {
				t.Errorf("a request of %d spans has about %d bytes", n, n*4000)
			}
		}
		if sum != 3000 {
			t.Errorf("%d spans came", sum)
		}
	})
}

func TestQueueKeepsOrderAndGivesMemoryBack(t *testing.T) {
	q := newQueue(10_000, 100)
	var next, taken int
	put := func(n int) {
		for range n {
			q.put(numbered(next), 1)
			next++
		}
	}
	var buf []queued
	for _, step := range []int{1, 250, 3, 4000, 100} {
		put(step)
		for n := range 7 {
			var spans int
			if buf, spans = q.take(buf, 30+n); spans != len(buf) {
				t.Fatalf("%d spans in %d records", spans, len(buf))
			}
			for _, r := range buf {
				if int(r.record.(numbered)) != taken {
					t.Fatalf("got %d, want %d", r.record, taken)
				}
				taken++
			}
		}
	}
	for q.waiting() > 0 {
		buf, _ = q.take(buf, 100)
		taken += len(buf)
	}
	if taken != next {
		t.Errorf("%d of %d came", taken, next)
	}
	if cap(q.list) > 1000 {
		t.Errorf("keeps %d places after a burst", cap(q.list))
	}
	q.put(numbered(0), 20_000)
	if q.dropped.Load() != 20_000 {
		t.Errorf("%d dropped", q.dropped.Load())
	}
}

type numbered int

func (numbered) draw(*artist) {}

func TestMistakesInOptionsAreSaid(t *testing.T) {
	for want, o := range map[string]TracesOptions{
		"protocol":    {OTLP: OTLP{Protocol: "carrier pigeon"}},
		"http://host": {OTLP: OTLP{Endpoint: "localhost:4317"}},
		"headers":     {OTLP: OTLP{Endpoint: "http://user:s3cr3t@host:1"}},
		"not a URL":   {OTLP: OTLP{Endpoint: "http://s3cr3t\x7f"}},
		"identify":    {Tuning: Tuning{Identify: "face"}},
		"{traceId}":   {Tuning: Tuning{UI: "http://jaeger/"}},
	} {
		_, err := New(Options{Traces: &o, Log: discard})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: want a word about %s", err, want)
		}
		if err != nil && strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("tells a secret: %v", err)
		}
	}
	if _, err := New(Options{}); err == nil {
		t.Error("made without a logger")
	}
	if s := fmt.Sprint(OTLP{Endpoint: "http://u:s3cr3t@h:1/x?key=s3cr3t", Headers: map[string]string{"a": "s3cr3t"}}); s != "http://h:1" {
		t.Errorf("printed as %s", s)
	}
}

// A span embeds the SDK's interface to be one; a method that a later SDK adds
// must not be found missing in production.
func TestASpanHasEveryMethod(t *testing.T) {
	want := reflect.TypeFor[sdktrace.ReadOnlySpan]()
	own := reflect.ValueOf(&span{})
	for i := range want.NumMethod() {
		if m := want.Method(i); m.IsExported() {
			own.MethodByName(m.Name).Call(nil) // of the nil interface, it would panic
		}
	}
}
