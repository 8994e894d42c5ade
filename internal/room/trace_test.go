package room

import (
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/wsrelay/relay/internal/bus"
	"github.com/wsrelay/relay/internal/room/policy"
	"github.com/wsrelay/relay/internal/wire"
	"github.com/wsrelay/relay/plugins/filter"
	"github.com/wsrelay/relay/telemetry"
	"github.com/wsrelay/relay/telemetry/telemetrytest"
	"github.com/wsrelay/relay/telemetry/tracetree"
)

// told makes telemetry whose traces go to an address, and starts it.
func told(t *testing.T, otlp string, tune telemetry.Tuning) *telemetry.Telemetry {
	t.Helper()
	tel, err := telemetry.New(telemetry.Options{Log: slog.New(slog.DiscardHandler), Traces: &telemetry.TracesOptions{
		OTLP: telemetry.OTLP{Endpoint: otlp}, Tuning: tune, Delay: time.Millisecond,
	}})
	if err != nil {
		t.Fatal(err)
	}
	tel.Start()
	t.Cleanup(func() { _ = tel.Stop(context.Background()) })
	return tel
}

// watch times the courtroom's messages and traces a share of them. publish is the
// room's rule. It comes before join.
func (c *courtroom) watch(t *testing.T, share float64, publish string) *telemetrytest.Collector {
	t.Helper()
	col := telemetrytest.NewCollector(t)
	tel := told(t, col.GRPC, telemetry.Tuning{Promote: 100, UI: "http://ui/{traceId}"})
	c.g.opt.Traces, c.g.opt.Metrics, c.g.opt.System, c.g.times = tel.Traces, tel.Metrics, "memory", newTimes(tel.Metrics, "memory")
	set, problems := policy.Compile([]policy.Spec{{Match: "*", Create: "anyone", Join: "anyone", Publish: publish, Settings: kept}})
	if problems != nil {
		t.Fatal(problems)
	}
	c.g.force.Store(&Rules{
		Policies: set, Filters: []Filters{c.filters}, Samples: []telemetry.Sampler{telemetry.Share(share)}, Meters: []*Meters{NewMeters(tel.Metrics, "*")},
	})
	return col
}

// counted reports whether metrics have a line.
func (c *courtroom) counted(line string) bool {
	w := httptest.NewRecorder()
	c.g.opt.Metrics.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	return strings.Contains(w.Body.String(), line+"\n")
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
	col := c.watch(t, 1, "members")
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

// A filter that could not judge is told of, though its on_error let the message
// pass.
func TestAFilterThatCouldNotJudgeIsPromoted(t *testing.T) {
	c := newCourtroom(t, kept, filter.Chat)
	col := c.watch(t, 0, "members")
	c.join(t)
	c.say(t, `1`)
	now := time.Now()
	c.filters.answer[0](&Ruling{Steps: []Step{{Filter: "words", Mode: "enforce", Start: now, End: now, Failure: "timeout"}}})
	c.store(0, 1)
	got := spans(t, col, "process *", "filter words")
	if why, f := got["process *"].Attrs["relay.promoted"], got["filter words"].Attrs["error.type"]; why != "failed" || f != "timeout" {
		t.Errorf("promoted as %q, the filter's error is %q", why, f)
	}
}

// A bus that refuses what filters let pass was asked, and that took its time.
func TestABusThatRefusesAfterFiltersIsTold(t *testing.T) {
	for name, say := range map[string]func(c *courtroom, ack Ack) *wire.Error{
		"a member": func(c *courtroom, ack Ack) *wire.Error { return c.seat.Publish(Chat{Message: []byte(`1`)}, ack) },
		"an outsider": func(c *courtroom, ack Ack) *wire.Error {
			return c.g.PublishFrom(actor("b"), new(Lane), "r", Chat{Message: []byte(`1`)}, ack)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCourtroom(t, kept, filter.Chat)
			col := c.watch(t, 0, "anyone")
			c.publish = func(*bus.Message, bus.Receipt) error { return bus.ErrUnavailable }
			c.join(t)
			if e := say(c, func(Accepted, *wire.Error) {}); e != nil {
				t.Fatal(e)
			}
			c.filters.answer[0](&Ruling{})
			if s := spans(t, col, "process *", "publish *")["publish *"]; s.Attrs["error.type"] != "unavailable" || !s.Failed {
				t.Errorf("the publish span says %v", s.Attrs)
			}
			if !c.counted(`messaging_client_operation_duration_seconds_count{error_type="unavailable",messaging_operation_name="publish",messaging_system="memory"} 1`) {
				t.Error("the way to the bus was not timed")
			}
		})
	}
}

// Whoever refuses a message, it is counted, told, and where it is told stands in
// the hint of its error.
func TestEveryRefusalIsTold(t *testing.T) {
	nobody := func(Accepted, *wire.Error) {}
	for name, r := range map[string]struct {
		publish string
		force   []*bus.Sanction
		say     func(c *courtroom, chat Chat) *wire.Error
		code    wire.Code
	}{
		"a rule": {"nobody", nil, func(c *courtroom, chat Chat) *wire.Error { return c.seat.Publish(chat, nobody) }, wire.Forbidden},
		"a mute": {
			"members",
			[]*bus.Sanction{{Kind: bus.Mute, Member: "a", Room: "r"}},
			func(c *courtroom, chat Chat) *wire.Error { return c.seat.Publish(chat, nobody) }, wire.Muted,
		},
		"a rule, from outside": {"members", nil, func(c *courtroom, chat Chat) *wire.Error {
			return c.g.PublishFrom(actor("b"), new(Lane), "r", chat, nobody)
		}, wire.NotMember},
		"a ban, from outside": {
			"anyone",
			[]*bus.Sanction{{Kind: bus.Ban, Member: "b", Room: "r"}},
			func(c *courtroom, chat Chat) *wire.Error {
				return c.g.PublishFrom(actor("b"), new(Lane), "r", chat, nobody)
			}, wire.Banned,
		},
		"the session": {"members", nil, func(c *courtroom, chat Chat) *wire.Error {
			e := &wire.Error{Code: wire.UserMismatch}
			c.g.Refused(actor("a"), "r", chat, e)
			return e
		}, wire.UserMismatch},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCourtroom(t, kept)
			col := c.watch(t, 0, r.publish)
			c.g.opt.Hints = true
			c.join(t)
			c.inForce = r.force
			e := r.say(c, Chat{Message: []byte(`1`), Trace: Trace{Origin: telemetry.Origin{Parent: telemetry.Context{TraceID: [16]byte{7}, SpanID: [8]byte{7}}}}})
			if e == nil || e.Code != r.code {
				t.Fatalf("answered with %v", e)
			}
			s := spans(t, col, "process *")["process *"]
			if s.Attrs["error.type"] != string(r.code) || s.Attrs["relay.promoted"] != "rejected" {
				t.Errorf("the trace says %v", s.Attrs)
			}
			if want := "http://ui/" + s.TraceID; !strings.HasSuffix(e.Hint, want) || !strings.HasPrefix(s.TraceID, "07") {
				t.Errorf("the hint is %q, want %s of the client's trace", e.Hint, want)
			}
			if !c.counted(`relay_messages_total{messaging_destination_template="*",result="refused"} 1`) {
				t.Error("it is not counted")
			}
		})
	}
}

// What a barrier holds back is no receiver of its delivery until it is let go.
func TestADeliveryCountsWhoWasJoining(t *testing.T) {
	c := newCourtroom(t, kept)
	col := c.watch(t, 1, "members")
	slow := &keeper{}
	c.enter = func() (*bus.Entered, error) { return &bus.Entered{Position: bus.Position{Epoch: "e"}}, nil }
	join := func(id string, sink Sink) {
		t.Helper()
		if _, e := c.g.Join(t.Context(), actor(id), sink, "r", nil, func(*bus.Entered) *wire.Frame { return (&wire.Joined{}).Frame() }); e != nil {
			t.Fatal(e)
		}
	}
	join("a", slow)
	c.enter = func() (*bus.Entered, error) {
		e := chat("e", 1)
		e.Trace.Flags = telemetry.FlagSampled
		c.g.Deliver(e)
		return &bus.Entered{Position: bus.Position{Epoch: "e"}}, nil
	}
	join("b", writer("c-b"))
	slow.write("c-a")
	s := spans(t, col, "deliver *")["deliver *"]
	if s.Attrs["relay.fanout.enqueued"] != "2" || s.Attrs["relay.fanout.written"] != "2" {
		t.Errorf("queued to %s sockets and written to %s, want 2", s.Attrs["relay.fanout.enqueued"], s.Attrs["relay.fanout.written"])
	}
}

// keeper is a socket that writes nothing until it is told to.
type keeper struct{ frames []*wire.Frame }

func (k *keeper) Send(f *wire.Frame)    { k.frames = append(k.frames, f) }
func (k *keeper) Evicted(*Seat, string) {}
func (k *keeper) write(conn string) {
	for _, f := range k.frames {
		f.Wrote(func() string { return conn })
	}
}

// writer is a socket that writes at once.
type writer string

func (w writer) Send(f *wire.Frame)    { f.Wrote(func() string { return string(w) }) }
func (w writer) Evicted(*Seat, string) {}

// A log line about a message leads to its trace, which may be a client's.
func TestWhatIsJudgedIsNamedByItsTrace(t *testing.T) {
	c := newCourtroom(t, kept, filter.Chat)
	c.watch(t, 0, "members")
	c.join(t)
	parent := telemetry.Context{TraceID: [16]byte{7}, SpanID: [8]byte{7}, Flags: telemetry.FlagSampled}
	if e := c.seat.Publish(Chat{Message: []byte(`1`), Trace: Trace{Origin: telemetry.Origin{Parent: parent}}}, func(Accepted, *wire.Error) {}); e != nil {
		t.Fatal(e)
	}
	id := hex.EncodeToString(parent.TraceID[:])
	q := c.filters.asked[0]
	if got, want := fmt.Sprint(q.About()...), fmt.Sprint("message", q.ID.String(), "trace_id", id, "trace", "http://ui/"+id); got != want {
		t.Errorf("named %s, want %s", got, want)
	}
	c.filters.answer[0](&Ruling{Action: filter.ActionReject})
}

// What nobody is going to look at costs no memory, with traces or without.
func TestAnUnsampledMessageMakesNoGarbage(t *testing.T) {
	never := told(t, "http://127.0.0.1:1", telemetry.Tuning{}).Traces
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
