package telemetry_test

import (
	"context"
	"encoding/hex"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/wsrelay/relay/telemetry"
	"github.com/wsrelay/relay/telemetry/telemetrytest"
	"github.com/wsrelay/relay/telemetry/tracetree"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// bell is a log that rings instead of writing.
type bell struct {
	slog.Handler
	rung chan struct{} // holds one
}

// Handle implements slog.Handler.
func (b bell) Handle(context.Context, slog.Record) error {
	select {
	case b.rung <- struct{}{}:
	default:
	}
	return nil
}

// start makes a Telemetry that exports to where o says, at once.
func start(t testing.TB, instance string, o telemetry.TracesOptions) *telemetry.Telemetry {
	t.Helper()
	tel, _ := startRinging(t, instance, o)
	return tel
}

// startRinging is start, with a channel that says when something was logged.
func startRinging(t testing.TB, instance string, o telemetry.TracesOptions) (tel *telemetry.Telemetry, logged <-chan struct{}) {
	t.Helper()
	if o.Delay == 0 {
		o.Delay = time.Millisecond
	}
	log := bell{quiet.Handler(), make(chan struct{}, 1)}
	tel, err := telemetry.New(telemetry.Options{Service: "relay", Instance: instance, Version: "test", Traces: &o, Log: slog.New(log)})
	if err != nil {
		t.Fatal(err)
	}
	tel.Start()
	t.Cleanup(func() {
		if err := tel.Stop(context.Background()); err != nil {
			t.Errorf("stopping: %v", err)
		}
	})
	return tel, log.rung
}

func to(endpoint string, p telemetry.Protocol) telemetry.TracesOptions {
	return telemetry.TracesOptions{OTLP: telemetry.OTLP{Endpoint: endpoint, Protocol: p}, Tuning: telemetry.Tuning{Promote: 100}}
}

// tell sends one message through two instances the way that relay does, with a
// built-in filter, a plugin that does not trace, and two receivers on each.
func tell(a, b *telemetry.Traces, id [16]byte, c telemetry.Context, o *telemetry.Origin, t0 time.Time) {
	ms := func(n int) time.Time { return t0.Add(time.Duration(n) * time.Millisecond) }
	m := a.Message(c, o, telemetry.Facts{
		ID: id, Start: t0, Endpoint: "/ws", Connection: "conn-1", Policy: "support-{team}", Room: "support-red", User: "ann", Size: 42,
	})
	m.Policy(telemetry.PolicyStep{Action: "publish", Rule: "members", Result: "allowed", Start: ms(0), End: ms(1)})
	m.Filter(telemetry.FilterStep{Filter: "words", Mode: "enforce", Start: ms(1), End: ms(2), Action: "allow"})
	m.Filter(telemetry.FilterStep{
		Filter: "profanity", Mode: "enforce", Start: ms(2), End: ms(8), Action: "modify", Code: "masked",
		Queued: time.Millisecond, Elapsed: 3 * time.Millisecond, Batch: 4, Generation: 2, SpanID: [8]byte{7, 7}, Plugin: true,
	})
	m.Published(telemetry.Publication{Start: ms(8), End: ms(11), System: "redis", Operation: "EVALSHA", Pipeline: 3, Seq: 17})
	m.End(telemetry.Outcome{End: ms(12), Action: "modify"})
	for i, in := range []*telemetry.Traces{a, b} {
		d := in.Deliver(c, telemetry.DeliveryFacts{ID: id, Policy: "support-{team}", Room: "support-red", Seq: 17, Start: ms(10)})
		d.Enqueued("x")
		d.Enqueued("y")
		d.Sent(2)
		d.Wrote("x", ms(11+i))
		d.Wrote("y", ms(13+i))
	}
}

const tree = `process support-{team}  CONSUMER  relay
  filter profanity  CLIENT  relay
    profanity  SERVER  relay-filter-profanity
  filter words  CLIENT  relay
  policy publish  INTERNAL  relay
  publish support-{team}  PRODUCER  relay
    deliver support-{team}  CONSUMER  relay
    deliver support-{team}  CONSUMER  relay
`

func TestAMessageIsOneTrace(t *testing.T) {
	for _, p := range []telemetry.Protocol{telemetry.GRPC, telemetry.HTTP} {
		t.Run(string(p), func(t *testing.T) {
			col := telemetrytest.NewCollector(t)
			endpoint := col.GRPC
			if p == telemetry.HTTP {
				endpoint = col.HTTP
			}
			o := to(endpoint, p)
			o.Headers = map[string]string{"x-api-key": "secret"}
			a, b := start(t, "a", o).Traces, start(t, "b", o).Traces
			id := [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
			origin := telemetry.NewEntrance(telemetry.EntranceOptions{Sample: telemetry.Share(1)}).Origin(nil, time.Time{})
			tell(a, b, id, a.Decide(id, &origin, 0), &origin, time.Now())

			spans := col.WaitSpans(t, 8)
			roots := tracetree.Trees(spans)
			if got := tracetree.Shape(roots); got != tree {
				t.Errorf("the tree is\n%s\nwant\n%s", got, tree)
			}
			for _, s := range spans {
				if s.TraceID != hex.EncodeToString(id[:]) {
					t.Errorf("%s is in trace %s", s.Name, s.TraceID)
				}
			}
			if col.Header("x-api-key") != "secret" {
				t.Error("the header did not come")
			}
			check(t, roots[0])
		})
	}
}

// check looks at what the spans of tell say.
func check(t *testing.T, root *tracetree.Span) {
	t.Helper()
	want := map[string]map[string]string{
		"process support-{team}": {
			"messaging.system": "relay", "messaging.destination.template": "support-{team}", "messaging.destination.name": "support-red",
			"messaging.message.id": "0102030405060708090a0b0c0d0e0f10", "messaging.message.body.size": "42", "messaging.operation.type": "process",
			"relay.connection.id": "conn-1", "relay.endpoint": "/ws", "relay.seq": "17", "user.id": "ann", "relay.action": "modify",
		},
		"policy publish": {"relay.policy.rule": "members", "relay.policy.result": "allowed"},
		"filter profanity": {
			"relay.filter.name": "profanity", "relay.filter.verdict": "modify", "relay.filter.code": "masked", "relay.filter.mode": "enforce",
			"relay.filter.batch": "4", "relay.filter.queue_us": "1000", "relay.filter.generation": "2",
		},
		"profanity":              {"relay.drawn": "true"},
		"publish support-{team}": {"messaging.system": "redis", "db.operation.name": "EVALSHA", "relay.publish.pipeline": "3", "relay.seq": "17"},
		"deliver support-{team}": {"relay.fanout.members": "2", "relay.fanout.enqueued": "2", "relay.fanout.written": "2", "relay.fanout.dropped": "0", "relay.fanout.slow": "0"},
	}
	took := map[string]time.Duration{
		"process support-{team}": 12 * time.Millisecond, "filter profanity": 6 * time.Millisecond,
		"profanity": 3 * time.Millisecond, "publish support-{team}": 3 * time.Millisecond,
	}
	seen := 0
	root.Walk(func(s *tracetree.Span, _ int) {
		for k, v := range want[s.Name] {
			seen++
			if s.Attrs[k] != v {
				t.Errorf("%s: %s is %q, want %q", s.Name, k, s.Attrs[k], v)
			}
		}
		if d := took[s.Name]; d != 0 && s.Duration() != d {
			t.Errorf("%s took %v, want %v", s.Name, s.Duration(), d)
		}
		switch {
		case s.Name == "filter profanity" && s.SpanID != "0707000000000000":
			t.Errorf("the plugin was told another id than %s", s.SpanID)
		case s.Name == "deliver support-{team}" && s.Instance == "b" && s.Attrs["relay.fanout.last_write_us"] != "4000":
			t.Errorf("last write after %s µs", s.Attrs["relay.fanout.last_write_us"])
		case s.Resource["service.version"] != "test":
			t.Errorf("%s: version %q", s.Name, s.Resource["service.version"])
		}
	})
	if seen < 30 {
		t.Errorf("only %d attributes were looked at", seen)
	}
}

// A message that was not sampled becomes a trace afterwards, with the ids that
// the envelope carried; a receiver elsewhere promotes on its own, and both are
// one trace.
func TestPromotedMessagesJoin(t *testing.T) {
	col := telemetrytest.NewCollector(t)
	a, b := start(t, "a", to(col.GRPC, "")).Traces, start(t, "b", to(col.GRPC, "")).Traces
	id, now := [16]byte{3, 15: 3}, time.Now()
	var o telemetry.Origin
	c := a.Decide(id, &o, telemetry.Share(0))
	if c.Sampled() {
		t.Fatal("sampled at 0 %")
	}
	if a.Deliver(c, telemetry.DeliveryFacts{ID: id}) != nil {
		t.Fatal("followed although not sampled")
	}
	b.DroppedFor(c, "conn-9", "slow consumer", now, func() telemetry.DeliveryFacts {
		return telemetry.DeliveryFacts{ID: id, Policy: "*", Room: "r"}
	})
	if !a.Promote(now) {
		t.Fatal("no token")
	}
	m := a.Message(c, &o, telemetry.Facts{ID: id, Start: now.Add(-time.Second), Policy: "*", Room: "r"})
	m.Promoted(telemetry.Slow)
	m.Filter(telemetry.FilterStep{Filter: "words", Start: now.Add(-time.Second), End: now.Add(-900 * time.Millisecond), Action: "allow"})
	m.Published(telemetry.Publication{System: "redis"})
	m.End(telemetry.Outcome{End: now})

	roots := tracetree.Trees(col.WaitSpans(t, 4))
	const want = `process *  CONSUMER  relay  error.type=slow
  filter words  CLIENT  relay
  publish *  PRODUCER  relay
    deliver *  CONSUMER  relay  error.type=dropped
`
	if got := tracetree.Shape(roots); got != want {
		t.Errorf("the tree is\n%s\nwant\n%s", got, want)
	}
	roots[0].Walk(func(s *tracetree.Span, _ int) {
		switch s.Name {
		case "publish *":
			if s.Duration() != 900*time.Millisecond {
				t.Errorf("publish took %v: it begins where the filters end", s.Duration())
			}
		case "deliver *":
			if len(s.Events) != 1 || s.Events[0].Attrs["relay.connection.id"] != "conn-9" || s.Events[0].Attrs["relay.reason"] != "slow consumer" {
				t.Errorf("events: %v", s.Events)
			}
		case "process *":
			if s.Attrs["relay.promoted"] != "slow" {
				t.Errorf("promoted: %q", s.Attrs["relay.promoted"])
			}
		}
	})
}

func TestPromotionsAreBounded(t *testing.T) {
	col := telemetrytest.NewCollector(t)
	o := to(col.GRPC, "")
	o.Promote = 3
	tr := start(t, "a", o).Traces
	now, n := time.Now(), 0
	for range 100 {
		if tr.Promote(now) {
			n++
		}
	}
	if n != 3 {
		t.Errorf("3 a second gave %d at once", n)
	}
	if err := tr.Tune(telemetry.Tuning{}); err != nil {
		t.Fatal(err)
	}
	if tr.Promote(now.Add(time.Hour)) {
		t.Error("promoted although promotion was switched off")
	}
}

// A storm of handshakes that are refused leaves messages what is theirs.
func TestRefusedHandshakesTakeNothingFromMessages(t *testing.T) {
	col := telemetrytest.NewCollector(t)
	o := to(col.GRPC, "")
	o.Promote = 3
	tr := start(t, "a", o).Traces
	now, n := time.Now(), 0
	for range 100 {
		if c := tr.Handshake(nil, telemetry.Handshake{Path: "/ws", Start: now, End: now, Status: 429, Error: "rate"}); !c.IsZero() {
			n++
		}
	}
	if n != 3 || !tr.Promote(now) {
		t.Errorf("%d handshakes were told, want 3 and then a message", n)
	}
}

func TestRefusedMessagesAreFoundByTheirError(t *testing.T) {
	col := telemetrytest.NewCollector(t)
	tr := start(t, "a", to(col.GRPC, "")).Traces
	id := [16]byte{4, 15: 4}
	var o telemetry.Origin
	m := tr.Message(tr.Decide(id, &o, 0), &o, telemetry.Facts{ID: id, Start: time.Now(), Policy: "*", Room: "r"})
	m.Promoted(telemetry.Rejected)
	m.Filter(telemetry.FilterStep{Filter: "words", Action: "reject", Code: "bad_word", Start: time.Now(), End: time.Now()})
	m.Filter(telemetry.FilterStep{Filter: "slowpoke", Failure: "timeout", Plugin: true, Start: time.Now(), End: time.Now()})
	m.End(telemetry.Outcome{Error: "rejected", Detail: "words: bad_word"})
	const want = `process *  CONSUMER  relay  error.type=rejected  ERROR
  filter slowpoke  CLIENT  relay  error.type=timeout  ERROR
  filter words  CLIENT  relay
`
	roots := tracetree.Trees(col.WaitSpans(t, 3))
	if got := tracetree.Shape(roots); got != want {
		t.Errorf("the tree is\n%s\nwant\n%s", got, want)
	}
	if roots[0].Status != "words: bad_word" {
		t.Errorf("status %q", roots[0].Status)
	}
}

func TestATrustedClientsTraceIsContinuedAndAnothersLinked(t *testing.T) {
	col := telemetrytest.NewCollector(t)
	tr := start(t, "a", to(col.GRPC, "")).Traces
	const header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for i, mode := range []telemetry.ClientMode{telemetry.Trust, telemetry.Link} {
		e := telemetry.NewEntrance(telemetry.EntranceOptions{Sample: telemetry.Share(1), Client: mode})
		id := [16]byte{5, 15: byte(i + 1)}
		o := e.Origin([]byte(header), time.Now())
		hs := tr.Handshake(e, telemetry.Handshake{Path: "/ws", Start: time.Now(), End: time.Now(), Status: 101, Connection: "c"})
		m := tr.Message(tr.Decide(id, &o, 0), &o, telemetry.Facts{ID: id, Start: time.Now(), Policy: "*", Room: "r", Handshake: hs})
		m.End(telemetry.Outcome{})
		want := hex.EncodeToString(id[:])
		if mode == telemetry.Trust {
			want = "0af7651916cd43dd8448eb211c80319c"
		}
		if got := m.Context().Traceparent(); got[3:35] != want {
			t.Errorf("mode %d: the envelope says trace %s", mode, got)
		}
	}
	for _, s := range col.WaitSpans(t, 4) {
		if s.Name != "process *" {
			continue
		}
		trusted := s.Attrs["messaging.message.id"] == "05000000000000000000000000000001"
		switch {
		case trusted && (s.TraceID != "0af7651916cd43dd8448eb211c80319c" || s.ParentID != "b7ad6b7169203331" || len(s.Links) != 1):
			t.Errorf("trusted: trace %s, parent %s, links %v", s.TraceID, s.ParentID, s.Links)
		case !trusted && (s.TraceID != s.Attrs["messaging.message.id"] || s.ParentID != "" || len(s.Links) != 2):
			t.Errorf("linked: trace %s, parent %s, links %v", s.TraceID, s.ParentID, s.Links)
		}
	}
}

func TestUsersStandInTracesAsIdentifySays(t *testing.T) {
	col := telemetrytest.NewCollector(t)
	tr := start(t, "a", to(col.GRPC, "")).Traces
	all := telemetry.Origin{Sample: telemetry.Share(1)}
	for i, how := range []telemetry.Identify{telemetry.ByID, telemetry.ByHash, telemetry.Anonymous} {
		if err := tr.Tune(telemetry.Tuning{Identify: how}); err != nil {
			t.Fatal(err)
		}
		id := [16]byte{6, 15: byte(i + 1)}
		tr.Message(tr.Decide(id, &all, 0), &all, telemetry.Facts{ID: id, Start: time.Now(), Policy: string(how), User: "ann", Guest: true}).End(telemetry.Outcome{})
		spans := col.WaitSpans(t, i+1)
		for _, s := range spans {
			if s.Name != "process "+string(how) {
				continue
			}
			want := map[telemetry.Identify][3]string{
				telemetry.ByID: {"ann", "", "true"}, telemetry.ByHash: {"", telemetry.UserHash("relay", "ann"), "true"}, telemetry.Anonymous: {},
			}[how]
			if got := [3]string{s.Attrs["user.id"], s.Attrs["user.hash"], s.Attrs["relay.guest"]}; got != want {
				t.Errorf("%s: %q, want %q", how, got, want)
			}
			for k, v := range s.Attrs {
				if how != telemetry.ByID && strings.Contains(v, "ann") {
					t.Errorf("%s: %s tells %q", how, k, v)
				}
			}
		}
	}
}

func TestHandshakes(t *testing.T) {
	col := telemetrytest.NewCollector(t)
	tr := start(t, "a", to(col.GRPC, "")).Traces
	now := time.Now()
	none := telemetry.NewEntrance(telemetry.EntranceOptions{Sample: telemetry.Share(0)})
	if c := tr.Handshake(none, telemetry.Handshake{Path: "/ws", Start: now, End: now, Status: 101}); !c.IsZero() {
		t.Error("a handshake was traced at 0 %")
	}
	if c := tr.Handshake(none, telemetry.Handshake{Path: "/ws", Start: now, End: now, Status: 403, Error: "origin"}); c.IsZero() {
		t.Error("a refused handshake was not promoted")
	}
	all := telemetry.NewEntrance(telemetry.EntranceOptions{Sample: telemetry.Share(1), Client: telemetry.Trust})
	h := http.Header{"Traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}, "Authorization": {"Bearer s3cr3t"}, "Cookie": {"s3cr3t"}}
	c := tr.Handshake(all, telemetry.Handshake{Path: "/chat", Start: now, End: now.Add(time.Millisecond), Status: 101, Connection: "c7", Header: h})
	spans := col.WaitSpans(t, 2)
	const want = "GET /chat  SERVER  relay\nGET /ws  SERVER  relay  error.type=origin\n"
	if got := tracetree.Shape(spans); got != want {
		t.Errorf("spans\n%swant\n%s", got, want)
	}
	for _, s := range spans {
		if s.Name == "GET /chat" && (s.ParentID != "b7ad6b7169203331" || s.SpanID != hex.EncodeToString(c.SpanID[:]) || s.Attrs["relay.connection.id"] != "c7" || s.Attrs["http.response.status_code"] != "101") {
			t.Errorf("%+v", s)
		}
		for k, v := range s.Attrs {
			if strings.Contains(v, "s3cr3t") {
				t.Errorf("%s tells a secret", k)
			}
		}
	}
}
