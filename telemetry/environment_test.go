package telemetry_test

import (
	"strings"
	"testing"
	"time"

	"github.com/wsrelay/relay/telemetry"
	"github.com/wsrelay/relay/telemetry/telemetrytest"
)

// Where options are silent, the standard variables hold; where they speak, they
// win.
func TestTheEnvironmentFillsTheGaps(t *testing.T) {
	for _, c := range []struct {
		name    string
		env     func(*telemetrytest.Collector) map[string]string
		options func(*telemetrytest.Collector) telemetry.Options
		service string
		header  string
	}{
		{
			"everything over gRPC",
			func(c *telemetrytest.Collector) map[string]string {
				return map[string]string{
					"OTEL_EXPORTER_OTLP_ENDPOINT": c.GRPC, "OTEL_EXPORTER_OTLP_HEADERS": "x-key=from-env", "OTEL_SERVICE_NAME": "chat",
					"OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=prod", "OTEL_BSP_SCHEDULE_DELAY": "1",
				}
			},
			func(*telemetrytest.Collector) telemetry.Options { return telemetry.Options{} },
			"chat", "from-env",
		},
		{
			"everything over HTTP",
			func(c *telemetrytest.Collector) map[string]string {
				return map[string]string{
					"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": c.HTTP + "/v1/traces", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "OTEL_EXPORTER_OTLP_HEADERS": "x-key=from-env",
					"OTEL_RESOURCE_ATTRIBUTES": "service.name=other,deployment.environment.name=prod", "OTEL_BSP_SCHEDULE_DELAY": "1",
				}
			},
			func(*telemetrytest.Collector) telemetry.Options { return telemetry.Options{} },
			"other", "from-env",
		},
		{
			"options win",
			func(*telemetrytest.Collector) map[string]string {
				return map[string]string{
					"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "OTEL_EXPORTER_OTLP_HEADERS": "x-key=from-env",
					"OTEL_SERVICE_NAME": "chat", "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=prod", "OTEL_BSP_SCHEDULE_DELAY": "3600000",
				}
			},
			func(c *telemetrytest.Collector) telemetry.Options {
				return telemetry.Options{Service: "mine", Traces: &telemetry.TracesOptions{
					OTLP:  telemetry.OTLP{Endpoint: c.GRPC, Protocol: telemetry.GRPC, Headers: map[string]string{"x-key": "from-options"}},
					Delay: time.Millisecond,
				}}
			},
			"mine", "from-options",
		},
		{
			"nobody says anything of the service",
			func(c *telemetrytest.Collector) map[string]string {
				return map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": c.GRPC, "OTEL_EXPORTER_OTLP_HEADERS": "x-key=k", "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=prod", "OTEL_BSP_SCHEDULE_DELAY": "1"}
			},
			func(*telemetrytest.Collector) telemetry.Options { return telemetry.Options{} },
			"relay", "k",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			col := telemetrytest.NewCollector(t)
			for k, v := range c.env(col) {
				t.Setenv(k, v)
			}
			o := c.options(col)
			o.Log, o.Instance = quiet, "a"
			if o.Traces == nil {
				o.Traces = &telemetry.TracesOptions{}
			}
			tel, err := telemetry.New(o)
			if err != nil {
				t.Fatal(err)
			}
			tel.Start()
			defer func() { _ = tel.Stop(t.Context()) }()
			all, id := telemetry.Origin{Sample: telemetry.Share(1)}, [16]byte{1, 15: 1}
			tel.Traces.Message(tel.Traces.Decide(id, &all, 0), &all, telemetry.Facts{ID: id, Start: time.Now(), Policy: "*"}).End(telemetry.Outcome{})
			s := col.WaitSpans(t, 1)[0]
			if s.Service != c.service || s.Resource["deployment.environment.name"] != "prod" || s.Instance != "a" {
				t.Errorf("resource: %v", s.Resource)
			}
			if got := col.Header("x-key"); got != c.header {
				t.Errorf("header %q, want %q", got, c.header)
			}
		})
	}
}

func TestTheEnvironmentSaysHowMany(t *testing.T) {
	for _, c := range []struct {
		sampler, arg string
		want         telemetry.Sampler
	}{
		{"", "", telemetry.Share(0.01)},
		{"always_on", "", telemetry.Share(1)},
		{"parentbased_always_off", "", telemetry.Share(0)},
		{"traceidratio", "0.25", telemetry.Share(0.25)},
		{"parentbased_traceidratio", "2", telemetry.Share(1)},
		{"jaeger_remote", "", telemetry.Share(0.01)},
	} {
		t.Setenv("OTEL_TRACES_SAMPLER", c.sampler)
		t.Setenv("OTEL_TRACES_SAMPLER_ARG", c.arg)
		if got := telemetry.DefaultShare(); got != c.want {
			t.Errorf("%s %s: %x, want %x", c.sampler, c.arg, got, c.want)
		}
	}
}

func TestTheEnvironmentSwitchesOff(t *testing.T) {
	for name, value := range map[string]string{"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "none"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(name, value)
			tel, err := telemetry.New(telemetry.Options{Log: quiet, Traces: &telemetry.TracesOptions{}})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = tel.Stop(t.Context()) }()
			if tel.Traces != nil {
				t.Error("there are traces")
			}
		})
	}
}

// The SDK would print them.
func TestHeadersThatCannotBeReadAreNotPrinted(t *testing.T) {
	for _, bad := range []string{"hunter2", "x-key=hunter2,hunter2", "x-key=hunter2%zz", "=hunter2"} {
		t.Setenv("OTEL_EXPORTER_OTLP_TRACES_HEADERS", bad)
		_, err := telemetry.New(telemetry.Options{Log: quiet, Traces: &telemetry.TracesOptions{}})
		if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "OTEL_EXPORTER_OTLP_TRACES_HEADERS") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// A collector over TLS with an authority of its own, and one that nobody vouches
// for.
func TestTheCollectorMustBeWhoItSaysItIs(t *testing.T) {
	for _, p := range []telemetry.Protocol{telemetry.GRPC, telemetry.HTTP} {
		col, authority := telemetrytest.NewTLSCollector(t)
		endpoint := map[telemetry.Protocol]string{telemetry.GRPC: col.GRPC, telemetry.HTTP: col.HTTP}[p]
		if !strings.HasPrefix(endpoint, "https://") {
			t.Fatalf("the collector is at %s", endpoint)
		}
		o := to(endpoint, p)
		o.TLS = authority
		trusting := start(t, "a", o)
		o.TLS, o.Timeout = nil, 300*time.Millisecond
		wary, logged := startRinging(t, "b", o)
		all, id := telemetry.Origin{Sample: telemetry.Share(1)}, [16]byte{1, 15: 1}
		for _, tel := range []*telemetry.Telemetry{trusting, wary} {
			tel.Traces.Message(tel.Traces.Decide(id, &all, 0), &all, telemetry.Facts{ID: id, Start: time.Now(), Policy: "*"}).End(telemetry.Outcome{})
		}
		col.WaitSpans(t, 1)
		waitDropped(t, wary, logged, 1)
		for _, s := range col.Spans() {
			if s.Instance != "a" {
				t.Errorf("%s: %s told a stranger", p, s.Instance)
			}
		}
	}
}
