package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// sink is an exporter that keeps what it gets.
type sink struct {
	mu    sync.Mutex
	spans []sdktrace.ReadOnlySpan // guarded by mu
	sizes []int                   // of the requests; guarded by mu
	err   error                   // guarded by mu
	block chan struct{}           // not nil: a request waits for it
}

func (s *sink) ExportSpans(ctx context.Context, list []sdktrace.ReadOnlySpan) error {
	if s.block != nil {
		select {
		case <-s.block:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	for _, ro := range list { // what is exported is lent
		kept := *ro.(*span)
		kept.attrs = slices.Clone(kept.attrs)
		s.spans = append(s.spans, &kept)
	}
	s.sizes = append(s.sizes, len(list))
	return nil
}

func (s *sink) Shutdown(context.Context) error { return nil }

func (s *sink) all() []sdktrace.ReadOnlySpan {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]sdktrace.ReadOnlySpan(nil), s.spans...)
}

// traced makes Traces around an exporter and starts them.
func traced(t testing.TB, s sdktrace.SpanExporter, o TracesOptions) *Traces {
	t.Helper()
	tr := assemble(Options{Log: discard}, o, resource.Empty(), s)
	tr.start()
	t.Cleanup(func() { _ = tr.stop(context.Background()) })
	return tr
}

func attr(s sdktrace.ReadOnlySpan, key string) string {
	for _, kv := range s.Attributes() {
		if string(kv.Key) == key {
			return kv.Value.String()
		}
	}
	return ""
}

var (
	sampled = Context{Flags: FlagSampled}
	discard = slog.New(slog.DiscardHandler)
)

func TestADeliveryEndsWithItsLastWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sink{}
		tr := traced(t, s, TracesOptions{Tuning: Tuning{Slow: 100 * time.Millisecond}})
		start := time.Now()
		d := tr.Deliver(sampled, DeliveryFacts{ID: [16]byte{1}, Policy: "*", Start: start})
		for i := range 20 {
			d.Enqueued(fmt.Sprint("c", i))
		}
		d.Wrote("c0", start.Add(time.Millisecond)) // before all are enqueued, as it happens
		d.Enqueued("late")
		d.Dropped("late", "slow consumer")
		d.Sent(21)
		for i := 1; i < 19; i++ {
			d.Wrote(fmt.Sprint("c", i), start.Add(2*time.Millisecond))
		}
		time.Sleep(300 * time.Millisecond)
		synctest.Wait()
		if n := len(s.all()); n != 0 {
			t.Fatal("ended although one has not got it")
		}
		d.Wrote("c19", time.Now())
		time.Sleep(2 * time.Second)
		synctest.Wait()
		spans := s.all()
		if len(spans) != 1 {
			t.Fatalf("%d spans", len(spans))
		}
		sp := spans[0]
		for key, want := range map[string]string{
			"relay.fanout.members": "21", "relay.fanout.enqueued": "21", "relay.fanout.written": "20", "relay.fanout.dropped": "1", "relay.fanout.slow": "1",
			"relay.fanout.first_write_us": "1000", "relay.fanout.last_write_us": "300000", "error.type": "dropped",
		} {
			if got := attr(sp, key); got != want {
				t.Errorf("%s is %s, want %s", key, got, want)
			}
		}
		if got := sp.EndTime().Sub(start); got != 300*time.Millisecond {
			t.Errorf("ended after %v", got)
		}
		if ev := sp.Events(); len(ev) != 2 || ev[0].Name != "dropped" || ev[1].Name != "slow" {
			t.Errorf("events: %v", ev)
		}
	})
}

func TestADeliveryNamesWhoIsStuckAfterFiveSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sink{}
		tr := traced(t, s, TracesOptions{})
		start := time.Now()
		d := tr.Deliver(sampled, DeliveryFacts{ID: [16]byte{1}, Policy: "*", Start: start})
		for i := range 40 {
			d.Enqueued(fmt.Sprint("c", i))
		}
		d.Sent(40)
		for i := range 20 {
			d.Wrote(fmt.Sprint("c", 2*i), start.Add(time.Millisecond))
		}
		time.Sleep(8 * time.Second)
		synctest.Wait()
		spans := s.all()
		if len(spans) != 1 {
			t.Fatalf("%d spans", len(spans))
		}
		sp := spans[0]
		if got := sp.EndTime().Sub(start); got < deliverCap || got > deliverCap+time.Second {
			t.Errorf("ended after %v", got)
		}
		if attr(sp, "relay.fanout.slow") != "20" || attr(sp, "error.type") != "slow" {
			t.Errorf("slow: %s, error.type: %s", attr(sp, "relay.fanout.slow"), attr(sp, "error.type"))
		}
		ev := sp.Events()
		if len(ev) != maxEvents {
			t.Fatalf("%d events, want %d", len(ev), maxEvents)
		}
		for i, e := range ev {
			want := fmt.Sprint("c", 2*i+1)
			if e.Attributes[0].Value.AsString() != want {
				t.Errorf("event %d names %v, want %s", i, e.Attributes[0].Value.AsString(), want)
			}
		}
		d.Wrote("c1", time.Now()) // too late to matter
		time.Sleep(8 * time.Second)
		synctest.Wait()
		if n := len(s.all()); n != 1 {
			t.Errorf("told twice: %d spans", n)
		}
	})
}

func TestWritesAreShownInDebugOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sink{}
		tr := traced(t, s, TracesOptions{})
		for _, c := range []Context{sampled, {Flags: FlagSampled | FlagDebug}} {
			d := tr.Deliver(c, DeliveryFacts{ID: [16]byte{1}, Policy: "*", Start: time.Now()})
			for i := range 150 {
				d.Enqueued(fmt.Sprint(i))
			}
			d.Sent(150)
			for i := range 150 {
				d.Wrote(fmt.Sprint(i), time.Now())
			}
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		n := 0
		for _, sp := range s.all() {
			if sp.Name() == "write" {
				n++
			}
		}
		if n != maxWrites {
			t.Errorf("%d write spans, want %d", n, maxWrites)
		}
	})
}

func TestOpenDeliveriesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sink{}
		tr := traced(t, s, TracesOptions{Queue: maxOpen * 2})
		for range maxOpen + 10 {
			d := tr.Deliver(sampled, DeliveryFacts{ID: [16]byte{1}, Policy: "*", Start: time.Now()})
			d.Enqueued("stuck")
			d.Sent(1)
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if n := len(s.all()); n != 10 {
			t.Errorf("%d were ended early, want 10", n)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if n := len(s.all()); n != maxOpen+10 {
			t.Errorf("%d were told, want all", n)
		}
		if tr.open.count != 0 {
			t.Errorf("%d are still open", tr.open.count)
		}
	})
}

// Connections end every moment: who is not there any more misses nothing.
func TestWhoIsGoneIsNoTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sink{}
		tr := traced(t, s, TracesOptions{Tuning: Tuning{Promote: 1}})
		for _, why := range []string{"closed", "shed"} {
			d := tr.Deliver(sampled, DeliveryFacts{ID: [16]byte{1}, Policy: why, Start: time.Now()})
			d.Enqueued("gone")
			d.Enqueued("c")
			d.Dropped("gone", "closed")
			d.Dropped("c", why)
			d.Sent(2)
		}
		for range 10 {
			tr.DroppedFor(Context{}, "gone", "closed", time.Now(), func() DeliveryFacts { return DeliveryFacts{Policy: "unsampled"} })
		}
		if !tr.Promote(time.Now()) {
			t.Error("connections that ended took the token of another message")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		got := map[string]string{}
		for _, sp := range s.all() {
			got[sp.Name()] = attr(sp, "error.type") + " " + attr(sp, "relay.fanout.dropped")
		}
		if want := map[string]string{"deliver closed": " 2", "deliver shed": "dropped 2"}; !maps.Equal(got, want) {
			t.Errorf("spans %v, want %v", got, want)
		}
	})
}

// Writers and the room touch a delivery at once.
func TestADeliveryIsToldOnceWhoeverEndsIt(t *testing.T) {
	s := &sink{}
	tr := traced(t, s, TracesOptions{Delay: time.Millisecond})
	const rounds, receivers = 200, 8
	for range rounds {
		d := tr.Deliver(sampled, DeliveryFacts{ID: [16]byte{1}, Policy: "*", Start: time.Now()})
		var wg sync.WaitGroup
		for i := range receivers {
			d.Enqueued(fmt.Sprint(i))
			wg.Go(func() {
				if i%3 == 0 {
					d.Dropped(fmt.Sprint(i), "closed")
				} else {
					d.Wrote(fmt.Sprint(i), time.Now())
				}
			})
		}
		wg.Go(func() { d.expire(time.Now()) })
		d.Sent(receivers)
		wg.Wait()
	}
	_ = tr.stop(context.Background())
	if n := len(s.all()); n != rounds {
		t.Errorf("%d spans for %d deliveries", n, rounds)
	}
}

func TestTracingSwitchedOffIsSilent(t *testing.T) {
	var tr *Traces
	var o Origin
	c := tr.Decide([16]byte{1}, &o, 0)
	m := tr.Message(c, &o, Facts{})
	m.Policy(PolicyStep{})
	m.Filter(FilterStep{})
	m.Published(Publication{})
	m.Promoted(Slow)
	m.End(Outcome{})
	d := tr.Deliver(c, DeliveryFacts{})
	d.Enqueued("")
	d.Wrote("", time.Time{})
	d.Dropped("", "")
	d.Sent(1)
	tr.DroppedFor(c, "", "", time.Time{}, func() DeliveryFacts { return DeliveryFacts{} })
	tr.LateFilters([16]byte{1}, sampled, FilterStep{})
	if tr.Promote(time.Time{}) || tr.TooSlow(time.Time{}, time.Now()) || tr.URL(sampled) != "" || tr.Tune(Tuning{}) != nil {
		t.Error("a nil Traces says something")
	}
	if !tr.Handshake(nil, Handshake{}).IsZero() || !m.Context().IsZero() || !d.Context().IsZero() {
		t.Error("a nil Traces has contexts")
	}
}

// Names of receivers are bounded, over all deliveries too. Where some are missing,
// none is told: it could be that of somebody who has the message.
func TestNamesAreBoundedAndNeverWrong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sink{}
		tr := traced(t, s, TracesOptions{})
		d := tr.Deliver(sampled, DeliveryFacts{ID: [16]byte{1}, Policy: "*", Start: time.Now()})
		for i := range maxNamed + 10 {
			d.Enqueued(fmt.Sprint("c", i))
		}
		d.Sent(maxNamed + 10)
		for i := maxNamed + 9; i > 0; i-- {
			d.Wrote(fmt.Sprint("c", i), time.Now())
		}
		if n := tr.open.names.Load(); n != 2*maxNamed {
			t.Errorf("%d names are kept", n)
		}
		tr.open.names.Add(maxNames) // others have used all up
		e := tr.Deliver(sampled, DeliveryFacts{ID: [16]byte{2}, Policy: "*", Start: time.Now()})
		e.Enqueued("x")
		e.Sent(1)
		time.Sleep(2 * deliverCap)
		synctest.Wait()
		if n := tr.open.names.Load(); n != maxNames {
			t.Errorf("%d names are kept in the end", n-maxNames)
		}
		spans := s.all()
		if len(spans) != 2 {
			t.Fatalf("%d spans", len(spans))
		}
		for _, sp := range spans {
			if attr(sp, "relay.fanout.slow") != "1" || len(sp.Events()) != 0 {
				t.Errorf("slow %s, events %v", attr(sp, "relay.fanout.slow"), sp.Events())
			}
		}
	})
}
