package telemetry

import (
	"slices"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// artist makes spans of records, with the ids that were sent already. It belongs
// to one goroutine.
//
// It hands the SDK's exporters spans of its own instead of starting and ending
// the SDK's: everything about them is known by now, and the way through a
// TracerProvider costs as much again as the export.
type artist struct {
	tuning  *atomic.Pointer[Tuning]
	service string
	relay   *resource.Resource
	plugins map[string]*resource.Resource // by filter

	drawn []sdktrace.ReadOnlySpan
	bytes int // of drawn, roughly
	spans arena[span]
	attrs arena[attribute.KeyValue]
}

const (
	// maxPlugins bounds the resources of plugins; names come from the
	// configuration, and reloads bring new ones.
	maxPlugins = 256
	// chunkSize is how much an arena allocates at once, and maxChunks how many of
	// those it keeps: attributes of about one full request.
	chunkSize = 1024
	maxChunks = 48
)

// arena lends memory for what is drawn for one request, and takes it all back
// when that is over: to make it anew each time was a fourth of what a traced
// message cost. An exporter has copied what it got when it returns.
type arena[T any] struct {
	chunks [][]T
	chunk  int // in use
	lent   int // of that chunk
}

// lend is room for at most n, which is not more than chunkSize.
func (a *arena[T]) lend(n int) []T {
	if a.chunk < len(a.chunks) && a.lent+n > chunkSize {
		a.chunk, a.lent = a.chunk+1, 0
	}
	if a.chunk == len(a.chunks) {
		a.chunks = append(a.chunks, make([]T, chunkSize))
	}
	a.lent += n
	return a.chunks[a.chunk][a.lent-n : a.lent-n : a.lent]
}

func (a *arena[T]) takeBack() {
	for i := range min(a.chunk+1, len(a.chunks)) {
		clear(a.chunks[i]) // whatever it spoke of can go
	}
	if len(a.chunks) > maxChunks {
		a.chunks = slices.Clone(a.chunks[:maxChunks])
	}
	a.chunk, a.lent = 0, 0
}

func newArtist(res *resource.Resource, tuning *atomic.Pointer[Tuning], service string) *artist {
	return &artist{tuning: tuning, service: service, relay: res, plugins: make(map[string]*resource.Resource)}
}

// plugin is the resource of what is drawn in a plugin's name.
func (a *artist) plugin(filter string) *resource.Resource {
	res := a.plugins[filter]
	if res == nil {
		if len(a.plugins) >= maxPlugins {
			clear(a.plugins)
		}
		var err error
		res, err = resource.Merge(a.relay, resource.NewSchemaless(attribute.String("service.name", "relay-filter-"+filter)))
		if err != nil {
			res = a.relay // cannot be: a schemaless resource contradicts none
		}
		a.plugins[filter] = res
	}
	return res
}

// forget begins anew: what was drawn has been exported, or never will be.
func (a *artist) forget() {
	clear(a.drawn)
	a.drawn, a.bytes = a.drawn[:0], 0
	a.spans.takeBack()
	a.attrs.takeBack()
}

// attributes is room for at most n attributes.
func (a *artist) attributes(n int) []attribute.KeyValue { return a.attrs.lend(n) }

// span is s, where it stays until it is exported.
func (a *artist) span(s span) *span {
	p := &a.spans.lend(1)[:1][0]
	*p = s
	return p
}

// span is one line of the tree.
type span struct {
	sdktrace.ReadOnlySpan // nil: the only way to be one, and every method is below

	name       string
	kind       trace.SpanKind
	id         [8]byte // zero: any
	start, end time.Time
	attrs      []attribute.KeyValue
	links      []sdktrace.Link
	events     []sdktrace.Event
	failed     bool   // the status says so
	detail     string // and why

	context, parent trace.SpanContext
	resource        *resource.Resource
}

// draw makes a span of s, below parent, or as a root where that has no span id.
// It returns the context for its children.
func (a *artist) draw(parent Context, res *resource.Resource, s *span) Context {
	if s.end.Before(s.start) {
		s.end = s.start
	}
	if s.id == [8]byte{} {
		s.id = randomSpanID()
	}
	c := Context{parent.TraceID, s.id, FlagSampled}
	s.context, s.resource = spanContext(c, false), res
	if parent.SpanID != [8]byte{} {
		s.parent = spanContext(parent, true)
	}
	a.drawn = append(a.drawn, s)
	a.bytes += s.weight()
	return c
}

// weight is about what a span takes in a request.
func (s *span) weight() int {
	n := 128 + len(s.name) + len(s.detail) + 48*len(s.links) + 128*len(s.events)
	for i := range s.attrs {
		n += 12 + len(s.attrs[i].Key)
		if s.attrs[i].Value.Type() == attribute.STRING {
			n += len(s.attrs[i].Value.AsString())
		}
	}
	return n
}

func spanContext(c Context, remote bool) trace.SpanContext {
	return trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: c.TraceID, SpanID: c.SpanID, TraceFlags: trace.TraceFlags(c.Flags & FlagSampled), Remote: remote,
	})
}

// link adds a link, if there is something to link to.
func (s *span) link(to Context) {
	if !to.IsZero() {
		s.links = append(s.links, sdktrace.Link{SpanContext: spanContext(to, true)})
	}
}

// The rest implements sdktrace.ReadOnlySpan.

func (s *span) Name() string                     { return s.name }
func (s *span) SpanContext() trace.SpanContext   { return s.context }
func (s *span) Parent() trace.SpanContext        { return s.parent }
func (s *span) SpanKind() trace.SpanKind         { return s.kind }
func (s *span) StartTime() time.Time             { return s.start }
func (s *span) EndTime() time.Time               { return s.end }
func (s *span) Attributes() []attribute.KeyValue { return s.attrs }
func (s *span) Links() []sdktrace.Link           { return s.links }
func (s *span) Events() []sdktrace.Event         { return s.events }
func (s *span) Resource() *resource.Resource     { return s.resource }
func (s *span) DroppedAttributes() int           { return 0 }
func (s *span) DroppedLinks() int                { return 0 }
func (s *span) DroppedEvents() int               { return 0 }
func (s *span) ChildSpanCount() int              { return 0 }

// InstrumentationScope names who made it.
func (s *span) InstrumentationScope() instrumentation.Scope { return scope }

// InstrumentationLibrary is the older name of the scope, and part of the interface.
//
//lint:ignore SA1019 the interface has it
func (s *span) InstrumentationLibrary() instrumentation.Library { return scope }

// Status is an error, or unset.
func (s *span) Status() sdktrace.Status {
	if s.failed {
		return sdktrace.Status{Code: codes.Error, Description: s.detail}
	}
	return sdktrace.Status{}
}

var scope = instrumentation.Scope{Name: "github.com/wsrelay/relay"}
