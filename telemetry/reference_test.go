package telemetry

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// everything tells one of each record, with all that it can say.
func everything(t *testing.T, how Identify) *sink {
	t.Helper()
	s := &sink{}
	tr := traced(t, s, TracesOptions{Tuning: Tuning{Slow: time.Millisecond, Promote: 100, Identify: how}})
	now, id := time.Now(), [16]byte{1, 15: 1}
	tr.Handshake(NewEntrance(EntranceOptions{}), Handshake{Path: "/ws", Start: now, End: now, Status: 403, Error: "origin", Connection: "c"})
	o := Origin{Debug: true}
	c := tr.Decide(id, &o, 0)
	m := tr.Message(c, &o, Facts{ID: id, Start: now, Endpoint: "/ws", Connection: "c", Policy: "*", Room: "r", User: "u", Guest: true, Size: 1})
	m.Promoted(Slow)
	m.Policy(PolicyStep{Action: "publish", Rule: "members", Result: "forbidden", Start: now, End: now})
	m.Filter(FilterStep{Filter: "f", Mode: "enforce", Start: now, End: now, Action: "modify", Code: "code", Plugin: true})
	m.Filter(FilterStep{Filter: "f", Mode: "enforce", Start: now, End: now, Failure: "timeout"})
	m.Published(Publication{System: "redis", Operation: "EVALSHA", Pipeline: 1, Seq: 1, Duplicate: true, Error: "unavailable"})
	m.End(Outcome{Action: "modify", Error: "unavailable"})
	d := tr.Deliver(c, DeliveryFacts{ID: id, Policy: "*", Room: "r", Seq: 1, Start: now})
	d.Enqueued("x")
	d.Wrote("x", now.Add(time.Second))
	d.Sent(1)
	tr.DroppedFor(Context{}, "y", "shed", now, func() DeliveryFacts { return DeliveryFacts{ID: id} })
	if err := tr.stop(context.Background()); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestEveryAttributeIsDocumentedAndNoOther(t *testing.T) {
	documented := make(map[string]bool)
	for _, a := range Attributes() {
		documented[a.Name] = true
	}
	seen := make(map[string]bool)
	for _, how := range []Identify{ByID, ByHash} {
		for _, s := range everything(t, how).all() {
			for _, kv := range s.Attributes() {
				seen[string(kv.Key)] = true
			}
			for _, e := range s.Events() {
				for _, kv := range e.Attributes {
					seen[string(kv.Key)] = true
				}
			}
		}
	}
	for name := range seen {
		if !documented[name] {
			t.Errorf("%s is on a span and not in Attributes", name)
		}
	}
	for name := range documented {
		if !seen[name] {
			t.Errorf("%s is in Attributes and on no span", name)
		}
	}
}

// boundAll is a Telemetry with every metric bound, as Prometheus sees it.
func boundAll(t *testing.T) string {
	t.Helper()
	tel, err := New(Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tel.Stop(context.Background()) }()
	for i, d := range Catalog() {
		labels := make([]string, len(d.Labels))
		for j := range labels {
			labels[j] = "x"
		}
		if d.Kind == Distribution {
			tel.Metrics.Histogram(Metric(i), labels...).Observe(1)
		} else {
			tel.Metrics.Count(Metric(i), labels...).Set(1)
		}
	}
	w := httptest.NewRecorder()
	tel.Metrics.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	return w.Body.String()
}

func TestPrometheusSeesTheNamesOfTheReference(t *testing.T) {
	text := boundAll(t)
	for _, d := range Catalog() {
		kind := map[Kind]string{Counter: "counter", Gauge: "gauge", Distribution: "histogram"}[d.Kind]
		if want := "# TYPE " + d.Prometheus() + " " + kind + "\n"; !strings.Contains(text, want) {
			t.Errorf("%s: no %q", d.Name, strings.TrimSpace(want))
		}
	}
}
