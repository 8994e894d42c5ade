package telemetry

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc/credentials"
)

// maxRequest is about how many bytes of spans one request carries: collectors
// take 4 MiB by default.
const maxRequest = 3 << 20

// newResource describes this instance: what the options say, then what
// OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say.
func newResource(opt Options) (*resource.Resource, error) {
	attrs := []attribute.KeyValue{
		attribute.String("service.instance.id", opt.Instance),
		attribute.String("service.version", opt.Version),
	}
	if opt.Service != "" {
		attrs = append(attrs, attribute.String("service.name", opt.Service))
	}
	own := []resource.Option{resource.WithTelemetrySDK(), resource.WithHost(), resource.WithFromEnv(), resource.WithAttributes(attrs...)}
	if opt.Service == "" && os.Getenv("OTEL_SERVICE_NAME") == "" && !strings.Contains(os.Getenv("OTEL_RESOURCE_ATTRIBUTES"), "service.name=") {
		own = append(own, resource.WithAttributes(attribute.String("service.name", "relay")))
	}
	res, err := resource.New(context.Background(), own...)
	if err != nil {
		return nil, fmt.Errorf("describing this instance: %w", err)
	}
	return res, nil
}

func serviceName(res *resource.Resource) string {
	v, _ := res.Set().Value("service.name")
	return v.AsString()
}

// protocol is what an OTLP was set to, else what the environment says for a
// signal (TRACES, METRICS), else gRPC.
func (o OTLP) protocol(signal string) Protocol {
	if o.Protocol != "" {
		return o.Protocol
	}
	for _, name := range []string{"OTEL_EXPORTER_OTLP_" + signal + "_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"} {
		switch v := os.Getenv(name); {
		case v == "grpc":
			return GRPC
		case strings.HasPrefix(v, "http"):
			return HTTP
		}
	}
	return GRPC
}

// path is where OTLP over HTTP goes, below what the endpoint's URL says.
func (o OTLP) path(signal string) (endpoint, path string) {
	scheme, rest, _ := strings.Cut(o.Endpoint, "://")
	host, base, _ := strings.Cut(rest, "/")
	base = strings.Trim(base, "/")
	if base != "" {
		base = "/" + base
	}
	return scheme + "://" + host, base + "/v1/" + signal
}

// setters are the options that all of the SDK's exporters have in common, each
// with a type of its own.
type setters[Option any] struct {
	endpoint func(string) Option
	path     func(string) Option // nil: gRPC, which has none
	headers  func(map[string]string) Option
	tls      func(*tls.Config) Option
}

// options say what o says to an exporter of a signal (traces, metrics).
func (s setters[Option]) options(o OTLP, signal string) (opts []Option) {
	switch {
	case o.Endpoint == "":
	case s.path == nil:
		opts = append(opts, s.endpoint(o.Endpoint))
	default:
		endpoint, path := o.path(signal)
		opts = append(opts, s.endpoint(endpoint), s.path(path))
	}
	if len(o.Headers) > 0 {
		opts = append(opts, s.headers(o.Headers))
	}
	if o.TLS != nil && !strings.HasPrefix(o.Endpoint, "http://") {
		opts = append(opts, s.tls(o.TLS))
	}
	return opts
}

// newSpanExporter makes an exporter, which connects when it first exports.
func newSpanExporter(o OTLP) (sdktrace.SpanExporter, error) {
	var client otlptrace.Client
	if o.protocol("TRACES") == HTTP {
		opts := setters[otlptracehttp.Option]{
			otlptracehttp.WithEndpointURL, otlptracehttp.WithURLPath, otlptracehttp.WithHeaders, otlptracehttp.WithTLSClientConfig,
		}.options(o, "traces")
		client = otlptracehttp.NewClient(append(opts, otlptracehttp.WithRetry(otlptracehttp.RetryConfig(retry)))...)
	} else {
		opts := setters[otlptracegrpc.Option]{
			otlptracegrpc.WithEndpointURL, nil, otlptracegrpc.WithHeaders,
			func(c *tls.Config) otlptracegrpc.Option {
				return otlptracegrpc.WithTLSCredentials(credentials.NewTLS(c))
			},
		}.options(o, "traces")
		client = otlptracegrpc.NewClient(append(opts, otlptracegrpc.WithRetry(otlptracegrpc.RetryConfig(retry)))...)
	}
	exporter, err := otlptrace.New(context.Background(), client)
	if err != nil {
		return nil, fmt.Errorf("making an exporter to the %s: %w", o, err)
	}
	return exporter, nil
}

// retry is how a request is repeated inside TracesOptions.Timeout.
var retry = struct {
	Enabled                                      bool
	InitialInterval, MaxInterval, MaxElapsedTime time.Duration
}{true, 200 * time.Millisecond, 5 * time.Second, time.Minute}

// export sends about one batch, and counts what could not be sent.
func (t *Traces) export(records []queued) ([]queued, bool) {
	records, _ = t.queue.take(records, t.batch)
	ok := true
	for _, r := range records {
		r.draw(t.artist)
		if t.artist.bytes >= maxRequest {
			ok = t.send() && ok
		}
	}
	return records, t.send() && ok
}

// send exports what has been drawn.
func (t *Traces) send() bool {
	spans := t.artist.drawn
	if len(spans) == 0 {
		return true
	}
	defer t.artist.forget()
	ctx, cancel := context.WithTimeout(t.ctx, t.timeout)
	defer cancel()
	if err := t.exporter.ExportSpans(ctx, spans); err != nil {
		t.queue.dropped.Add(int64(len(spans)))
		t.log.Warn("traces: the collector takes none, spans are dropped", "spans", len(spans), "dropped", t.queue.dropped.Load(), "error", err)
		return false
	}
	t.exported.Add(int64(len(spans)))
	return true
}

// newMetricReader pushes what p produces.
func newMetricReader(o OTLP, interval time.Duration, p sdkmetric.Producer, log *slog.Logger) (sdkmetric.Reader, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	exporter, err := newMetricExporter(o)
	if err != nil {
		return nil, fmt.Errorf("making an exporter to the %s: %w", o, err)
	}
	return sdkmetric.NewPeriodicReader(loud{exporter, log}, sdkmetric.WithProducer(p), sdkmetric.WithInterval(every(interval)), sdkmetric.WithTimeout(10*time.Second)), nil
}

// loud tells our log of what would go to the SDK's global error handler.
type loud struct {
	sdkmetric.Exporter
	log *slog.Logger
}

// Export implements sdkmetric.Exporter.
func (l loud) Export(ctx context.Context, rm *metricdata.ResourceMetrics) error {
	if err := l.Exporter.Export(ctx, rm); err != nil {
		l.log.Warn("metrics: the collector takes none; the next ones hold the same numbers", "error", err)
	}
	return nil
}

func newMetricExporter(o OTLP) (sdkmetric.Exporter, error) {
	if o.protocol("METRICS") == HTTP {
		return otlpmetrichttp.New(context.Background(), setters[otlpmetrichttp.Option]{
			otlpmetrichttp.WithEndpointURL, otlpmetrichttp.WithURLPath, otlpmetrichttp.WithHeaders, otlpmetrichttp.WithTLSClientConfig,
		}.options(o, "metrics")...)
	}
	return otlpmetricgrpc.New(context.Background(), setters[otlpmetricgrpc.Option]{
		otlpmetricgrpc.WithEndpointURL, nil, otlpmetricgrpc.WithHeaders,
		func(c *tls.Config) otlpmetricgrpc.Option {
			return otlpmetricgrpc.WithTLSCredentials(credentials.NewTLS(c))
		},
	}.options(o, "metrics")...)
}
