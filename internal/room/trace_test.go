package room

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/wsrelay/relay/internal/bus"
	"github.com/wsrelay/relay/internal/room/policy"
	"github.com/wsrelay/relay/internal/wire"
	"github.com/wsrelay/relay/telemetry"
	"github.com/wsrelay/relay/telemetry/telemetrytest"
	"github.com/wsrelay/relay/telemetry/tracetree"
)

// traces makes some that go to an address, and starts them.
func traces(t *testing.T, otlp string, tune telemetry.Tuning) *telemetry.Traces {
	t.Helper()
	tel, err := telemetry.New(telemetry.Options{Log: slog.New(slog.DiscardHandler), Traces: &telemetry.TracesOptions{
		OTLP: telemetry.OTLP{Endpoint: otlp}, Tuning: tune, Delay: time.Millisecond,
	}})
	if err != nil {
		t.Fatal(err)
	}
	tel.Start()
	t.Cleanup(func() { _ = tel.Stop(context.Background()) })
	return tel.Traces
}

// watch traces a share of the courtroom's messages. It comes before join.
func (c *courtroom) watch(t *testing.T, share float64) *telemetrytest.Collector {
	t.Helper()
	col := telemetrytest.NewCollector(t)
	c.g.opt.Traces, c.g.opt.System = traces(t, col.GRPC, telemetry.Tuning{Promote: 100}), "memory"
	f := *c.g.force.Load()
	f.Samples = []telemetry.Sampler{telemetry.Share(share)}
	c.g.force.Store(&f)
	return col
}

// spans waits for those of one message, by name.
func spans(t *testing.T, col *telemetrytest.Collector, names ...string) map[string]*tracetree.Span {
	t.Helper()
	found := map[string]*tracetree.Span{}
	col.Wait(t, func(list []*tracetree.Span) bool {
		for _, s := range list {
			found[s.Name] = s
		}
		for _, name := range names {
			if found[name] == nil {
				return false
			}
		}
		return true
	})
	return found
}

// Publishing begins when the message goes to the bus, not when it came: what the
// policy took is not Redis's.
func TestThePublishSpanBeginsAfterThePolicys(t *testing.T) {
	c := newCourtroom(t, kept)
	col := c.watch(t, 1)
	c.join(t)
	chat := Chat{Message: []byte(`1`), Trace: Trace{Start: time.Now().Add(-time.Second)}} // a policy that takes its time
	if e := c.seat.Publish(chat, func(Accepted, *wire.Error) {}); e != nil {
		t.Fatal(e)
	}
	c.store(0, 1)
	got := spans(t, col, "policy publish", "publish *")
	if p, b := got["policy publish"], got["publish *"]; b.Start.Before(p.End) || b.Duration() >= time.Second {
		t.Errorf("the policy is asked until %v, published from %v on for %v", p.End, b.Start, b.Duration())
	}
}

// What nobody is going to look at costs no memory, with traces or without.
func TestAnUnsampledMessageMakesNoGarbage(t *testing.T) {
	never := traces(t, "http://127.0.0.1:1", telemetry.Tuning{})
	allocs := func(tr *telemetry.Traces) (deliver, publish float64) {
		g, seats, over := seated(t, 10, policy.Settings{Presence: true})
		g.opt.Traces = tr
		over.publish = func(m *bus.Message, r bus.Receipt) error {
			r.Published(bus.Result{ID: m.Event.ID, Time: m.Event.Time})
			return nil
		}
		e, ack, body := chat("", 0), func(Accepted, *wire.Error) {}, []byte(`"hello"`)
		return testing.AllocsPerRun(1000, func() { g.Deliver(e) }), testing.AllocsPerRun(1000, func() {
			if e := seats[0].Publish(Chat{Message: body}, ack); e != nil {
				t.Fatal(e)
			}
		})
	}
	deliver, publish := allocs(nil)
	tracedDeliver, tracedPublish := allocs(never)
	if deliver != tracedDeliver || publish != tracedPublish {
		t.Errorf("a delivery takes %v allocations and with traces %v, a message %v and %v", deliver, tracedDeliver, publish, tracedPublish)
	}
	if most := 4.0; publish > most { // the message, its id, its receipt, and what answers it in its place
		t.Errorf("a message takes %v allocations, want at most %v", publish, most)
	}
}
