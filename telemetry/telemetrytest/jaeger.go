package telemetrytest

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wsrelay/relay/telemetry/tracetree"
)

// buildWithin bounds the first build of Jaeger on a slow machine.
const buildWithin = 10 * time.Minute

// Jaeger is a real one with its storage in memory.
type Jaeger struct {
	GRPC, HTTP string // OTLP: http://127.0.0.1:port
	Query      string // API and page: http://127.0.0.1:port

	health string
}

// jaegerConfig is for Jaeger 2, which is an OTel collector; %[n]s are the
// addresses of StartJaeger.
const jaegerConfig = `
service:
  extensions: [jaeger_storage, jaeger_query, healthcheckv2]
  pipelines:
    traces: {receivers: [otlp], exporters: [jaeger_storage_exporter]}
  telemetry:
    metrics: {level: none}
    logs: {level: error}
extensions:
  jaeger_query:
    storage: {traces: memory}
    http: {endpoint: %[3]q}
    grpc: {endpoint: %[4]q}
  jaeger_storage:
    backends: {memory: {memory: {max_traces: 100000}}}
  healthcheckv2:
    use_v2: true
    http: {endpoint: %[5]q}
receivers:
  otlp:
    protocols:
      grpc: {endpoint: %[1]q}
      http: {endpoint: %[2]q}
exporters:
  jaeger_storage_exporter: {trace_storage: memory}
`

// StartJaeger starts a Jaeger on free ports of the loopback, and stops it with
// the test. Where it has not been built yet, that is done first, which takes
// minutes and needs the module proxy; make setup does it ahead of time.
func StartJaeger(t testing.TB) *Jaeger {
	t.Helper()
	bin := BuildJaeger(t)
	addr := freeAddresses(t, 5)
	j := &Jaeger{GRPC: "http://" + addr[0], HTTP: "http://" + addr[1], Query: "http://" + addr[2], health: "http://" + addr[4]}
	cfg := filepath.Join(t.TempDir(), "jaeger.yaml")
	text := fmt.Sprintf(jaegerConfig, addr[0], addr[1], addr[2], addr[3], addr[4])
	if err := os.WriteFile(cfg, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd := exec.Command(bin, "--config", cfg)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting Jaeger: %v", err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it keeps nothing
		<-exited
	})
	deadline := time.Now().Add(patience)
	for {
		resp, err := http.Get(j.health + "/status")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return j
			}
		}
		select {
		case err := <-exited:
			exited <- err
			t.Fatalf("Jaeger ended at once: %v\n%s", err, out.String())
		case <-time.After(50 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("Jaeger did not start within %v", patience)
		}
	}
}

// Trace waits until Jaeger has so many spans of a trace, and returns its roots.
func (j *Jaeger) Trace(t testing.TB, id [16]byte, spans int) []*tracetree.Span {
	t.Helper()
	return tracetree.Trees(j.wait(t, "/api/v3/traces/"+hex.EncodeToString(id[:]), spans))
}

// JSON is a trace as Jaeger's API gives it out.
func (j *Jaeger) JSON(t testing.TB, id [16]byte) []byte {
	t.Helper()
	b, err := j.load("/api/v3/traces/" + hex.EncodeToString(id[:]))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Find waits for so many traces that have a span of a service with an attribute,
// as somebody searches on Jaeger's page, and returns their roots. Searching for
// attributes is something that only the page's own API can do; the spans
// come from /api/v3/traces, because that API hides a parent that is also a link.
func (j *Jaeger) Find(t testing.TB, service, key, value string, traces int) []*tracetree.Span {
	t.Helper()
	q := url.Values{
		"service": {service}, "limit": {"100"}, "lookback": {"1h"},
		"tags": {fmt.Sprintf("{%q:%q}", key, value)},
	}
	var found struct {
		Data []struct {
			TraceID string `json:"traceID"`
		} `json:"data"`
	}
	poll(t, func() error {
		b, err := j.load("/api/traces?" + q.Encode())
		if err != nil {
			return err
		}
		if err := json.Unmarshal(b, &found); err != nil {
			return err
		}
		if len(found.Data) < traces {
			return fmt.Errorf("%d traces with %s=%s, want %d", len(found.Data), key, value, traces)
		}
		return nil
	})
	var list []*tracetree.Span
	for _, d := range found.Data {
		list = append(list, j.wait(t, "/api/v3/traces/"+d.TraceID, 1)...)
	}
	return tracetree.Trees(list)
}

func (j *Jaeger) wait(t testing.TB, path string, spans int) (list []*tracetree.Span) {
	t.Helper()
	poll(t, func() error {
		b, err := j.load(path)
		if err != nil {
			return err
		}
		if list, err = tracetree.Parse(b); err != nil {
			return err
		}
		if len(list) < spans {
			return fmt.Errorf("%s: %d spans, want %d:\n%s", path, len(list), spans, tracetree.Shape(tracetree.Trees(list)))
		}
		return nil
	})
	return list
}

// poll asks another process until it says what is wanted.
func poll(t testing.TB, ask func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := ask()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited for %v: %v", patience, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (j *Jaeger) load(path string) ([]byte, error) {
	resp, err := http.Get(j.Query + path)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, b)
	}
	return b, err
}

// BuildJaeger returns the path of Jaeger, built if need be by one test at a time.
func BuildJaeger(t testing.TB) string {
	t.Helper()
	root := moduleRoot(t)
	dir := filepath.Join(root, ".cache", "jaeger")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatalf("waiting for another build of Jaeger: %v", err)
	}
	bin := filepath.Join(dir, "jaeger")
	if _, err := os.Stat(bin); err == nil {
		return bin
	}
	ctx, cancel := context.WithTimeout(context.Background(), buildWithin)
	defer cancel()
	t.Log("building Jaeger: some minutes, once")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", bin, "github.com/jaegertracing/jaeger/cmd/jaeger")
	cmd.Dir = filepath.Join(root, "tools", "jaeger")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building Jaeger: %v\n%s", err, out)
	}
	return bin
}

func moduleRoot(t testing.TB) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/wsrelay/relay").Output()
	if err != nil {
		t.Fatalf("finding the module's folder: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// freeAddresses finds ports that nobody listens on. All are open at once, so
// that no two are the same.
func freeAddresses(t testing.TB, n int) []string {
	t.Helper()
	list := make([]string, n)
	for i := range list {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		list[i] = l.Addr().String()
	}
	return list
}
