package telemetry

import (
	"context"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// Produce implements sdkmetric.Producer: the numbers as they are now.
func (m *Metrics) Produce(context.Context) ([]metricdata.ScopeMetrics, error) {
	now := time.Now()
	list := make([]metricdata.Metrics, 0, metrics)
	for id, d := range Catalog() {
		var data metricdata.Aggregation
		switch d.Kind {
		case Distribution:
			data = m.distribution(Metric(id), d, now)
		default:
			data = m.numbers(Metric(id), d, now)
		}
		if data != nil {
			list = append(list, metricdata.Metrics{Name: d.Name, Description: d.Help, Unit: d.Unit, Data: data})
		}
	}
	return []metricdata.ScopeMetrics{{Scope: instrumentation.Scope{Name: "github.com/wsrelay/relay"}, Metrics: list}}, nil
}

// bound lists the series of a metric in a stable order.
func (m *Metrics) bound(id Metric) ([]series, []func(func(int64, ...string))) {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make([]series, 0, len(m.series[id]))
	for _, s := range m.series[id] {
		c := *s
		c.read = slices.Clone(s.read)
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b series) int { return slices.Compare(a.labels, b.labels) })
	return list, slices.Clone(m.each[id])
}

// numbers are the points of a counter or gauge; nil where nothing is bound.
func (m *Metrics) numbers(id Metric, d Definition, now time.Time) metricdata.Aggregation {
	list, each := m.bound(id)
	sums := make(map[string]int64)
	labels := make(map[string][]string)
	var order []string
	tell := func(v int64, l ...string) {
		d.check(l)
		key := strings.Join(l, "\x00")
		if _, seen := labels[key]; !seen {
			labels[key] = slices.Clone(l)
			order = append(order, key)
		}
		sums[key] += v
	}
	for _, s := range list {
		if s.count != nil {
			tell(s.count.n.Load(), s.labels...)
		}
		for _, f := range s.read {
			tell(f(), s.labels...)
		}
	}
	for _, f := range each {
		f(tell)
	}
	if len(order) == 0 {
		return nil
	}
	points := make([]metricdata.DataPoint[float64], 0, len(order))
	for _, key := range order {
		points = append(points, metricdata.DataPoint[float64]{
			Attributes: d.attributes(labels[key]), StartTime: m.began, Time: now, Value: d.scale(sums[key]),
		})
	}
	if d.Kind == Gauge {
		return metricdata.Gauge[float64]{DataPoints: points}
	}
	return metricdata.Sum[float64]{DataPoints: points, Temporality: metricdata.CumulativeTemporality, IsMonotonic: true}
}

func (m *Metrics) distribution(id Metric, d Definition, now time.Time) metricdata.Aggregation {
	list, _ := m.bound(id)
	if len(list) == 0 {
		return nil
	}
	bounds := make([]float64, len(d.Bounds))
	for i, b := range d.Bounds {
		bounds[i] = d.scale(b)
	}
	points := make([]metricdata.HistogramDataPoint[float64], 0, len(list))
	for _, s := range list {
		p := metricdata.HistogramDataPoint[float64]{
			Attributes: d.attributes(s.labels), StartTime: m.began, Time: now,
			Bounds: bounds, BucketCounts: make([]uint64, len(s.hist.counts)), Sum: d.scale(s.hist.sum.Load()),
		}
		for i := range s.hist.counts {
			n := s.hist.counts[i].Load()
			p.BucketCounts[i] = n
			p.Count += n
			if e := s.hist.exemplars[i].Load(); e != nil {
				p.Exemplars = append(p.Exemplars, metricdata.Exemplar[float64]{
					Time: e.at, Value: d.scale(e.value), TraceID: e.context.TraceID[:], SpanID: e.context.SpanID[:],
				})
			}
		}
		points = append(points, p)
	}
	return metricdata.Histogram[float64]{DataPoints: points, Temporality: metricdata.CumulativeTemporality}
}

// scale turns nanoseconds into seconds, and leaves the rest alone.
func (d *Definition) scale(v int64) float64 {
	if d.Unit == "s" {
		return float64(v) / 1e9
	}
	return float64(v)
}

// attributes joins what is fixed and what was bound. Empty values are left out.
func (d *Definition) attributes(labels []string) attribute.Set {
	kv := make([]attribute.KeyValue, 0, len(labels)+len(d.Fixed)/2)
	for i := 0; i+1 < len(d.Fixed); i += 2 {
		kv = append(kv, attribute.String(d.Fixed[i], d.Fixed[i+1]))
	}
	for i, v := range labels {
		if v != "" {
			kv = append(kv, attribute.String(d.Labels[i], v))
		}
	}
	return attribute.NewSet(kv...)
}
