// Package endtoend looks at relay the way an operator does: the real binary,
// twice, with Redis, plugins in two languages and Jaeger around it.
package endtoend

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	client "github.com/wsrelay/relay/client/go"
	"github.com/wsrelay/relay/internal/bus/redisbus/redistest"
	"github.com/wsrelay/relay/telemetry/telemetrytest"
)

const root = "../.."

// built makes the programs once for all tests.
var built = sync.OnceValues(func() (dir string, err error) {
	if dir, err = os.MkdirTemp("", "relay-endtoend"); err != nil {
		return "", err
	}
	for name, pkg := range map[string]string{"relay": ".", "obey": "./internal/app/testdata/obey", "traced": "./telemetry/endtoend/testdata/traced"} {
		cmd := exec.Command("go", "build", "-o", filepath.Join(dir, name), pkg)
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("building %s: %w\n%s", name, err, out)
		}
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := built(); err == nil {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

// stand is two instances and what is around them.
type stand struct {
	jaeger    *telemetrytest.Jaeger
	redis     *redistest.Server
	instances [2]*process
}

// process is one relay.
type process struct {
	url, admin string
	out        *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// configured are the secrets of relay.yaml.
var configured = telemetrytest.Plant("admin key", "filter's environment", "collector's key")

// config is relay.yaml; the verbs are the two listeners, Redis, the folder of the
// programs in Go, the example in Python, OTLP, OTLP over
// gRPC, and three secrets.
const config = `
listen: %[1]q
admin: {listen: %[2]q, key: %[10]q}
redis: {url: %[3]q}
endpoints:
  - {path: /ws, auth: [guests], queue: {max_bytes: 64MiB}, limits: {requests: 10000/s, frame_size: 1MiB}, trace: {sample: 100%%, client: trust}}
  - {path: /quiet, auth: [guests], trace: {sample: 0%%}}
auth:
  guests: {type: anonymous}
rooms:
  - {match: "support-{team}", create: anyone, join: anyone, history: {keep: 100}, filters: [words, tone, links]}
  - {match: "own-*", create: anyone, join: anyone, filters: [own]}
  - {match: "plain-*", create: anyone, join: anyone, messages: {max_size: 1MiB, rate: 10000/s, burst: 10000}}
filters:
  words: {type: builtin/words, config: {words: [darn]}}
  tone: {command: [%[4]q], unpinned: true, timeout: 10s, actions: [modify, reject, drop]}
  links: {command: [/usr/bin/python3, %[5]q], unpinned: true, mtls: off, timeout: 10s, config: {allow: [example.com]}}
  own: {command: [%[8]q], unpinned: true, timeout: 10s, env: {OTEL_EXPORTER_OTLP_ENDPOINT: %[9]q, OTEL_SERVICE_NAME: my-plugin, KEY: %[11]q}}
telemetry:
  traces: {otlp: %[6]q, protocol: %[7]s, promote: 100/s, headers: {x-key: %[12]q}}
  log: {level: debug, format: json}
drain: {over: 0s}
`

func newStand(t *testing.T) *stand {
	t.Helper()
	dir, err := built()
	if err != nil {
		t.Fatal(err)
	}
	s := &stand{jaeger: telemetrytest.StartJaeger(t), redis: redistest.Start(t)}
	for i, otlp := range []string{s.jaeger.GRPC, s.jaeger.HTTP} {
		s.instances[i] = s.start(t, dir, otlp, []string{"grpc", "http"}[i])
	}
	return s
}

func (s *stand) start(t *testing.T, dir, otlp, protocol string) *process {
	t.Helper()
	public, admin := free(t), free(t)
	python, err := filepath.Abs(filepath.Join(root, "examples", "filters", "links", "main.py"))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "relay.yaml")
	yaml := fmt.Sprintf(config, public, admin, s.redis.URL(), filepath.Join(dir, "obey"), python, otlp, protocol, filepath.Join(dir, "traced"), s.jaeger.GRPC,
		configured.Word("admin key"), configured.Word("filter's environment"), configured.Word("collector's key"))
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &process{url: "ws://" + public, admin: "http://" + admin, out: &lockedBuffer{}}
	cmd := exec.Command(filepath.Join(dir, "relay"), "serve", "-c", file)
	cmd.Stdout, cmd.Stderr = p.out, p.out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-done:
		case <-time.After(30 * time.Second):
			_ = cmd.Process.Kill()
			<-done
			t.Error("did not stop within 30 s")
		}
		if t.Failed() {
			t.Logf("%s said:\n%s", p.url, p.out)
		}
	})
	until(t, "relay is ready", func() error {
		select {
		case err := <-done:
			done <- err
			t.Fatalf("relay ended: %v\n%s", err, p.out)
		default:
		}
		_, err := p.get("/readyz")
		return err
	})
	return p
}

// get asks the admin listener.
func (p *process) get(path string) (string, error) {
	req, err := http.NewRequest(http.MethodGet, p.admin+path, nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, b)
	}
	return string(b), err
}

// dial connects and joins.
func (p *process) dial(t *testing.T, path, user, room string) *client.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, err := client.Dial(ctx, p.url+path, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if _, err := c.Join(ctx, room, &client.User{ID: user}, nil); err != nil {
		t.Fatalf("%s joining %s: %v", user, room, err)
	}
	return c
}

// until polls other processes.
func until(t *testing.T, what string, f func() error) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waiting until %s: %v", what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// stopReading joins and then never reads again; it returns its connection's id.
func stopReading(t *testing.T, p *process, room string) string {
	t.Helper()
	ws, resp, err := websocket.DefaultDialer.Dial(p.url+"/ws", http.Header{"Sec-Websocket-Protocol": {"relay.v1"}})
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	t.Cleanup(func() { _ = ws.Close() })
	var welcome struct {
		ConnectionID string `json:"connectionId"`
	}
	if err := ws.ReadJSON(&welcome); err != nil {
		t.Fatal(err)
	}
	if err := ws.WriteJSON(map[string]any{"type": "join", "id": "1", "roomId": room, "user": map[string]string{"id": "sleepy"}}); err != nil {
		t.Fatal(err)
	}
	var joined struct {
		Type string `json:"type"`
	}
	if err := ws.ReadJSON(&joined); err != nil || joined.Type != "joined" {
		t.Fatalf("joining: %v %v", joined, err)
	}
	return welcome.ConnectionID
}
