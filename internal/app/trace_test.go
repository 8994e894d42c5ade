package app_test

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	client "github.com/wsrelay/relay/client/go"
	"github.com/wsrelay/relay/internal/app"
	"github.com/wsrelay/relay/internal/bus/redisbus/redistest"
	"github.com/wsrelay/relay/telemetry"
	"github.com/wsrelay/relay/telemetry/telemetrytest"
	"github.com/wsrelay/relay/telemetry/tracetree"
)

// traced is a configuration whose traces go to a collector.
func traced(yaml func(string) string, otlp, more string) func(redis string) string {
	return func(redis string) string {
		return yaml(redis) + fmt.Sprintf("\ntelemetry: {traces: {otlp: %q, %s}}\n", otlp, more)
	}
}

// of picks the spans of one trace.
func of(list []*tracetree.Span, id string) (spans []*tracetree.Span) {
	for _, s := range list {
		if s.TraceID == id {
			spans = append(spans, s)
		}
	}
	return spans
}

// A message over two instances, through a plugin and Redis, is one trace whose id
// is the message's.
func TestAMessageIsOneTrace(t *testing.T) {
	col := telemetrytest.NewCollector(t)
	tb := newTable(t, traced(filtered(t, ""), col.GRPC, "sample: 100%"), redistest.Start(t).URL())
	ack := tb.ann.do(say("!modify hello"))
	e := tb.bob.next("chat")
	if want := "00-" + ack.MessageID + "-"; !strings.HasPrefix(e.Traceparent, want) || !strings.HasSuffix(e.Traceparent, "-01") {
		t.Errorf("the member's traceparent is %q", e.Traceparent)
	}
	spans := of(col.Wait(t, func(l []*tracetree.Span) bool { return len(of(l, ack.MessageID)) >= 7 }), ack.MessageID)
	roots := tracetree.Trees(spans)
	want := `process *  CONSUMER  relay  links=1
  filter obey  CLIENT  relay
    obey  SERVER  relay-filter-obey
  policy publish  INTERNAL  relay
  publish *  PRODUCER  relay
    deliver *  CONSUMER  relay
    deliver *  CONSUMER  relay
`
	if got := tracetree.Shape(roots); got != want {
		t.Errorf("the tree is\n%s\nwant\n%s", got, want)
	}
	written := 0
	roots[0].Walk(func(s *tracetree.Span, _ int) {
		switch s.Name {
		case "process *":
			if s.Attrs["messaging.message.id"] != ack.MessageID || s.Attrs["user.id"] != "ann" || s.Attrs["relay.connection.id"] != tb.ann.Welcome().ConnectionID || s.Attrs["messaging.destination.name"] != "r" {
				t.Errorf("process says %v", s.Attrs)
			}
		case "filter obey":
			if s.Attrs["relay.filter.verdict"] != "modify" {
				t.Errorf("filter says %v", s.Attrs)
			}
		case "deliver *":
			if s.Attrs["relay.fanout.enqueued"] != s.Attrs["relay.fanout.written"] {
				t.Errorf("deliver says %v", s.Attrs)
			}
			var n int
			_, _ = fmt.Sscan(s.Attrs["relay.fanout.written"], &n)
			written += n
		}
	})
	if written != 2 { // bob, and ann's other socket; ann herself has the ack
		t.Errorf("written to %d sockets, want 2", written)
	}
}

// A plain room's message is answered by Redis alone, which is where it is known
// with how many others it travelled.
func TestThePublishSpanTellsThePipeline(t *testing.T) {
	col := telemetrytest.NewCollector(t)
	plain := func(redis string) string { return strings.Replace(over(redis), "history: {}", "", 1) }
	tb := newTable(t, traced(plain, col.GRPC, "sample: 100%"), redistest.Start(t).URL())
	ack := tb.ann.do(say("hello"))
	col.Wait(t, func(l []*tracetree.Span) bool {
		for _, s := range of(l, ack.MessageID) {
			if s.Name == "publish *" {
				if n := s.Attrs["relay.publish.pipeline"]; n == "" || n == "0" {
					t.Fatalf("the pipeline is %q", n)
				}
				return true
			}
		}
		return false
	})
}

// At 0 % everything that goes wrong is a trace all the same, under the token
// bucket.
func TestWhatGoesWrongIsPromoted(t *testing.T) {
	col := telemetrytest.NewCollector(t)
	tb := newTable(t, traced(filtered(t, ""), col.HTTP, "protocol: http, sample: 0%, promote: 100/s"), redistest.Start(t).URL())
	tb.ann.do(say("nothing to tell of this one"))
	tb.ann.refused(say("!reject no"))
	tb.ann.refused(say("!error"))
	dropped := tb.ann.do(say("!drop"))
	tb.ann.refused(&client.Request{Type: "chat", RoomID: "r", Message: text(strings.Repeat("x", 20<<10))})
	want := map[string]bool{"rejected": true, "filter_unavailable": true, "too_large": true}
	spans := col.Wait(t, func(l []*tracetree.Span) bool {
		found := map[string]bool{}
		for _, s := range l {
			if strings.HasPrefix(s.Name, "process") {
				found[s.Attrs["error.type"]] = true
			}
		}
		for w := range want {
			if !found[w] {
				return false
			}
		}
		return len(of(l, dropped.MessageID)) > 0
	})
	for _, s := range spans {
		if s.Name == "process *" && s.Attrs["error.type"] != "" && !s.Failed {
			t.Errorf("%s: the status does not say that it failed", s.Attrs["error.type"])
		}
	}
}

// In dev mode an error says where its trace is, whatever refused the message, and
// all of them are counted.
func TestAHintHasTheTrace(t *testing.T) {
	col := telemetrytest.NewCollector(t)
	yaml := strings.Replace(open, "rooms: [", `rooms: [
  {match: quiet, create: anyone, join: anyone, publish: nobody, members: {grace: 0s}},
  {match: small, create: anyone, join: anyone, messages: {max_size: 8B, rate: 1/h, burst: 1}, members: {grace: 0s}},
  {match: closed, create: anyone, join: anyone},`, 1)
	yaml = strings.Replace(yaml, "auth: [guests],", `auth: [guests], rooms: [quiet, small],`, 1)
	yaml += fmt.Sprintf("telemetry: {traces: {otlp: %q, sample: 0%%, promote: 100/s, ui: \"http://ui/{traceId}\"}}\n", col.GRPC)
	i := startWith(t, yaml, app.Options{Dev: true})
	p := dial(t, i.url(), client.Options{})
	for _, room := range []string{"quiet", "small"} {
		p.do(&client.Request{Type: "join", RoomID: room, User: user("ann")})
	}
	p.do(&client.Request{Type: "chat", RoomID: "small", Message: text("1")})
	for _, r := range []struct {
		by, room, text string
		user           *client.User
		code           string
	}{
		{"the rule", "quiet", "1", nil, "forbidden"},
		{"size", "small", "larger than that", nil, "too_large"},
		{"rate", "small", "2", nil, "rate_limited"},
		{"the endpoint", "closed", "1", nil, "not_member"},
		{"another user", "small", "1", user("eve"), "user_mismatch"},
	} {
		_, err := p.Do(t.Context(), &client.Request{Type: "chat", RoomID: r.room, Message: text(r.text), User: r.user})
		var e *client.Error
		if !errors.As(err, &e) || e.Code != r.code {
			t.Fatalf("%s: %v", r.by, err)
		}
		_, id, found := strings.Cut(e.Hint, "http://ui/")
		if !found {
			t.Errorf("%s: the hint is %q", r.by, e.Hint)
			continue
		}
		col.Wait(t, func(l []*tracetree.Span) bool {
			for _, s := range of(l, id) {
				if s.Name == "process "+r.room {
					return s.Attrs["error.type"] == r.code
				}
			}
			return false
		})
	}
	_, body := status(t, "http://"+i.AdminAddr().String()+"/metrics", nil)
	for room, n := range map[string]int{"quiet": 1, "small": 3, "closed": 1} {
		if want := fmt.Sprintf(`relay_messages_total{messaging_destination_template=%q,result="refused"} %d`, room, n); !strings.Contains(body, want) {
			t.Errorf("no %s", want)
		}
	}
}

// A message beyond its connection's rate is refused like any other.
func TestTheRateOfAConnectionIsTold(t *testing.T) {
	i := start(t, strings.Replace(open, "requests: 100000/s", "requests: 1/h", 1))
	p := dial(t, i.url(), client.Options{})
	p.do(&client.Request{Type: "join", RoomID: "r", User: user("ann")})
	if code := p.refused(say("hello")); code != "rate_limited" {
		t.Fatalf("answered with %s", code)
	}
	_, body := status(t, "http://"+i.AdminAddr().String()+"/metrics", nil)
	if want := `relay_messages_total{messaging_destination_template="*",result="refused"} 1`; !strings.Contains(body, want) {
		t.Errorf("no %s", want)
	}
}

// A client's traceparent counts as far as the endpoint says.
func TestTraceparentOfAClient(t *testing.T) {
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for mode, check := range map[string]func(t *testing.T, id string, l []*tracetree.Span) bool{
		"trust": func(t *testing.T, id string, l []*tracetree.Span) bool {
			for _, s := range of(l, "0af7651916cd43dd8448eb211c80319c") {
				if s.Name == "process *" {
					return s.ParentID == "b7ad6b7169203331" && s.Attrs["messaging.message.id"] == id
				}
			}
			return false
		},
		"link": func(t *testing.T, id string, l []*tracetree.Span) bool {
			for _, s := range of(l, id) {
				for _, link := range s.Links {
					if link.TraceID == "0af7651916cd43dd8448eb211c80319c" {
						return true
					}
				}
			}
			return false
		},
	} {
		t.Run(mode, func(t *testing.T) {
			col := telemetrytest.NewCollector(t)
			yaml := strings.Replace(open, "auth: [guests],", "auth: [guests], trace: {client: "+mode+", sample: 100%},", 1)
			i := start(t, yaml+fmt.Sprintf("telemetry: {traces: {otlp: %q}}\n", col.GRPC))
			p := dial(t, i.url(), client.Options{})
			p.do(&client.Request{Type: "join", RoomID: "r", User: user("ann")})
			if err := p.SendRaw([]byte(`{"type":"chat","id":"t","roomId":"r","message":1,"traceparent":"` + parent + `"}`)); err != nil {
				t.Fatal(err)
			}
			ack := p.next("ack")
			col.Wait(t, func(l []*tracetree.Span) bool { return check(t, ack.MessageID, l) })
		})
	}
}

// A message that is told because it went wrong belongs to its client's trace as
// much as one that was sampled.
func TestAPromotedMessageKeepsItsClient(t *testing.T) {
	const (
		trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
		unsampled   = "00-" + trace + "-" + span + "-00"
	)
	for mode, kept := range map[string]func(s *tracetree.Span) bool{
		"trust": func(s *tracetree.Span) bool { return s.TraceID == trace && s.ParentID == span && len(s.Links) == 0 },
		"link": func(s *tracetree.Span) bool {
			return s.ParentID == "" && len(s.Links) == 1 && s.Links[0].SpanID == span
		},
		"ignore": func(s *tracetree.Span) bool { return s.TraceID != trace && s.ParentID == "" && len(s.Links) == 0 },
	} {
		t.Run(mode, func(t *testing.T) {
			col := telemetrytest.NewCollector(t)
			yaml := strings.Replace(filtered(t, "")("url: x"), "redis: {url: x}\n", "", 1)
			yaml = strings.Replace(yaml, "auth: [guests],", "auth: [guests], trace: {client: "+mode+"},", 1)
			i := start(t, yaml+fmt.Sprintf("\ntelemetry: {traces: {otlp: %q, sample: 0%%, promote: 100/s}}\n", col.GRPC))
			p := dial(t, i.url(), client.Options{})
			p.do(&client.Request{Type: "join", RoomID: "r", User: user("ann")})
			for _, text := range []string{"!reject no", strings.Repeat("x", 20<<10)} { // by a filter, and before that by the room
				if err := p.SendRaw(fmt.Appendf(nil, `{"type":"chat","id":"t","roomId":"r","message":%q,"traceparent":%q}`, text, unsampled)); err != nil {
					t.Fatal(err)
				}
				p.next("error")
			}
			var told []*tracetree.Span
			col.Wait(t, func(list []*tracetree.Span) bool {
				told = slices.DeleteFunc(list, func(s *tracetree.Span) bool { return s.Name != "process *" })
				return len(told) == 2
			})
			for _, s := range told {
				if !kept(s) {
					t.Errorf("%s: trace %s, parent %q, links %v", s.Attrs["error.type"], s.TraceID, s.ParentID, s.Links)
				}
			}
		})
	}
}

// A debug token makes every write a span, whatever the share.
func TestDebugTokens(t *testing.T) {
	col := telemetrytest.NewCollector(t)
	key := strings.Repeat("k", 32)
	yaml := strings.Replace(open, `admin: {listen: "127.0.0.1:0"}`, `admin: {listen: "127.0.0.1:0", key: "`+key+`"}`, 1)
	i := start(t, yaml+fmt.Sprintf("telemetry: {traces: {otlp: %q, sample: 0%%}}\n", col.GRPC))
	bob := dial(t, i.url(), client.Options{})
	bob.do(&client.Request{Type: "join", RoomID: "r", User: user("bob")})
	good, bad := debugToken(t, key), debugToken(t, strings.Repeat("x", 32))
	for _, c := range []struct {
		header, field string
		good          bool
	}{{header: good, good: true}, {header: bad}, {field: good, good: true}, {field: bad}, {header: good, field: bad, good: true}, {}} {
		ann := dial(t, i.url(), client.Options{Header: http.Header{"Relay-Debug": {c.header}}})
		ann.do(&client.Request{Type: "join", RoomID: "r", User: user("ann")})
		hello := say("hello")
		hello.Debug = c.field
		ack := ann.do(hello)
		if e := bob.next("chat"); (e.Traceparent != "") != c.good {
			t.Errorf("%+v: traceparent %q", c, e.Traceparent)
		}
		if !c.good {
			continue
		}
		col.Wait(t, func(l []*tracetree.Span) bool {
			for _, s := range of(l, ack.MessageID) {
				if s.Name == "write" && s.Attrs["relay.connection.id"] == bob.Welcome().ConnectionID {
					return true
				}
			}
			return false
		})
	}
	if strings.Contains(i.logs.String(), "relay-debug.") {
		t.Error("a debug token is in the log")
	}
}

// What metrics say after some traffic, and that no room and no user is a label.
func TestMetricsTellWhatHappened(t *testing.T) {
	y := strings.Replace(filtered(t, "")("url: x"), "redis: {url: x}\n", "", 1)
	i := start(t, y)
	ann, bob := dial(t, i.url(), client.Options{}), dial(t, i.url(), client.Options{})
	ann.do(&client.Request{Type: "join", RoomID: "a-room", User: user("ann-the-user")})
	bob.do(&client.Request{Type: "join", RoomID: "a-room", User: user("bob-the-user")})
	ann.do(&client.Request{Type: "chat", RoomID: "a-room", Message: text("hello")})
	ann.refused(&client.Request{Type: "chat", RoomID: "a-room", Message: text("!reject x")})
	bob.next("chat")
	_, body := status(t, "http://"+i.AdminAddr().String()+"/metrics", nil)
	for _, want := range []string{
		`relay_connections{relay_endpoint="/ws"} 2`,
		`relay_messages_total{messaging_destination_template="*",result="accepted"} 1`,
		`relay_messages_total{messaging_destination_template="*",result="rejected"} 1`,
		`relay_rooms 1`,
		`relay_members 2`,
		`relay_filter_verdicts_total{relay_filter_mode="enforce",relay_filter_name="obey",relay_filter_verdict="reject"} 1`,
		`relay_filter_up{relay_filter_name="obey"} 1`,
		`relay_fanout_size_count{messaging_destination_template="*"} 1`,
		`messaging_process_duration_seconds_count`,
		`relay_filter_duration_seconds_count{relay_filter_name="obey",relay_filter_verdict="allow"} 3`,
		`relay_config_last_reload_ok 1`,
		`relay_build_info{`,
		`relay_bus_up 1`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("no %s", want)
		}
	}
	if t.Failed() {
		t.Log(regexp.MustCompile(`(?m)^(#|go_|process_).*\n`).ReplaceAllString(body, ""))
	}
	for _, secret := range []string{"a-room", "ann-the-user"} {
		if strings.Contains(body, secret) {
			t.Errorf("metrics name %s", secret)
		}
	}
}

func TestMetricsHaveAListenerOfTheirOwn(t *testing.T) {
	i := start(t, open+`telemetry: {metrics: {listen: "127.0.0.1:0", path: /numbers}}`)
	if code, body := status(t, "http://"+i.MetricsAddr().String()+"/numbers", nil); code != http.StatusOK || !strings.Contains(body, "relay_bus_up 1") {
		t.Errorf("its own listener: %d", code)
	}
	for _, path := range []string{"/metrics", "/numbers"} {
		if code, _ := status(t, "http://"+i.AdminAddr().String()+path, nil); code != http.StatusNotFound {
			t.Errorf("the admin listener has %s: %d", path, code)
		}
	}
}

// Pushed metrics go over the protocol that is meant for them, or for traces, or
// that the environment names: a collector takes each at a port of its own.
func TestMetricsArePushedOverTheProtocolThatWasChosen(t *testing.T) {
	const overHTTP, overGRPC = "http/protobuf", "grpc"
	for name, c := range map[string]struct {
		yaml string // %[1]q: OTLP over gRPC, %[2]q: over HTTP
		env  map[string]string
	}{
		"nothing is said":                    {`metrics: {otlp: %[1]q}`, nil},
		"relay.yaml":                         {`metrics: {otlp: %[2]q, protocol: http}`, nil},
		"as traces":                          {`metrics: {otlp: %[2]q}, traces: {otlp: %[2]q, protocol: http}`, nil},
		"otherwise than traces":              {`metrics: {otlp: %[1]q, protocol: grpc}, traces: {otlp: %[2]q, protocol: http}`, nil},
		"traces say nothing":                 {`metrics: {otlp: %[2]q}, traces: {}`, map[string]string{"OTEL_EXPORTER_OTLP_PROTOCOL": overHTTP}},
		"the environment":                    {`metrics: {otlp: %[2]q}`, map[string]string{"OTEL_EXPORTER_OTLP_PROTOCOL": overHTTP}},
		"the environment, of metrics":        {`metrics: {otlp: %[2]q}`, map[string]string{"OTEL_EXPORTER_OTLP_PROTOCOL": overGRPC, "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": overHTTP}},
		"the environment, of traces":         {`metrics: {otlp: %[1]q}`, map[string]string{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": overHTTP}},
		"relay.yaml against the environment": {`metrics: {otlp: %[1]q, protocol: grpc}`, map[string]string{"OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": overHTTP}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("OTEL_METRIC_EXPORT_INTERVAL", "10")
			for k, v := range c.env {
				t.Setenv(k, v)
			}
			col := telemetrytest.NewCollector(t)
			start(t, open+fmt.Sprintf("telemetry: {"+c.yaml+"}\n", col.GRPC, col.HTTP))
			col.WaitMetric(t, "relay.build.info")
		})
	}
}

// debugToken is what `relay token --debug` prints.
func debugToken(t *testing.T, key string) string {
	t.Helper()
	k, err := telemetry.NewDebugKey(key)
	if err != nil {
		t.Fatal(err)
	}
	token, err := k.Sign(time.Now(), time.Now().Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// A handshake that was refused says why, also where none is sampled.
func TestARefusedHandshakeTellsWhy(t *testing.T) {
	col := telemetrytest.NewCollector(t)
	i := start(t, open+fmt.Sprintf("telemetry: {traces: {otlp: %q, sample: 0%%}}\n", col.GRPC))
	if code, _ := handshake(t, i.url(), http.Header{"Origin": {"https://evil.example"}}); code != http.StatusForbidden {
		t.Fatal(code)
	}
	col.Wait(t, func(l []*tracetree.Span) bool {
		for _, s := range l {
			if s.Name == "GET /ws" && s.Attrs["error.type"] == "origin" && s.Attrs["relay.promoted"] == "rejected" {
				return true
			}
		}
		return false
	})
}
