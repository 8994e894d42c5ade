package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
)

// Metrics are the numbers of one instance. Instruments are bound once, when
// their labels are known, and cost an atomic addition afterwards; the OTel SDK
// reads them when somebody asks. All methods are safe for concurrent use.
//
// Binding with the wrong number of labels, or a metric of another kind, is a
// mistake in the program and panics.
type Metrics struct {
	provider *sdkmetric.MeterProvider
	handler  http.Handler
	began    time.Time

	config atomic.Pointer[string] // hash of the one in force

	mu     sync.Mutex
	series [metrics]map[string]*series // by labels; guarded by mu
	each   [metrics][]func(func(int64, ...string))

	stopOnce sync.Once
	stopErr  error
}

// series is one metric with its labels.
type series struct {
	labels []string
	count  *Count
	read   []func() int64 // summed up
	hist   *Histogram
}

// Count is a bound counter or gauge.
type Count struct{ n atomic.Int64 }

// Add adds to it. A nil Count counts nothing.
func (c *Count) Add(n int64) {
	if c != nil {
		c.n.Add(n)
	}
}

// Set says what a gauge is now.
func (c *Count) Set(n int64) {
	if c != nil {
		c.n.Store(n)
	}
}

// Histogram is a bound distribution.
type Histogram struct {
	bounds    []int64
	counts    []atomic.Uint64 // one more than bounds
	sum       atomic.Int64
	exemplars []atomic.Pointer[exemplar] // the newest of each bucket
}

// exemplar is a value with the trace that it comes from.
type exemplar struct {
	value   int64
	at      time.Time
	context Context
}

// Observe adds a value: nanoseconds where the metric's unit is s. A nil
// Histogram observes nothing.
func (h *Histogram) Observe(v int64) {
	if h == nil {
		return
	}
	h.counts[h.bucket(v)].Add(1)
	h.sum.Add(v)
}

// ObserveTraced is Observe for something that belongs to a trace: where that is
// recorded, the bucket points to it. c has its trace id filled in.
func (h *Histogram) ObserveTraced(v int64, c Context) {
	if h == nil {
		return
	}
	i := h.bucket(v)
	h.counts[i].Add(1)
	h.sum.Add(v)
	if c.Sampled() {
		h.exemplars[i].Store(&exemplar{v, time.Now(), c})
	}
}

// bucket finds the first bound that is not below v.
func (h *Histogram) bucket(v int64) int {
	for i, b := range h.bounds {
		if v <= b {
			return i
		}
	}
	return len(h.bounds)
}

func newMetrics(opt Options, res *resource.Resource) (*Metrics, error) {
	m := &Metrics{began: time.Now()}
	for i := range m.series {
		m.series[i] = make(map[string]*series)
	}
	reg := prometheus.NewRegistry()
	if err := errors.Join(
		reg.Register(collectors.NewGoCollector()),
		reg.Register(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})),
	); err != nil {
		return nil, fmt.Errorf("registering the metrics of the process: %w", err)
	}
	reader, err := otelprom.New(otelprom.WithRegisterer(reg), otelprom.WithProducer(m), otelprom.WithoutScopeInfo())
	if err != nil {
		return nil, fmt.Errorf("making the Prometheus exporter: %w", err)
	}
	opts := []sdkmetric.Option{sdkmetric.WithResource(res), sdkmetric.WithReader(reader)}
	if o := opt.Metrics.OTLP; o != nil {
		push, err := newMetricReader(*o, opt.Metrics.Every, m, opt.Log)
		if err != nil {
			return nil, err
		}
		opts = append(opts, sdkmetric.WithReader(push))
	}
	m.provider = sdkmetric.NewMeterProvider(opts...)
	m.handler = promhttp.HandlerFor(reg, promhttp.HandlerOpts{EnableOpenMetrics: true, ErrorLog: promLog{opt.Log}})
	m.Count(BuildInfo, opt.Version, runtime.Version()).Set(1)
	for _, result := range []string{"ok", "error"} {
		m.Count(Reloads, result) // there from the start, so that the first one is an increase
	}
	if r, ok := opt.Log.Handler().(*repeats); ok {
		m.Func(LogsSuppressed, r.suppressed.Load)
	}
	return m, nil
}

// Handler serves the metrics to Prometheus, with exemplars for those that ask
// for OpenMetrics.
func (m *Metrics) Handler() http.Handler { return m.handler }

// Count binds a counter or gauge to the values of its labels, in the order of
// the catalog. The same labels give the same Count.
func (m *Metrics) Count(id Metric, labels ...string) *Count {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.bind(id, labels, Counter, Gauge)
	if s.count == nil {
		s.count = new(Count)
	}
	return s.count
}

// Func binds a counter or gauge to a function that is asked when the metrics are
// read. It must not block. Several with the same labels are added up.
func (m *Metrics) Func(id Metric, read func() int64, labels ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.bind(id, labels, Counter, Gauge)
	s.read = append(s.read, read)
}

// Each binds a counter or gauge whose labels are known only when it is read: f
// calls its argument for each. It must not block.
func (m *Metrics) Each(id Metric, f func(tell func(value int64, labels ...string))) {
	if d := id.Definition(); d.Kind == Distribution {
		panic("telemetry: " + d.Name + " is a histogram")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.each[id] = append(m.each[id], f)
}

// Histogram binds a histogram. The same labels give the same one.
func (m *Metrics) Histogram(id Metric, labels ...string) *Histogram {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.bind(id, labels, Distribution)
	if s.hist == nil {
		b := id.Definition().Bounds
		s.hist = &Histogram{bounds: b, counts: make([]atomic.Uint64, len(b)+1), exemplars: make([]atomic.Pointer[exemplar], len(b)+1)}
	}
	return s.hist
}

// Config says which configuration is in force, or that another was refused.
func (m *Metrics) Config(hash string, ok bool) {
	if !ok {
		m.Count(Reloads, "error").Add(1)
		m.Count(ReloadOK).Set(0)
		return
	}
	m.Count(ReloadOK).Set(1)
	m.Count(ReloadTime).Set(time.Now().UnixNano())
	if old := m.config.Swap(&hash); old == nil {
		m.Each(ConfigInfo, func(tell func(int64, ...string)) { tell(1, *m.config.Load()) })
	} else {
		m.Count(Reloads, "ok").Add(1)
	}
}

// bind finds or makes a series. mu is held.
func (m *Metrics) bind(id Metric, labels []string, kinds ...Kind) *series {
	d := id.Definition()
	if !slices.Contains(kinds, d.Kind) {
		panic("telemetry: " + d.Name + " is another kind of metric")
	}
	d.check(labels)
	key := strings.Join(labels, "\x00")
	s := m.series[id][key]
	if s == nil {
		s = &series{labels: slices.Clone(labels)}
		m.series[id][key] = s
	}
	return s
}

func (d *Definition) check(labels []string) {
	if len(labels) != len(d.Labels) {
		panic(fmt.Sprintf("telemetry: %s has the labels %q, bound with %d", d.Name, d.Labels, len(labels)))
	}
}

func (m *Metrics) stop(ctx context.Context) error {
	m.stopOnce.Do(func() {
		ctx, cancel := context.WithTimeout(ctx, stopFlush)
		defer cancel()
		if err := m.provider.Shutdown(ctx); err != nil {
			m.stopErr = fmt.Errorf("closing the exporters of metrics: %w", err)
		}
	})
	return m.stopErr
}

// every is how often metrics are pushed.
func every(set time.Duration) time.Duration {
	return time.Duration(fromEnv(int(set/time.Millisecond), "OTEL_METRIC_EXPORT_INTERVAL", 60_000)) * time.Millisecond
}

// promLog makes lines of the exporter's errors.
type promLog struct{ *slog.Logger }

// Println implements promhttp.Logger.
func (l promLog) Println(v ...any) {
	l.Warn("serving metrics", "error", strings.TrimSpace(fmt.Sprintln(v...)))
}
