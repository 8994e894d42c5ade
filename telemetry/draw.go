package telemetry

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// draw implements record.
func (m *Message) draw(a *artist) {
	f := &m.facts
	root := Context{TraceID: m.context.TraceID}
	if m.parent.SpanID != [8]byte{} {
		root = m.parent
	}
	attrs := a.destination(make([]attribute.KeyValue, 0, 20), f.Policy, f.Room, f.ID)
	attrs = append(attrs,
		attribute.String("messaging.operation.name", "process"),
		attribute.String("messaging.operation.type", "process"),
		attribute.Int("messaging.message.body.size", f.Size),
		attribute.String("relay.endpoint", f.Endpoint),
	)
	if f.Connection != "" {
		attrs = append(attrs, attribute.String("relay.connection.id", f.Connection))
	}
	attrs = a.user(attrs, f)
	if seq := m.published.Seq; seq != 0 {
		attrs = append(attrs, attribute.Int64("relay.seq", int64(seq)))
	}
	if m.published.Duplicate {
		attrs = append(attrs, attribute.Bool("relay.duplicate", true))
	}
	if m.outcome.Action != "" {
		attrs = append(attrs, attribute.String("relay.action", m.outcome.Action))
	}
	if m.promoted != "" {
		attrs = append(attrs, attribute.String("relay.promoted", string(m.promoted)))
	}
	s := &span{
		name: "process " + f.Policy, kind: trace.SpanKindConsumer, id: ProcessSpan(f.ID),
		start: f.Start, end: m.outcome.End, attrs: attrs,
		error: m.outcome.Error, failed: m.outcome.Error != "", detail: m.outcome.Detail,
	}
	if s.error == "" && (m.promoted == Slow || m.traces.TooSlow(f.Start, m.outcome.End)) {
		s.error = string(Slow)
	}
	for _, l := range [...]Context{f.Handshake, f.Link} {
		if !l.IsZero() {
			s.links = append(s.links, trace.Link{SpanContext: spanContext(l)})
		}
	}
	ctx := a.draw(a.below(root), a.relay, m.context.TraceID, s)

	last := f.Start
	for i := range m.policy {
		a.policy(ctx, m.context.TraceID, &m.policy[i])
		last = later(last, m.policy[i].End)
	}
	for i := range m.filters {
		a.filter(ctx, m.context.TraceID, &m.filters[i])
		if m.filters[i].Mode != "observe" && m.filters[i].Mode != "async" {
			last = later(last, m.filters[i].End)
		}
	}
	if p := &m.published; p.System != "" {
		if p.Start.IsZero() {
			p.Start = last
		}
		if p.End.IsZero() {
			p.End = m.outcome.End
		}
		a.publish(ctx, m)
	}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// destination says which message in which room.
func (a *artist) destination(attrs []attribute.KeyValue, policy, room string, id [16]byte) []attribute.KeyValue {
	return append(attrs,
		attribute.String("messaging.system", "relay"),
		attribute.String("messaging.destination.template", policy),
		attribute.String("messaging.destination.name", room),
		attribute.String("messaging.message.id", hexID(id)),
	)
}

// user says who, as far as traces may.
func (a *artist) user(attrs []attribute.KeyValue, f *Facts) []attribute.KeyValue {
	if f.User == "" {
		return attrs
	}
	switch a.tuning.Load().Identify {
	case Anonymous:
		return attrs
	case ByHash:
		attrs = append(attrs, attribute.String("user.hash", UserHash(a.service, f.User)))
	default:
		attrs = append(attrs, attribute.String("user.id", f.User))
	}
	if f.Guest {
		attrs = append(attrs, attribute.Bool("relay.guest", true))
	}
	return attrs
}

func (a *artist) policy(ctx context.Context, traceID [16]byte, p *PolicyStep) {
	s := &span{
		name: "policy " + p.Action, kind: trace.SpanKindInternal, start: p.Start, end: p.End,
		attrs: []attribute.KeyValue{attribute.String("relay.policy.rule", p.Rule), attribute.String("relay.policy.result", p.Result)},
	}
	if p.Result != "" && p.Result != "allowed" {
		s.error = p.Result
	}
	a.draw(ctx, a.relay, traceID, s)
}

func (a *artist) filter(ctx context.Context, traceID [16]byte, f *FilterStep) {
	s := &span{
		name: "filter " + f.Filter, kind: trace.SpanKindClient, id: f.SpanID, start: f.Start, end: f.End,
		attrs: []attribute.KeyValue{
			attribute.String("relay.filter.name", f.Filter),
			attribute.String("relay.filter.mode", f.Mode),
		},
		error: f.Failure, failed: f.Failure != "",
	}
	if f.Action != "" {
		s.attrs = append(s.attrs, attribute.String("relay.filter.verdict", f.Action))
	}
	if f.Code != "" {
		s.attrs = append(s.attrs, attribute.String("relay.filter.code", f.Code))
	}
	if f.Plugin {
		s.attrs = append(s.attrs,
			attribute.Int("relay.filter.batch", f.Batch),
			attribute.Int64("relay.filter.queue_us", f.Queued.Microseconds()),
			attribute.Int("relay.filter.generation", f.Generation),
		)
	}
	ctx = a.draw(ctx, a.relay, traceID, s)
	if !f.Plugin || f.Traces || f.Failure != "" {
		return
	}
	// The plugin's own clock says how long; where it lies between sent and
	// answered nobody knows, so it begins when it was sent.
	start := f.Start.Add(f.Queued)
	if start.After(f.End) {
		start = f.End
	}
	end := f.End
	if f.Elapsed > 0 && start.Add(f.Elapsed).Before(end) {
		end = start.Add(f.Elapsed)
	}
	a.draw(ctx, a.plugin(f.Filter), traceID, &span{
		name: f.Filter, kind: trace.SpanKindServer, start: start, end: end,
		attrs: []attribute.KeyValue{attribute.String("relay.filter.name", f.Filter), attribute.Bool("relay.drawn", true)},
	})
}

func (a *artist) publish(ctx context.Context, m *Message) {
	p := &m.published
	attrs := []attribute.KeyValue{
		attribute.String("messaging.system", p.System),
		attribute.String("messaging.operation.name", "publish"),
		attribute.String("messaging.operation.type", "send"),
		attribute.String("messaging.destination.template", m.facts.Policy),
	}
	if p.Operation != "" {
		attrs = append(attrs, attribute.String("db.system.name", p.System), attribute.String("db.operation.name", p.Operation))
	}
	if p.Pipeline > 0 {
		attrs = append(attrs, attribute.Int("relay.publish.pipeline", p.Pipeline))
	}
	if p.Seq != 0 {
		attrs = append(attrs, attribute.Int64("relay.seq", int64(p.Seq)))
	}
	a.draw(ctx, a.relay, m.context.TraceID, &span{
		name: "publish " + m.facts.Policy, kind: trace.SpanKindProducer, id: m.context.SpanID,
		start: p.Start, end: p.End, attrs: attrs, error: p.Error, failed: p.Error != "",
	})
}

// draw implements record.
func (l *lateFilters) draw(a *artist) {
	ctx := a.below(l.parent)
	for i := range l.steps {
		a.filter(ctx, l.parent.TraceID, &l.steps[i])
	}
}

// draw implements record.
func (d *Delivery) draw(a *artist) {
	f := &d.facts
	attrs := a.destination(make([]attribute.KeyValue, 0, 16), f.Policy, f.Room, f.ID)
	attrs = append(attrs,
		attribute.String("messaging.operation.name", "deliver"),
		attribute.String("messaging.operation.type", "process"),
		attribute.Int("relay.fanout.members", d.members),
		attribute.Int("relay.fanout.enqueued", d.enqueued),
		attribute.Int("relay.fanout.written", d.written),
		attribute.Int("relay.fanout.dropped", d.dropped),
		attribute.Int("relay.fanout.slow", d.slow),
	)
	if d.written > 0 {
		attrs = append(attrs,
			attribute.Int64("relay.fanout.first_write_us", d.first.Sub(f.Start).Microseconds()),
			attribute.Int64("relay.fanout.last_write_us", d.last.Sub(f.Start).Microseconds()),
		)
	}
	if f.Seq != 0 {
		attrs = append(attrs, attribute.Int64("relay.seq", int64(f.Seq)))
	}
	if d.reason != "" {
		attrs = append(attrs, attribute.String("relay.promoted", string(d.reason)))
	}
	s := &span{
		name: "deliver " + f.Policy, kind: trace.SpanKindConsumer, id: d.span,
		start: f.Start, end: d.ended, attrs: attrs, events: d.events,
	}
	switch {
	case d.dropped > 0:
		s.error = string(Dropped)
	case d.slow > 0:
		s.error = string(Slow)
	}
	ctx := a.draw(a.below(d.context), a.relay, d.context.TraceID, s)
	for _, w := range d.writes {
		a.draw(ctx, a.relay, d.context.TraceID, &span{
			name: "write", kind: trace.SpanKindInternal, start: f.Start, end: w.at,
			attrs: []attribute.KeyValue{attribute.String("relay.connection.id", w.conn)},
		})
	}
}

// draw implements record.
func (h *handshake) draw(a *artist) {
	attrs := []attribute.KeyValue{
		attribute.String("http.request.method", "GET"),
		attribute.String("http.route", h.h.Path),
		attribute.String("url.path", h.h.Path),
		attribute.Int("http.response.status_code", h.h.Status),
		attribute.String("network.protocol.name", "websocket"),
		attribute.String("relay.endpoint", h.h.Path),
	}
	if h.h.Connection != "" {
		attrs = append(attrs, attribute.String("relay.connection.id", h.h.Connection))
	}
	if h.promoted != "" {
		attrs = append(attrs, attribute.String("relay.promoted", string(h.promoted)))
	}
	s := &span{
		name: "GET " + h.h.Path, kind: trace.SpanKindServer, id: h.context.SpanID,
		start: h.h.Start, end: h.h.End, attrs: attrs, error: h.h.Error, failed: h.h.Status >= 500,
	}
	if !h.link.IsZero() {
		s.links = []trace.Link{{SpanContext: spanContext(h.link)}}
	}
	parent := Context{TraceID: h.context.TraceID}
	if h.parent.SpanID != [8]byte{} {
		parent = h.parent
	}
	a.draw(a.below(parent), a.relay, h.context.TraceID, s)
}
