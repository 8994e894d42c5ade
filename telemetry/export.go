package telemetry

import (
	"context"
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

// newSpanExporter makes an exporter, which connects when it first exports.
func newSpanExporter(o OTLP) (sdktrace.SpanExporter, error) {
	var client otlptrace.Client
	if o.protocol("TRACES") == HTTP {
		var opts []otlptracehttp.Option
		if o.Endpoint != "" {
			endpoint, path := o.path("traces")
			opts = append(opts, otlptracehttp.WithEndpointURL(endpoint), otlptracehttp.WithURLPath(path))
		}
		if len(o.Headers) > 0 {
			opts = append(opts, otlptracehttp.WithHeaders(o.Headers))
		}
		if o.TLS != nil {
			opts = append(opts, otlptracehttp.WithTLSClientConfig(o.TLS))
		}
		opts = append(opts, otlptracehttp.WithRetry(otlptracehttp.RetryConfig(retry)))
		client = otlptracehttp.NewClient(opts...)
	} else {
		var opts []otlptracegrpc.Option
		if o.Endpoint != "" {
			opts = append(opts, otlptracegrpc.WithEndpointURL(o.Endpoint))
		}
		if len(o.Headers) > 0 {
			opts = append(opts, otlptracegrpc.WithHeaders(o.Headers))
		}
		if o.TLS != nil && !strings.HasPrefix(o.Endpoint, "http://") {
			opts = append(opts, otlptracegrpc.WithTLSCredentials(credentials.NewTLS(o.TLS)))
		}
		opts = append(opts, otlptracegrpc.WithRetry(otlptracegrpc.RetryConfig(retry)))
		client = otlptracegrpc.NewClient(opts...)
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
	spans := t.artist.take()
	if len(spans) == 0 {
		return true
	}
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
	ctx := context.Background()
	if o.protocol("METRICS") == HTTP {
		var opts []otlpmetrichttp.Option
		if o.Endpoint != "" {
			endpoint, path := o.path("metrics")
			opts = append(opts, otlpmetrichttp.WithEndpointURL(endpoint), otlpmetrichttp.WithURLPath(path))
		}
		if len(o.Headers) > 0 {
			opts = append(opts, otlpmetrichttp.WithHeaders(o.Headers))
		}
		if o.TLS != nil {
			opts = append(opts, otlpmetrichttp.WithTLSClientConfig(o.TLS))
		}
		return otlpmetrichttp.New(ctx, opts...)
	}
	var opts []otlpmetricgrpc.Option
	if o.Endpoint != "" {
		opts = append(opts, otlpmetricgrpc.WithEndpointURL(o.Endpoint))
	}
	if len(o.Headers) > 0 {
		opts = append(opts, otlpmetricgrpc.WithHeaders(o.Headers))
	}
	if o.TLS != nil && !strings.HasPrefix(o.Endpoint, "http://") {
		opts = append(opts, otlpmetricgrpc.WithTLSCredentials(credentials.NewTLS(o.TLS)))
	}
	return otlpmetricgrpc.New(ctx, opts...)
}
