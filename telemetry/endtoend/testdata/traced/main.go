// Traced is a plugin that makes spans of its own with OpenTelemetry's SDK, which
// takes the collector from OTEL_EXPORTER_OTLP_ENDPOINT.
package main

import (
	"context"
	"fmt"
	"os"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/wsrelay/relay/plugins/filter"
)

func main() {
	exporter, err := otlptracegrpc.New(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter), sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.NeverSample())))
	tracer := provider.Tracer("traced")
	p := filter.Plugin{Traces: true, Judge: func(ctx context.Context, m *filter.Message) (filter.Verdict, error) {
		ctx = propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": m.Traceparent})
		_, span := tracer.Start(ctx, "judge", trace.WithSpanKind(trace.SpanKindServer))
		defer span.End()
		return filter.Allow(), nil
	}}
	p.Serve()
}
