package telemetry

import (
	"context"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// artist makes spans of records, by way of the SDK, with the ids that were sent
// already. It belongs to one goroutine.
type artist struct {
	tuning  *atomic.Pointer[Tuning]
	service string
	res     *resource.Resource
	ids     presetIDs
	root    context.Context // carries &ids
	relay   trace.Tracer
	plugins map[string]trace.Tracer // by filter: a resource each

	drawn []sdktrace.ReadOnlySpan
	bytes int // of drawn, roughly
}

// maxPlugins bounds the resources of plugins; names come from the configuration,
// and reloads bring new ones.
const maxPlugins = 256

func newArtist(res *resource.Resource, tuning *atomic.Pointer[Tuning], service string) *artist {
	a := &artist{tuning: tuning, service: service, res: res, plugins: make(map[string]trace.Tracer)}
	a.root = context.WithValue(context.Background(), presetKey{}, &a.ids)
	a.relay = a.tracer(res)
	return a
}

func (a *artist) tracer(res *resource.Resource) trace.Tracer {
	return sdktrace.NewTracerProvider(
		sdktrace.WithSampler(sdktrace.AlwaysSample()), // it was decided before
		sdktrace.WithIDGenerator(contextIDs{}),
		sdktrace.WithSpanProcessor(a),
		sdktrace.WithResource(res),
	).Tracer("github.com/wsrelay/relay")
}

// plugin is the tracer of what is drawn in a plugin's name.
func (a *artist) plugin(filter string) trace.Tracer {
	tr := a.plugins[filter]
	if tr == nil {
		if len(a.plugins) >= maxPlugins {
			clear(a.plugins)
		}
		res, err := resource.Merge(a.res, resource.NewSchemaless(attribute.String("service.name", "relay-filter-"+filter)))
		if err != nil {
			res = a.res // two schemas that cannot be merged: a schemaless one can
		}
		tr = a.tracer(res)
		a.plugins[filter] = tr
	}
	return tr
}

// take returns what was drawn since the last call.
func (a *artist) take() []sdktrace.ReadOnlySpan {
	spans := a.drawn
	a.drawn, a.bytes = nil, 0
	return spans
}

// OnStart implements sdktrace.SpanProcessor.
func (a *artist) OnStart(context.Context, sdktrace.ReadWriteSpan) {}

// OnEnd implements sdktrace.SpanProcessor.
func (a *artist) OnEnd(s sdktrace.ReadOnlySpan) {
	a.drawn = append(a.drawn, s)
	a.bytes += weight(s)
}

// Shutdown implements sdktrace.SpanProcessor.
func (a *artist) Shutdown(context.Context) error { return nil }

// ForceFlush implements sdktrace.SpanProcessor.
func (a *artist) ForceFlush(context.Context) error { return nil }

// weight is about what a span takes in a request.
func weight(s sdktrace.ReadOnlySpan) int {
	n := 128 + len(s.Name()) + len(s.Status().Description) + 48*len(s.Links())
	for _, kv := range s.Attributes() {
		n += 12 + len(kv.Key)
		if kv.Value.Type() == attribute.STRING {
			n += len(kv.Value.AsString())
		}
	}
	return n + 128*len(s.Events())
}

// presetKey finds the presetIDs in a context.
type presetKey struct{}

// presetIDs are the ids of the next span; zero ones are drawn at random.
type presetIDs struct {
	trace trace.TraceID
	span  trace.SpanID
}

// contextIDs gives a span the ids that its context asks for.
type contextIDs struct{}

// NewIDs implements sdktrace.IDGenerator.
func (contextIDs) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	p := ctx.Value(presetKey{}).(*presetIDs)
	return p.trace, p.next()
}

// NewSpanID implements sdktrace.IDGenerator.
func (contextIDs) NewSpanID(ctx context.Context, _ trace.TraceID) trace.SpanID {
	return ctx.Value(presetKey{}).(*presetIDs).next()
}

func (p *presetIDs) next() trace.SpanID {
	id := p.span
	p.span = trace.SpanID{}
	if !id.IsValid() {
		id = randomSpanID()
	}
	return id
}

// below is a context whose spans are children of parent; with a zero span id,
// they are roots of parent's trace.
func (a *artist) below(parent Context) context.Context {
	if parent.SpanID == [8]byte{} {
		return a.root
	}
	return trace.ContextWithRemoteSpanContext(a.root, spanContext(parent))
}

func spanContext(c Context) trace.SpanContext {
	return trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: c.TraceID, SpanID: c.SpanID, TraceFlags: trace.TraceFlags(c.Flags & FlagSampled), Remote: true,
	})
}

// span is what one line of the tree is made of.
type span struct {
	name       string
	kind       trace.SpanKind
	id         [8]byte // zero: any
	start, end time.Time
	attrs      []attribute.KeyValue
	links      []trace.Link
	events     []receiverEvent
	error      string // error.type
	failed     bool   // the status says so too
	detail     string
}

// draw makes one span below ctx and returns the context for its children.
func (a *artist) draw(ctx context.Context, tr trace.Tracer, traceID [16]byte, s *span) context.Context {
	if s.end.Before(s.start) {
		s.end = s.start
	}
	if s.error != "" {
		s.attrs = append(s.attrs, attribute.String("error.type", s.error))
	}
	a.ids = presetIDs{traceID, s.id}
	ctx, sp := tr.Start(ctx, s.name, trace.WithSpanKind(s.kind), trace.WithTimestamp(s.start), trace.WithAttributes(s.attrs...), trace.WithLinks(s.links...))
	for _, e := range s.events {
		sp.AddEvent(e.name, trace.WithTimestamp(e.at), trace.WithAttributes(attribute.String("relay.connection.id", e.conn), attribute.String("relay.reason", e.why)))
	}
	if s.failed {
		sp.SetStatus(codes.Error, s.detail)
	}
	sp.End(trace.WithTimestamp(s.end))
	return ctx
}
