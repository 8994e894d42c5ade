// Package telemetrytest lets tests see what relay tells: an OTLP receiver inside
// the test's own process for fast ones, and a real Jaeger for those that are
// about Jaeger.
package telemetrytest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	collectormetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	collectortrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/wsrelay/relay/telemetry/tracetree"
)

// patience is how long anything is waited for.
const patience = 20 * time.Second

// Collector takes OTLP over gRPC and HTTP and keeps it.
type Collector struct {
	collectortrace.UnimplementedTraceServiceServer

	GRPC, HTTP string // http://127.0.0.1:port each

	mu      sync.Mutex
	spans   []*tracetree.Span   // guarded by mu
	metrics []*metricspb.Metric // guarded by mu
	headers map[string]string   // of the last request; guarded by mu
	refuse  bool                // guarded by mu
	hold    chan struct{}       // guarded by mu; nil: requests are answered at once
	changed chan struct{}       // closed and replaced at every request; guarded by mu
	stop    context.CancelFunc
	ctx     context.Context
}

// NewCollector starts one on free ports of the loopback, and stops it with the
// test.
func NewCollector(t testing.TB) *Collector {
	t.Helper()
	return newCollector(t, "127.0.0.1:0", "127.0.0.1:0", nil)
}

// NewTLSCollector starts one that speaks TLS, and returns what trusts it.
func NewTLSCollector(t testing.TB) (*Collector, *tls.Config) {
	t.Helper()
	cert := httptest.NewUnstartedServer(nil) // for its certificate
	cert.StartTLS()
	cert.Close()
	pool := x509.NewCertPool()
	pool.AddCert(cert.Certificate())
	c := newCollector(t, "127.0.0.1:0", "127.0.0.1:0", &tls.Config{Certificates: cert.TLS.Certificates, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}})
	return c, &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
}

// NewCollectorAt starts one where another was.
func NewCollectorAt(t testing.TB, other *Collector) *Collector {
	t.Helper()
	return newCollector(t, strings.TrimPrefix(other.GRPC, "http://"), strings.TrimPrefix(other.HTTP, "http://"), nil)
}

func newCollector(t testing.TB, grpcAt, httpAt string, secure *tls.Config) *Collector {
	t.Helper()
	c := &Collector{changed: make(chan struct{})}
	c.ctx, c.stop = context.WithCancel(context.Background())
	gl, err := net.Listen("tcp", grpcAt)
	if err != nil {
		t.Fatal(err)
	}
	hl, err := net.Listen("tcp", httpAt)
	if err != nil {
		t.Fatal(err)
	}
	scheme, creds := "http://", insecure.NewCredentials()
	if secure != nil {
		scheme, creds = "https://", credentials.NewTLS(secure)
	}
	c.GRPC, c.HTTP = scheme+gl.Addr().String(), scheme+hl.Addr().String()
	if secure != nil {
		hl = tls.NewListener(hl, secure)
	}

	gs := grpc.NewServer(grpc.Creds(creds))
	collectortrace.RegisterTraceServiceServer(gs, c)
	collectormetrics.RegisterMetricsServiceServer(gs, metricsServer{c: c})
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/traces", c.postTraces)
	mux.HandleFunc("POST /v1/metrics", c.postMetrics)
	hs := &http.Server{Handler: mux, ReadHeaderTimeout: patience, ErrorLog: log.New(io.Discard, "", 0)}
	var served sync.WaitGroup
	served.Go(func() { _ = gs.Serve(gl) })
	served.Go(func() { _ = hs.Serve(hl) })
	t.Cleanup(func() {
		c.Stop()
		gs.Stop()
		_ = hs.Close()
		served.Wait()
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	stop := c.stop
	c.stop = func() { stop(); gs.Stop(); _ = hs.Close() }
	return c
}

// Stop ends it before the test does: connections are cut, ports are free again.
func (c *Collector) Stop() {
	c.mu.Lock()
	stop := c.stop
	c.mu.Unlock()
	stop()
}

// Refuse makes it answer Unavailable, or take everything again.
func (c *Collector) Refuse(yes bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refuse = yes
}

// Hold makes requests wait until release is called.
func (c *Collector) Hold() (release func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ch := make(chan struct{})
	c.hold = ch
	return sync.OnceFunc(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.hold = nil
		close(ch)
	})
}

// Spans lists what came, in the order of their start.
func (c *Collector) Spans() []*tracetree.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := slices.Clone(c.spans)
	tracetree.Sort(list)
	return list
}

// Changed is closed when the next request has been taken.
func (c *Collector) Changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

// Wait waits until what came is as it should be, and returns it.
func (c *Collector) Wait(t testing.TB, ok func([]*tracetree.Span) bool) []*tracetree.Span {
	t.Helper()
	deadline := time.After(patience)
	for {
		changed := c.Changed()
		list := c.Spans()
		if ok(list) {
			return list
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("the spans that were waited for did not come within %v; these did:\n%s", patience, tracetree.Shape(tracetree.Trees(list)))
		}
	}
}

// WaitSpans waits for so many spans.
func (c *Collector) WaitSpans(t testing.TB, n int) []*tracetree.Span {
	t.Helper()
	return c.Wait(t, func(l []*tracetree.Span) bool { return len(l) >= n })
}

// WaitMetric waits for a metric by its OTel name, and returns how it came last.
func (c *Collector) WaitMetric(t testing.TB, name string) *metricspb.Metric {
	t.Helper()
	deadline := time.After(patience)
	for {
		c.mu.Lock()
		changed := c.changed
		for _, m := range slices.Backward(c.metrics) {
			if m.Name == name {
				c.mu.Unlock()
				return m
			}
		}
		c.mu.Unlock()
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("no metric %s came within %v", name, patience)
		}
	}
}

// Header is a header of the last request, lower-case name.
func (c *Collector) Header(name string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.headers[name]
}

// admit notes a request, and waits or refuses as it was told to.
func (c *Collector) admit(ctx context.Context, headers map[string]string) error {
	c.mu.Lock()
	c.headers = headers
	hold, refuse := c.hold, c.refuse
	c.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		case <-c.ctx.Done():
			return status.Error(codes.Unavailable, "the collector is stopping")
		}
	}
	if refuse {
		return status.Error(codes.Unavailable, "the collector was told to refuse")
	}
	return nil
}

func (c *Collector) take(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
	close(c.changed)
	c.changed = make(chan struct{})
}

// Export implements the trace service.
func (c *Collector) Export(ctx context.Context, r *collectortrace.ExportTraceServiceRequest) (*collectortrace.ExportTraceServiceResponse, error) {
	if err := c.admit(ctx, grpcHeaders(ctx)); err != nil {
		return nil, err
	}
	c.take(func() { c.spans = append(c.spans, fromProto(r.ResourceSpans)...) })
	return &collectortrace.ExportTraceServiceResponse{}, nil
}

type metricsServer struct {
	collectormetrics.UnimplementedMetricsServiceServer
	c *Collector
}

// Export implements the metrics service.
func (s metricsServer) Export(ctx context.Context, r *collectormetrics.ExportMetricsServiceRequest) (*collectormetrics.ExportMetricsServiceResponse, error) {
	if err := s.c.admit(ctx, grpcHeaders(ctx)); err != nil {
		return nil, err
	}
	s.c.takeMetrics(r)
	return &collectormetrics.ExportMetricsServiceResponse{}, nil
}

func (c *Collector) takeMetrics(r *collectormetrics.ExportMetricsServiceRequest) {
	c.take(func() {
		for _, rm := range r.ResourceMetrics {
			for _, sm := range rm.ScopeMetrics {
				c.metrics = append(c.metrics, sm.Metrics...)
			}
		}
	})
}

func grpcHeaders(ctx context.Context) map[string]string {
	md, _ := metadata.FromIncomingContext(ctx)
	h := make(map[string]string, len(md))
	for k, v := range md {
		h[k] = v[0]
	}
	return h
}

func (c *Collector) postTraces(w http.ResponseWriter, r *http.Request) {
	var req collectortrace.ExportTraceServiceRequest
	if c.read(w, r, &req) {
		c.take(func() { c.spans = append(c.spans, fromProto(req.ResourceSpans)...) })
		answer(w, &collectortrace.ExportTraceServiceResponse{})
	}
}

func (c *Collector) postMetrics(w http.ResponseWriter, r *http.Request) {
	var req collectormetrics.ExportMetricsServiceRequest
	if c.read(w, r, &req) {
		c.takeMetrics(&req)
		answer(w, &collectormetrics.ExportMetricsServiceResponse{})
	}
}

func (c *Collector) read(w http.ResponseWriter, r *http.Request, into proto.Message) bool {
	h := make(map[string]string, len(r.Header))
	for k, v := range r.Header {
		h[strings.ToLower(k)] = v[0]
	}
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = proto.Unmarshal(body, into)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return false
	}
	if err := c.admit(r.Context(), h); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return false
	}
	return true
}

func answer(w http.ResponseWriter, m proto.Message) {
	b, _ := proto.Marshal(m) // an empty message can be written
	w.Header().Set("Content-Type", "application/x-protobuf")
	_, _ = w.Write(b) // the client may be gone
}

func fromProto(list []*tracepb.ResourceSpans) (spans []*tracetree.Span) {
	kinds := map[tracepb.Span_SpanKind]string{
		tracepb.Span_SPAN_KIND_INTERNAL: "internal", tracepb.Span_SPAN_KIND_SERVER: "server", tracepb.Span_SPAN_KIND_CLIENT: "client",
		tracepb.Span_SPAN_KIND_PRODUCER: "producer", tracepb.Span_SPAN_KIND_CONSUMER: "consumer",
	}
	for _, rs := range list {
		res := attributes(rs.Resource.GetAttributes())
		for _, ss := range rs.ScopeSpans {
			for _, s := range ss.Spans {
				n := &tracetree.Span{
					TraceID: hex.EncodeToString(s.TraceId), SpanID: hex.EncodeToString(s.SpanId), ParentID: hex.EncodeToString(s.ParentSpanId),
					Name: s.Name, Kind: kinds[s.Kind], Service: res["service.name"], Instance: res["service.instance.id"], Resource: res,
					Start: time.Unix(0, int64(s.StartTimeUnixNano)).UTC(), End: time.Unix(0, int64(s.EndTimeUnixNano)).UTC(),
					Attrs: attributes(s.Attributes), Failed: s.Status.GetCode() == tracepb.Status_STATUS_CODE_ERROR, Status: s.Status.GetMessage(),
				}
				for _, e := range s.Events {
					n.Events = append(n.Events, tracetree.Event{Name: e.Name, Time: time.Unix(0, int64(e.TimeUnixNano)).UTC(), Attrs: attributes(e.Attributes)})
				}
				for _, l := range s.Links {
					n.Links = append(n.Links, tracetree.Link{TraceID: hex.EncodeToString(l.TraceId), SpanID: hex.EncodeToString(l.SpanId)})
				}
				spans = append(spans, n)
			}
		}
	}
	return spans
}

func attributes(list []*commonpb.KeyValue) map[string]string {
	m := make(map[string]string, len(list))
	for _, kv := range list {
		m[kv.Key] = plain(kv.Value)
	}
	return m
}

func plain(v *commonpb.AnyValue) string {
	switch v := v.GetValue().(type) {
	case *commonpb.AnyValue_IntValue:
		return strconv.FormatInt(v.IntValue, 10)
	case *commonpb.AnyValue_BoolValue:
		return strconv.FormatBool(v.BoolValue)
	case *commonpb.AnyValue_DoubleValue:
		return strconv.FormatFloat(v.DoubleValue, 'g', -1, 64)
	case *commonpb.AnyValue_StringValue:
		return v.StringValue
	}
	return ""
}
