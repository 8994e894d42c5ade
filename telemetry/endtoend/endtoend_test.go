package endtoend

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	client "github.com/wsrelay/relay/client/go"
	"github.com/wsrelay/relay/telemetry"
	"github.com/wsrelay/relay/telemetry/telemetrytest"
	"github.com/wsrelay/relay/telemetry/tracetree"
)

const tree = `process support-{team}  CONSUMER  relay  links=1
  filter links  CLIENT  relay
    links  SERVER  relay-filter-links
  filter tone  CLIENT  relay
    tone  SERVER  relay-filter-tone
  filter words  CLIENT  relay
  policy publish  INTERNAL  relay
  publish support-{team}  PRODUCER  relay
    deliver support-{team}  CONSUMER  relay
    deliver support-{team}  CONSUMER  relay
`

func id(t *testing.T, s string) (id [16]byte) {
	t.Helper()
	if n, err := hex.Decode(id[:], []byte(s)); err != nil || n != 16 {
		t.Fatalf("message id %q", s)
	}
	return id
}

// Two instances, Redis, a built-in filter, a plugin in Go, one in Python, Jaeger:
// a message is one trace, and its id is the message's.
func TestAMessageIsOneTraceInJaeger(t *testing.T) {
	s := newStand(t)
	ann := s.instances[0].dial(t, "/ws", "ann", "support-red")
	_ = s.instances[1].dial(t, "/ws", "bob", "support-red")
	_ = s.instances[0].dial(t, "/ws", "eve", "support-red")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	warm, err := ann.Chat(ctx, "support-red", "hello") // plugins have been asked once
	if err != nil {
		t.Fatal(err)
	}
	s.jaeger.Trace(t, id(t, warm.MessageID), 10)
	ack, err := ann.Chat(ctx, "support-red", "!modify look at https://example.com/x")
	if err != nil {
		t.Fatal(err)
	}
	trace := id(t, ack.MessageID)
	roots := s.jaeger.Trace(t, trace, 10)
	if got := tracetree.Shape(roots); got != tree {
		t.Errorf("the tree is\n%s\nwant\n%s", got, tree)
	}
	instances := map[string]bool{}
	roots[0].Walk(func(sp *tracetree.Span, _ int) {
		if strings.HasPrefix(sp.Name, "deliver") {
			instances[sp.Instance] = true
			if sp.Attrs["relay.fanout.written"] != "1" {
				t.Errorf("%s: written to %s sockets", sp.Instance, sp.Attrs["relay.fanout.written"])
			}
		}
		if sp.Start.Before(roots[0].Start) {
			t.Errorf("%s begins before the message came", sp.Name)
		}
	})
	if len(instances) != 2 {
		t.Errorf("delivered by %v", instances)
	}
	if path := os.Getenv("RELAY_TRACE_JSON"); path != "" {
		if err := os.WriteFile(path, s.jaeger.JSON(t, trace), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if found := s.jaeger.Find(t, "relay", "relay.connection.id", ann.Welcome().ConnectionID, 2); len(found) < 2 {
		t.Errorf("searching for a connection finds %d traces", len(found))
	}

	text, err := s.instances[0].get("/metrics")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text, `trace_id="`+ack.MessageID+`"`) && !strings.Contains(text, `trace_id="`+warm.MessageID+`"`) {
		t.Error("no exemplar of the metrics leads to a message")
	}
}

// A plugin that traces joins in with spans of its own, and none is drawn for it.
func TestAPluginThatTracesJoinsIn(t *testing.T) {
	s := newStand(t)
	ann := s.instances[0].dial(t, "/ws", "ann", "own-room")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	ack, err := ann.Chat(ctx, "own-room", "hello")
	if err != nil {
		t.Fatal(err)
	}
	const want = `process own-*  CONSUMER  relay  links=1
  filter own  CLIENT  relay
    judge  SERVER  my-plugin
  policy publish  INTERNAL  relay
  publish own-*  PRODUCER  relay
    deliver own-*  CONSUMER  relay
`
	if got := tracetree.Shape(s.jaeger.Trace(t, id(t, ack.MessageID), 6)); got != want {
		t.Errorf("the tree is\n%s\nwant\n%s", got, want)
	}
}

func refused(err error, code string) bool {
	var e *client.Error
	return errors.As(err, &e) && e.Code == code
}

// At 0 %, a rejected message is found by its error.
func TestARejectedMessageIsFoundByItsError(t *testing.T) {
	s := newStand(t)
	ann := s.instances[0].dial(t, "/quiet", "ann", "support-red")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	ok, err := ann.Chat(ctx, "support-red", "hello")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ann.Chat(ctx, "support-red", "!reject no"); !refused(err, "rejected") {
		t.Fatalf("not rejected: %v", err)
	}
	found := s.jaeger.Find(t, "relay", "error.type", "rejected", 1)
	const want = `process support-{team}  CONSUMER  relay  error.type=rejected  ERROR
  filter tone  CLIENT  relay
    tone  SERVER  relay-filter-tone
  filter words  CLIENT  relay
`
	if got := tracetree.Shape(found); got != want {
		t.Errorf("found\n%s\nwant\n%s", got, want)
	}
	if found[0].Attrs["relay.promoted"] != "rejected" || found[0].TraceID == ok.MessageID {
		t.Errorf("%v in trace %s", found[0].Attrs, found[0].TraceID)
	}
}

// A member that stops reading shows as a slow event with its connection id.
func TestAMemberThatStopsReadingIsNamed(t *testing.T) {
	s := newStand(t)
	ann := s.instances[0].dial(t, "/ws", "ann", "plain-1")
	stuck := stopReading(t, s.instances[1], "plain-1")
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	big := strings.Repeat("x", 512<<10)
	last := ""
	for range 40 { // 20 MiB are more than the kernel takes for somebody who does not read
		ack, err := ann.Chat(ctx, "plain-1", big)
		if err != nil {
			t.Fatal(err)
		}
		last = ack.MessageID
	}
	var slow *tracetree.Span
	for _, r := range s.jaeger.Trace(t, id(t, last), 5) {
		r.Walk(func(sp *tracetree.Span, _ int) {
			if len(sp.Events) > 0 {
				slow = sp
			}
		})
	}
	switch {
	case slow == nil:
		t.Error("no span has an event")
	case slow.Events[0].Name != "slow" || slow.Events[0].Attrs["relay.connection.id"] != stuck || slow.Attrs["error.type"] != "slow":
		t.Errorf("%s: %v, %v; want a slow event for %s", slow.Name, slow.Events, slow.Attrs, stuck)
	case slow.Duration() < 5*time.Second:
		t.Errorf("followed for %v only", slow.Duration())
	}
}

// Nothing that a client or an operator keeps to themselves turns up in logs,
// spans, metrics or errors.
func TestSecretsStaySecret(t *testing.T) {
	secret := telemetrytest.Plant("authorization", "query", "cookie", "subprotocol", "body", "rejected body", "signal", "debug token")
	s := newStand(t)
	p := s.instances[0]
	bare := http.Header{"Cookie": {"session=" + secret.Word("cookie")}, "Relay-Debug": {"relay-debug." + secret.Word("debug token")}}
	with := bare.Clone() // guests are let in without credentials only
	with.Set("Authorization", "Bearer "+secret.Word("authorization"))
	with.Set("Sec-Websocket-Protocol", "relay.v1, bearer."+secret.Word("subprotocol"))
	told := ""
	for _, visit := range []struct {
		path   string
		header http.Header
	}{{"/ws", with}, {"/ws", bare}, {"/nowhere", with}, {"/quiet", bare}} {
		ws, resp, err := websocket.DefaultDialer.Dial(p.url+visit.path+"?access_token="+secret.Word("query"), visit.header)
		if err != nil {
			body, _ := io.ReadAll(resp.Body)
			told += err.Error() + string(body)
			continue
		}
		for _, m := range []string{
			`{"type":"join","id":1,"roomId":"support-red","user":{"id":"ann"}}`,
			`{"type":"chat","id":2,"roomId":"support-red","message":"` + secret.Word("body") + `"}`,
			`{"type":"chat","id":3,"roomId":"support-red","message":"!reject ` + secret.Word("rejected body") + `"}`,
			`{"type":"chat","roomId":"support-red","message":{"no JSON":"` + secret.Word("body") + `}`,
			`{"type":"signal","roomId":"support-red","data":"` + secret.Word("signal") + `"}`,
			`{"type":"auth","id":4,"token":"` + secret.Word("authorization") + `"}`,
			`{"type":"ping","id":"last"}`,
		} {
			_ = ws.WriteMessage(websocket.TextMessage, []byte(m))
		}
		_ = ws.SetReadDeadline(time.Now().Add(20 * time.Second))
		for {
			_, b, err := ws.ReadMessage()
			if err != nil || strings.Contains(string(b), `"last"`) {
				break
			}
			// The plugin of this test tells the reason that it was told to: the
			// client's own words, back to the client alone.
			// What others say is for it to read, too.
			if !strings.Contains(string(b), `"code":"rejected"`) && !strings.Contains(string(b), `"type":"chat"`) {
				told += string(b) + "\n"
			}
		}
		_ = ws.Close()
	}
	s.jaeger.Find(t, "relay", "error.type", "rejected", 1)
	var spans []*tracetree.Span
	for _, r := range s.jaeger.Find(t, "relay", "relay.endpoint", "/ws", 1) {
		r.Walk(func(sp *tracetree.Span, _ int) { spans = append(spans, sp) })
	}
	if len(spans) < 5 {
		t.Errorf("only %d spans to search", len(spans))
	}
	secret.SearchSpans(t, spans)
	secret.Search(t, "log", []byte(p.out.String()))
	configured.SearchSpans(t, spans)
	configured.Search(t, "log", []byte(p.out.String()))
	metrics, err := p.get("/metrics")
	if err != nil {
		t.Fatal(err)
	}
	secret.Search(t, "metrics", []byte(metrics))
	secret.Search(t, "errors", []byte(told))
	configured.Search(t, "metrics and errors", []byte(metrics+told))
	if !strings.Contains(p.out.String(), "connection") || told == "" {
		t.Error("there was nothing to search")
	}
}

// Every metric of the reference is told by a running instance.
func TestEveryMetricIsBound(t *testing.T) {
	s := newStand(t)
	ann := s.instances[0].dial(t, "/ws", "ann", "support-red")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := ann.Chat(ctx, "support-red", "hello"); err != nil {
		t.Fatal(err)
	}
	text, err := s.instances[0].get("/metrics")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range telemetry.Catalog() {
		// OpenMetrics names a counter without _total.
		if name := strings.TrimSuffix(d.Prometheus(), "_total"); !strings.Contains(text, "# TYPE "+name+" ") {
			t.Errorf("%s is not told", d.Prometheus())
		}
	}
}
