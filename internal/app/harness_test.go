package app_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	client "github.com/wsrelay/relay/client/go"
	"github.com/wsrelay/relay/config"
	"github.com/wsrelay/relay/internal/app"
	"github.com/wsrelay/relay/internal/tlstest"
	"github.com/wsrelay/relay/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// logs collects what an instance writes.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// instance is a relay as `relay serve` runs it, in this process.
type instance struct {
	*app.App
	t     *testing.T
	logs  *logs
	trust *tls.Config // of its clients; nil: it serves without TLS
}

// open is what most tests need: guests may do everything, with history.
const open = `
listen: "127.0.0.1:0"
admin: {listen: "127.0.0.1:0"}
endpoints: [{path: /ws, auth: [guests], limits: {requests: 100000/s, connects: 100000/s}}]
auth: {guests: {type: anonymous}}
rooms: [{match: "*", create: anyone, join: anyone, members: {grace: 0s}, history: {}}]
drain: {over: 0s}
`

func build(yaml string, environ ...string) (*app.App, *logs, error) {
	return buildWith(yaml, app.Options{}, environ...)
}

func buildWith(yaml string, opt app.Options, environ ...string) (*app.App, *logs, error) {
	l := &logs{}
	cfg, src, err := config.Parse("relay.yaml", []byte(yaml), environ)
	if err != nil {
		return nil, l, err
	}
	log, err := telemetry.NewLog(telemetry.LogOptions{Output: l, Level: "debug", Format: "json"})
	if err != nil {
		return nil, l, err
	}
	opt.Log = log
	a, err := app.New(cfg, src, opt)
	return a, l, err
}

func start(t *testing.T, yaml string, environ ...string) *instance {
	t.Helper()
	return startWith(t, yaml, app.Options{}, environ...)
}

func startWith(t *testing.T, yaml string, opt app.Options, environ ...string) *instance {
	t.Helper()
	a, l, err := buildWith(yaml, opt, environ...)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	i := &instance{App: a, t: t, logs: l}
	t.Cleanup(func() { i.stop() })
	return i
}

func (i *instance) stop() {
	i.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := i.Stop(ctx); err != nil {
		i.t.Errorf("stop: %v", err)
	}
}

// overBoth runs a test over both kinds of connection that an instance has: those
// of plain TCP have no goroutine on Linux, those of TLS have.
func overBoth(t *testing.T, yaml string, test func(*testing.T, *instance)) {
	t.Run("tcp", func(t *testing.T) { test(t, start(t, yaml)) })
	t.Run("tls", func(t *testing.T) {
		pair, err := tlstest.New(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		i := start(t, yaml+pair.YAML())
		i.trust = pair.Trust
		test(t, i)
	})
}

func (i *instance) url() string {
	if i.trust != nil {
		return "wss://" + i.Addr().String() + "/ws"
	}
	return "ws://" + i.Addr().String() + "/ws"
}

// guest connects somebody with no more to say than needs be.
func (i *instance) guest(t *testing.T) *peer {
	t.Helper()
	return dial(t, i.url(), client.Options{TLSConfig: i.trust})
}

// peer is a client that keeps what it hears.
type peer struct {
	*client.Conn
	t *testing.T

	mu    sync.Mutex
	heard []*client.Event // guarded by mu
	news  chan struct{}   // one token when heard has grown
}

func dial(t *testing.T, url string, opt client.Options) *peer {
	t.Helper()
	p, err := tryDial(t, url, opt)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func tryDial(t *testing.T, url string, opt client.Options) (*peer, error) {
	p := &peer{t: t, news: make(chan struct{}, 1)}
	opt.Handler = func(e *client.Event) {
		p.mu.Lock()
		p.heard = append(p.heard, e)
		p.mu.Unlock()
		select {
		case p.news <- struct{}{}:
		default:
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, err := client.Dial(ctx, url, opt)
	if err != nil {
		return nil, err
	}
	p.Conn = c
	t.Cleanup(c.Abort)
	return p, nil
}

// await waits for the first event that matches, and forgets it and those before.
func (p *peer) await(what string, match func(*client.Event) bool) *client.Event {
	p.t.Helper()
	limit := time.After(20 * time.Second)
	for {
		p.mu.Lock()
		for i, e := range p.heard {
			if match(e) {
				p.heard = p.heard[i+1:]
				p.mu.Unlock()
				return e
			}
		}
		p.mu.Unlock()
		select {
		case <-p.news:
		case <-limit:
			p.t.Fatalf("no %s came", what)
		}
	}
}

func (p *peer) next(kind string) *client.Event {
	p.t.Helper()
	return p.await(kind, func(e *client.Event) bool { return e.Type == kind })
}

func (p *peer) do(r *client.Request) *client.Event {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 20*time.Second)
	defer cancel()
	e, err := p.Do(ctx, r)
	if err != nil {
		p.t.Fatalf("%s: %v", r.Type, err)
	}
	return e
}

// refused is the code of the error that answers a request.
func (p *peer) refused(r *client.Request) string {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 20*time.Second)
	defer cancel()
	_, err := p.Do(ctx, r)
	var e *client.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return fmt.Sprint(err)
}

// closed waits for the end and returns its close code.
func (p *peer) closed() int {
	p.t.Helper()
	select {
	case <-p.Done():
	case <-time.After(20 * time.Second):
		p.t.Fatal("the connection stays open")
	}
	var ce *client.CloseError
	if errors.As(p.Err(), &ce) {
		return ce.Code
	}
	return -1
}

func user(id string) *client.User { return &client.User{ID: id, Name: strings.ToUpper(id)} }

func text(s string) json.RawMessage {
	b, _ := json.Marshal(s)
	return b
}

// status asks an HTTP address and returns status and body.
func status(t *testing.T, url string, header http.Header) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		req.Header[k] = v
	}
	if h := header.Get("Host"); h != "" {
		req.Host = h
	}
	res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var b bytes.Buffer
	_, _ = b.ReadFrom(res.Body)
	return res.StatusCode, b.String()
}

// handshake tries to connect with a header and returns the HTTP status and what
// the body says.
func handshake(t *testing.T, url string, h http.Header) (int, string) {
	t.Helper()
	d := websocket.Dialer{HandshakeTimeout: 10 * time.Second}
	ws, res, err := d.DialContext(t.Context(), url, h)
	if err == nil {
		_ = ws.Close()
		return res.StatusCode, ""
	}
	if res == nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var b bytes.Buffer
	_, _ = b.ReadFrom(res.Body)
	return res.StatusCode, b.String()
}
