// Package tracetree reads traces as OTLP writes them in JSON, which is what
// Jaeger's /api/v3/traces answers, and puts their spans into a tree. Tests
// compare its shape, and telemetry/draw makes a picture of it.
package tracetree

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Span is one span with its children, in the order of their start.
type Span struct {
	TraceID, SpanID, ParentID string // hex; ParentID is empty for a root
	Name                      string
	Kind                      string // server, client, producer, consumer, internal
	Service, Instance         string // of the resource
	Start, End                time.Time
	Attrs                     map[string]string
	Resource                  map[string]string
	Events                    []Event
	Links                     []Link
	Failed                    bool   // the status is an error
	Status                    string // its message

	Children []*Span
}

// Event is something that happened during a span.
type Event struct {
	Name  string
	Time  time.Time
	Attrs map[string]string
}

// Link points to another trace.
type Link struct{ TraceID, SpanID string }

// Duration is how long the span took.
func (s *Span) Duration() time.Duration { return s.End.Sub(s.Start) }

// Walk calls f for the span and all below it, parents first.
func (s *Span) Walk(f func(s *Span, depth int)) { s.walk(f, 0) }

func (s *Span) walk(f func(*Span, int), depth int) {
	f(s, depth)
	for _, c := range s.Children {
		c.walk(f, depth+1)
	}
}

// The JSON of OTLP: opentelemetry/proto/trace/v1, with ids in hex and 64-bit
// numbers as strings.
type (
	document struct {
		Result        *document       `json:"result"`
		ResourceSpans []resourceSpans `json:"resourceSpans"`
	}
	resourceSpans struct {
		Resource struct {
			Attributes []keyValue `json:"attributes"`
		} `json:"resource"`
		ScopeSpans []struct {
			Spans []rawSpan `json:"spans"`
		} `json:"scopeSpans"`
	}
	rawSpan struct {
		TraceID      string     `json:"traceId"`
		SpanID       string     `json:"spanId"`
		ParentSpanID string     `json:"parentSpanId"`
		Name         string     `json:"name"`
		Kind         int        `json:"kind"`
		Start        nanos      `json:"startTimeUnixNano"`
		End          nanos      `json:"endTimeUnixNano"`
		Attributes   []keyValue `json:"attributes"`
		Events       []struct {
			Time       nanos      `json:"timeUnixNano"`
			Name       string     `json:"name"`
			Attributes []keyValue `json:"attributes"`
		} `json:"events"`
		Links []struct {
			TraceID string `json:"traceId"`
			SpanID  string `json:"spanId"`
		} `json:"links"`
		Status struct {
			Code    int    `json:"code"`
			Message string `json:"message"`
		} `json:"status"`
	}
	keyValue struct {
		Key   string `json:"key"`
		Value value  `json:"value"`
	}
	value struct {
		String *string      `json:"stringValue"`
		Int    *json.Number `json:"intValue"`
		Double *float64     `json:"doubleValue"`
		Bool   *bool        `json:"boolValue"`
	}
)

// nanos is a time as OTLP writes it: a string, or a number.
type nanos struct{ time.Time }

// UnmarshalJSON implements json.Unmarshaler.
func (n *nanos) UnmarshalJSON(b []byte) error {
	v, err := strconv.ParseInt(strings.Trim(string(b), `"`), 10, 64)
	if err != nil {
		return fmt.Errorf("time %s: must be nanoseconds since 1970", b)
	}
	n.Time = time.Unix(0, v).UTC()
	return nil
}

func (v value) text() string {
	switch {
	case v.String != nil:
		return *v.String
	case v.Int != nil:
		return v.Int.String()
	case v.Double != nil:
		return strconv.FormatFloat(*v.Double, 'g', -1, 64)
	case v.Bool != nil:
		return strconv.FormatBool(*v.Bool)
	}
	return ""
}

func attributes(list []keyValue) map[string]string {
	m := make(map[string]string, len(list))
	for _, kv := range list {
		m[kv.Key] = kv.Value.text()
	}
	return m
}

var kinds = [...]string{"unspecified", "internal", "server", "client", "producer", "consumer"}

// Parse reads all spans of a document, in the order of their start.
func Parse(data []byte) ([]*Span, error) {
	var d document
	if err := json.Unmarshal(data, &d); err != nil {
		return nil, fmt.Errorf("reading OTLP JSON: %w", err)
	}
	if d.Result != nil {
		d.ResourceSpans = d.Result.ResourceSpans
	}
	var list []*Span
	for _, rs := range d.ResourceSpans {
		res := attributes(rs.Resource.Attributes)
		for _, ss := range rs.ScopeSpans {
			for _, r := range ss.Spans {
				s, err := r.span(res)
				if err != nil {
					return nil, err
				}
				list = append(list, s)
			}
		}
	}
	Sort(list)
	return list, nil
}

func (r *rawSpan) span(res map[string]string) (*Span, error) {
	if r.Kind < 0 || r.Kind >= len(kinds) {
		return nil, fmt.Errorf("span %s: unknown kind %d", r.SpanID, r.Kind)
	}
	s := &Span{
		TraceID: r.TraceID, SpanID: r.SpanID, ParentID: r.ParentSpanID, Name: r.Name, Kind: kinds[r.Kind],
		Service: res["service.name"], Instance: res["service.instance.id"], Resource: res,
		Start: r.Start.Time, End: r.End.Time, Attrs: attributes(r.Attributes),
		Failed: r.Status.Code == 2, Status: r.Status.Message,
	}
	for _, e := range r.Events {
		s.Events = append(s.Events, Event{e.Name, e.Time.Time, attributes(e.Attributes)})
	}
	for _, l := range r.Links {
		s.Links = append(s.Links, Link{l.TraceID, l.SpanID})
	}
	return s, nil
}

// Sort puts spans into the order of their start, then of their names.
func Sort(list []*Span) {
	slices.SortStableFunc(list, func(a, b *Span) int {
		return cmp.Or(a.Start.Compare(b.Start), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Instance, b.Instance))
	})
}

// Trees links spans to their parents and returns those that have none in the
// list. Spans that were linked before are linked anew.
func Trees(list []*Span) (roots []*Span) {
	byID := make(map[string]*Span, len(list))
	for _, s := range list {
		s.Children = nil
		byID[s.TraceID+s.SpanID] = s
	}
	for _, s := range list {
		if p := byID[s.TraceID+s.ParentID]; p != nil && s.ParentID != "" && p != s {
			p.Children = append(p.Children, s)
		} else {
			roots = append(roots, s)
		}
	}
	return roots
}

// Shape writes trees as text, one span a line: kind, name, service, error. Times
// and ids are left out, and brothers are sorted by name and service, so that two
// runs of the same thing look the same.
func Shape(roots []*Span) string {
	var b strings.Builder
	shape(&b, roots, 0)
	return b.String()
}

func shape(b *strings.Builder, list []*Span, depth int) {
	list = slices.Clone(list)
	line := func(s *Span) string {
		l := s.Name + "  " + strings.ToUpper(s.Kind) + "  " + s.Service
		if e := s.Attrs["error.type"]; e != "" {
			l += "  error.type=" + e
		}
		if s.Failed {
			l += "  ERROR"
		}
		if len(s.Links) > 0 {
			l += "  links=" + strconv.Itoa(len(s.Links))
		}
		return l
	}
	slices.SortStableFunc(list, func(x, y *Span) int { return cmp.Compare(line(x), line(y)) })
	for _, s := range list {
		b.WriteString(strings.Repeat("  ", depth) + line(s) + "\n")
		shape(b, s.Children, depth+1)
	}
}
