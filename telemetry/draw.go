package telemetry

import (
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// draw implements record.
func (m *Message) draw(a *artist) {
	root := Context{TraceID: m.context.TraceID}
	if m.parent.SpanID != [8]byte{} {
		root = m.parent
	}
	process := a.draw(root, a.relay, m.process(a))
	last := m.facts.Start
	for i := range m.policy {
		a.policy(process, &m.policy[i])
		last = later(last, m.policy[i].End)
	}
	for i := range m.filters {
		f := &m.filters[i]
		a.filter(process, f)
		if f.Mode != "observe" && f.Mode != "async" {
			last = later(last, f.End)
		}
	}
	if p := &m.published; p.System != "" {
		if p.Start.IsZero() {
			p.Start = last
		}
		if p.End.IsZero() {
			p.End = m.outcome.End
		}
		a.publish(process, m)
	}
}

// process is the root, or the child of a trusted client's span.
func (m *Message) process(a *artist) *span {
	f := &m.facts
	s := a.span(span{
		name: "process " + f.Policy, kind: trace.SpanKindConsumer, id: ProcessSpan(f.ID), start: f.Start, end: m.outcome.End,
		failed: m.outcome.Error != "", detail: m.outcome.Detail,
	})
	s.attrs = append(a.destination(a.attributes(16), f.Policy, f.Room, f.ID),
		attribute.String("messaging.operation.name", "process"),
		attribute.String("messaging.operation.type", "process"),
		attribute.Int("messaging.message.body.size", f.Size),
		attribute.String("relay.endpoint", f.Endpoint),
	)
	s.attrs = a.user(s.attrs, f)
	s.text("relay.connection.id", f.Connection)
	s.text("relay.action", m.outcome.Action)
	s.text("relay.promoted", string(m.promoted))
	s.seq(m.published.Seq)
	if m.published.Duplicate {
		s.attrs = append(s.attrs, attribute.Bool("relay.duplicate", true))
	}
	switch {
	case m.outcome.Error != "":
		s.text("error.type", m.outcome.Error)
	case m.promoted == Slow || m.traces.TooSlow(f.Start, m.outcome.End):
		s.text("error.type", string(Slow))
	}
	s.link(f.Handshake)
	s.link(f.Link)
	return s
}

// text adds an attribute, unless it is empty.
func (s *span) text(key, value string) {
	if value != "" {
		s.attrs = append(s.attrs, attribute.String(key, value))
	}
}

// seq adds the place in the room's stream, in rooms that have one.
func (s *span) seq(n uint64) {
	if n != 0 {
		s.attrs = append(s.attrs, attribute.Int64("relay.seq", int64(n)))
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

func (a *artist) policy(process Context, p *PolicyStep) {
	s := a.span(span{name: "policy " + p.Action, kind: trace.SpanKindInternal, start: p.Start, end: p.End})
	s.attrs = append(a.attributes(3), attribute.String("relay.policy.rule", p.Rule), attribute.String("relay.policy.result", p.Result))
	if p.Result != "allowed" {
		s.text("error.type", p.Result)
	}
	a.draw(process, a.relay, s)
}

func (a *artist) filter(process Context, f *FilterStep) {
	s := a.span(span{
		name: "filter " + f.Filter, kind: trace.SpanKindClient, id: f.SpanID, start: f.Start, end: f.End,
		attrs: a.attributes(8), failed: f.Failure != "",
	})
	s.text("relay.filter.name", f.Filter)
	s.text("relay.filter.mode", f.Mode)
	s.text("relay.filter.verdict", f.Action)
	s.text("relay.filter.code", f.Code)
	s.text("error.type", f.Failure)
	if f.Plugin {
		s.attrs = append(s.attrs,
			attribute.Int("relay.filter.batch", f.Batch),
			attribute.Int64("relay.filter.queue_us", f.Queued.Microseconds()),
			attribute.Int("relay.filter.generation", f.Generation),
		)
	}
	c := a.draw(process, a.relay, s)
	if f.Plugin && !f.Traces && f.Failure == "" {
		a.inPlugin(c, f)
	}
}

// inPlugin draws the part of a plugin that does not trace. Its own clock says
// how long it took; where that lies between sent and answered nobody knows, so
// it begins when it was sent.
func (a *artist) inPlugin(filter Context, f *FilterStep) {
	start, end := f.Start.Add(f.Queued), f.End
	if start.After(end) {
		start = end
	}
	if f.Elapsed > 0 && start.Add(f.Elapsed).Before(end) {
		end = start.Add(f.Elapsed)
	}
	a.draw(filter, a.plugin(f.Filter), a.span(span{
		name: f.Filter, kind: trace.SpanKindServer, start: start, end: end,
		attrs: append(a.attributes(2), attribute.String("relay.filter.name", f.Filter), attribute.Bool("relay.drawn", true)),
	}))
}

func (a *artist) publish(process Context, m *Message) {
	p := &m.published
	s := a.span(span{
		name: "publish " + m.facts.Policy, kind: trace.SpanKindProducer, id: m.context.SpanID,
		start: p.Start, end: p.End, failed: p.Error != "",
	})
	s.attrs = append(a.attributes(11),
		attribute.String("messaging.system", p.System),
		attribute.String("messaging.operation.name", "publish"),
		attribute.String("messaging.operation.type", "send"),
		attribute.String("messaging.destination.template", m.facts.Policy),
		attribute.String("messaging.destination.name", m.facts.Room),
		attribute.String("messaging.message.id", hexID(m.facts.ID)),
	)
	if p.Operation != "" {
		s.text("db.system.name", p.System)
		s.text("db.operation.name", p.Operation)
	}
	if p.Pipeline > 0 {
		s.attrs = append(s.attrs, attribute.Int("relay.publish.pipeline", p.Pipeline))
	}
	s.seq(p.Seq)
	s.text("error.type", p.Error)
	a.draw(process, a.relay, s)
}

// draw implements record.
func (l *lateFilters) draw(a *artist) {
	for i := range l.steps {
		a.filter(l.parent, &l.steps[i])
	}
}

// draw implements record.
func (d *Delivery) draw(a *artist) {
	f := &d.facts
	s := a.span(span{name: "deliver " + f.Policy, kind: trace.SpanKindConsumer, id: d.span, start: f.Start, end: d.ended})
	s.attrs = append(a.destination(a.attributes(16), f.Policy, f.Room, f.ID),
		attribute.String("messaging.operation.name", "deliver"),
		attribute.String("messaging.operation.type", "process"),
		attribute.Int("relay.fanout.members", d.members),
		attribute.Int("relay.fanout.enqueued", d.enqueued),
		attribute.Int("relay.fanout.written", d.written),
		attribute.Int("relay.fanout.dropped", d.dropped),
		attribute.Int("relay.fanout.slow", d.slow),
	)
	if d.written > 0 {
		s.attrs = append(s.attrs,
			attribute.Int64("relay.fanout.first_write_us", d.first.Sub(f.Start).Microseconds()),
			attribute.Int64("relay.fanout.last_write_us", d.last.Sub(f.Start).Microseconds()),
		)
	}
	s.seq(f.Seq)
	s.text("relay.promoted", string(d.reason))
	switch {
	case d.dropped > d.gone:
		s.text("error.type", string(Dropped))
	case d.slow > 0:
		s.text("error.type", string(Slow))
	}
	for _, e := range d.events {
		s.events = append(s.events, sdktrace.Event{Name: e.name, Time: e.at, Attributes: []attribute.KeyValue{
			attribute.String("relay.connection.id", e.conn), attribute.String("relay.reason", e.why),
		}})
	}
	c := a.draw(d.context, a.relay, s)
	for _, w := range d.writes {
		a.draw(c, a.relay, a.span(span{
			name: "write", kind: trace.SpanKindInternal, start: f.Start, end: w.at,
			attrs: append(a.attributes(1), attribute.String("relay.connection.id", w.conn)),
		}))
	}
}

// draw implements record.
func (h *handshake) draw(a *artist) {
	s := a.span(span{
		name: "GET " + h.h.Path, kind: trace.SpanKindServer, id: h.context.SpanID,
		start: h.h.Start, end: h.h.End, failed: h.h.Status >= 500,
	})
	s.attrs = append(a.attributes(9),
		attribute.String("http.request.method", "GET"),
		attribute.String("http.route", h.h.Path),
		attribute.String("url.path", h.h.Path),
		attribute.Int("http.response.status_code", h.h.Status),
		attribute.String("network.protocol.name", "websocket"),
		attribute.String("relay.endpoint", h.h.Path),
	)
	s.text("relay.connection.id", h.h.Connection)
	s.text("relay.promoted", string(h.promoted))
	s.text("error.type", h.h.Error)
	s.link(h.link)
	parent := Context{TraceID: h.context.TraceID}
	if h.parent.SpanID != [8]byte{} {
		parent = h.parent
	}
	a.draw(parent, a.relay, s)
}
