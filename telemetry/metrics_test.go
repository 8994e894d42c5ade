package telemetry_test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wsrelay/relay/telemetry"
	"github.com/wsrelay/relay/telemetry/telemetrytest"
)

// scrape is what Prometheus gets.
func scrape(t testing.TB, tel *telemetry.Telemetry, openMetrics bool) string {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	if openMetrics {
		r.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	}
	w := httptest.NewRecorder()
	tel.Metrics.Handler().ServeHTTP(w, r)
	b, err := io.ReadAll(w.Result().Body)
	if err != nil || w.Code != http.StatusOK {
		t.Fatalf("scraping: %d %v\n%s", w.Code, err, b)
	}
	return string(b)
}

// series finds a line that starts with so much, and its value.
func series(t testing.TB, text, prefix string) (float64, bool) {
	t.Helper()
	for sc := bufio.NewScanner(strings.NewReader(text)); sc.Scan(); {
		if rest, ok := strings.CutPrefix(sc.Text(), prefix); ok {
			v, err := strconv.ParseFloat(strings.Fields(rest[strings.LastIndexByte(rest, '}')+1:])[0], 64)
			if err != nil {
				t.Fatalf("%s: %v", sc.Text(), err)
			}
			return v, true
		}
	}
	return 0, false
}

// waitDropped waits until so many spans were dropped. An export that failed is
// counted before it is logged.
func waitDropped(t testing.TB, tel *telemetry.Telemetry, logged <-chan struct{}, least float64) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		v, ok := series(t, scrape(t, tel, false), "relay_traces_spans_dropped_total ")
		if ok && v >= least {
			return
		}
		select {
		case <-logged:
		case <-deadline:
			t.Fatalf("%v spans were dropped, want %v", v, least)
		}
	}
}

func numbers(t testing.TB, m telemetry.MetricsOptions) *telemetry.Telemetry {
	t.Helper()
	tel, err := telemetry.New(telemetry.Options{Service: "relay", Instance: "a", Version: "v1.2.3", Metrics: m, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tel.Stop(context.Background()) })
	return tel
}

func TestPrometheusSeesWhatWasBound(t *testing.T) {
	tel := numbers(t, telemetry.MetricsOptions{})
	m := tel.Metrics
	m.Func(telemetry.Connections, func() int64 { return 7 }, "/ws")
	m.Func(telemetry.Connections, func() int64 { return 5 }, "/ws") // two sources of one number
	m.Count(telemetry.Messages, "support-*", "accepted").Add(3)
	m.Count(telemetry.Messages, "support-*", "accepted").Add(2) // the same
	m.Each(telemetry.ConnectionsClosed, func(tell func(int64, ...string)) {
		tell(4, "1000", "normal")
		tell(1, "4429", "slow_consumer")
	})
	m.Func(telemetry.BusRoundTrip, func() int64 { return int64(1500 * time.Microsecond) })
	h := m.Histogram(telemetry.MessageDuration, "support-*")
	h.Observe(int64(300 * time.Microsecond))
	h.ObserveTraced(int64(20*time.Millisecond), telemetry.Context{TraceID: [16]byte{0xab}, SpanID: [8]byte{0xcd}, Flags: telemetry.FlagSampled})
	h.ObserveTraced(int64(time.Hour), telemetry.Context{TraceID: [16]byte{0xee}}) // not sampled: no trace to point to
	m.Histogram(telemetry.FanoutSize, "support-*").Observe(10)
	m.Config("abc", true)
	m.Config("", false)
	m.Config("def", true)

	text := scrape(t, tel, false)
	for prefix, want := range map[string]float64{
		`relay_connections{relay_endpoint="/ws"}`:                                            12,
		`relay_messages_total{messaging_destination_template="support-*",result="accepted"}`: 5,
		`relay_connections_closed_total{code="4429",reason="slow_consumer"}`:                 1,
		`relay_bus_round_trip_seconds`:                                                       0.0015,
		`messaging_process_duration_seconds_count{`:                                          3,
		`messaging_process_duration_seconds_bucket{messaging_destination_template="support-*",messaging_operation_name="process",messaging_system="relay",le="0.0005"}`: 1,
		`messaging_process_duration_seconds_bucket{messaging_destination_template="support-*",messaging_operation_name="process",messaging_system="relay",le="0.025"}`:  2,
		`relay_fanout_size_sum{messaging_destination_template="support-*"}`:                                                                                             10,
		`relay_build_info{go="go`:                    1,
		`relay_config_info{hash="def"}`:              1,
		`relay_config_reloads_total{result="ok"}`:    1,
		`relay_config_reloads_total{result="error"}`: 1,
		`relay_config_last_reload_ok`:                1,
		`target_info{`:                               1,
	} {
		if v, ok := series(t, text, prefix); !ok || v != want {
			t.Errorf("%s is %v (%v), want %v", prefix, v, ok, want)
		}
	}
	if strings.Contains(text, `hash="abc"`) {
		t.Error("the old configuration is still there")
	}
	if v, _ := series(t, text, "relay_config_loaded_seconds"); time.Since(time.Unix(int64(v), 0)) > time.Minute {
		t.Errorf("loaded at %v", v)
	}
	for _, name := range []string{"go_goroutines", "process_resident_memory_bytes", "process_open_fds"} {
		if _, ok := series(t, text, name+" "); !ok {
			t.Errorf("%s is missing", name)
		}
	}

	text = scrape(t, tel, true)
	if !strings.Contains(text, `trace_id="ab000000000000000000000000000000"`) {
		t.Errorf("no exemplar leads to the trace:\n%s", text)
	}
	if strings.Contains(text, `trace_id="ee`) {
		t.Error("an exemplar leads to a trace that was not recorded")
	}
}

func TestMetricsArePushedOnRequest(t *testing.T) {
	for _, p := range []telemetry.Protocol{telemetry.GRPC, telemetry.HTTP} {
		col := telemetrytest.NewCollector(t)
		endpoint := map[telemetry.Protocol]string{telemetry.GRPC: col.GRPC, telemetry.HTTP: col.HTTP}[p]
		tel := numbers(t, telemetry.MetricsOptions{Every: 10 * time.Millisecond, OTLP: &telemetry.OTLP{Endpoint: endpoint, Protocol: p, Headers: map[string]string{"x-key": "k"}}})
		tel.Metrics.Count(telemetry.Refusals).Add(9)
		m := col.WaitMetric(t, "relay.refusals")
		if got := m.GetSum().GetDataPoints()[0].GetAsDouble(); got != 9 || m.Unit != "{request}" || !m.GetSum().IsMonotonic {
			t.Errorf("%s: %v", p, m)
		}
		if col.Header("x-key") != "k" {
			t.Errorf("%s: the header did not come", p)
		}
	}
}

func TestBindingWronglyIsNoticedAtOnce(t *testing.T) {
	m := numbers(t, telemetry.MetricsOptions{}).Metrics
	for name, f := range map[string]func(){
		"a label too few":       func() { m.Count(telemetry.Messages, "p") },
		"a label too many":      func() { m.Func(telemetry.Rooms, func() int64 { return 0 }, "room") },
		"a histogram as count":  func() { m.Count(telemetry.FanoutSize, "p") },
		"a count as histogram":  func() { m.Histogram(telemetry.Rooms) },
		"a histogram read live": func() { m.Each(telemetry.FanoutSize, func(func(int64, ...string)) {}) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: nothing happened", name)
				}
			}()
			f()
		}()
	}
}

// Rooms and users are labels of nothing: their number has no bound.
func TestTheCatalogIsWellFormed(t *testing.T) {
	seen := make(map[string]bool)
	for _, d := range telemetry.Catalog() {
		switch {
		case d.Name == "" || d.Help == "" || !strings.HasSuffix(d.Help, "."):
			t.Errorf("%q: name or help is missing", d.Name)
		case seen[d.Name]:
			t.Errorf("%s is there twice", d.Name)
		case !strings.HasPrefix(d.Name, "relay.") && !strings.HasPrefix(d.Name, "messaging."):
			t.Errorf("%s: neither ours nor OTel's", d.Name)
		case d.Kind == telemetry.Distribution && len(d.Bounds) == 0:
			t.Errorf("%s: no buckets", d.Name)
		case len(d.Fixed)%2 != 0:
			t.Errorf("%s: odd fixed labels", d.Name)
		}
		seen[d.Name] = true
		for _, l := range d.Labels {
			if strings.Contains(l, "room") || strings.Contains(l, "user") || strings.Contains(l, "destination.name") {
				t.Errorf("%s has the label %s", d.Name, l)
			}
		}
	}
	if len(seen) < 50 {
		t.Errorf("only %d metrics", len(seen))
	}
}
