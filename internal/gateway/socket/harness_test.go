package socket

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"github.com/wsrelay/relay/internal/gateway/door"
)

func TestMain(m *testing.M) {
	if what := os.Getenv(clientsEnv); what != "" {
		os.Exit(beClients(what))
	}
	goleak.VerifyTestMain(m)
}

// kind is one way to make a Conn. Whatever is promised of a Conn holds for all.
type kind struct {
	name string
	tls  bool
	wrap func(net.Conn) net.Conn // what the HTTP server gets to see of a connection

	tight bool // the kernel keeps little for a client that does not read
	front bool // as an instance serves plain TCP, not as net/http does
}

// kinds are all that an instance can have: the choice is Upgrade's, by what
// it is given.
var kinds = []kind{
	{name: "tcp"}, // without a goroutine where the system allows
	{name: "front", front: true},
	{name: "stream", wrap: func(nc net.Conn) net.Conn { return struct{ net.Conn }{nc} }},
	{name: "tls", tls: true, wrap: newPrompt}, // written by the group where the system allows
	{name: "tls stream", tls: true},
}

// TestConn runs the suite over every kind of Conn.
func TestConn(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			for _, c := range suite {
				t.Run(c.name, func(t *testing.T) { c.test(t, k) })
			}
		})
	}
}

// server is a group behind an HTTP server, whose handler tells what it saw.
type server struct {
	*httptest.Server
	kind  kind
	group *Group
	opt   Options
	conns chan *peer
	time  time.Duration // of a group that does not look at the clock
}

// peer is the server's side of one connection.
type peer struct {
	Conn
	got    chan string
	closed chan Cause
	before func(*peer, []byte) // called in Message, if set
}

func (p *peer) Message(data []byte) {
	if p.before != nil {
		p.before(p, data)
	}
	p.got <- string(data)
}
func (p *peer) Closed(c Cause) { p.closed <- c }

// listener shows the server what kind.wrap makes of a connection.
type listener struct {
	net.Listener
	wrap func(net.Conn) net.Conn
}

func (l listener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.wrap(nc), nil
}

func serve(t testing.TB, k kind, opt Options, hooks ...func(*peer, []byte)) *server {
	t.Helper()
	return serveGroup(t, k, NewGroup(nil), opt, hooks...)
}

// serveStill is serve with a clock that only advance moves.
func serveStill(t testing.TB, k kind, opt Options) *server {
	t.Helper()
	return serveGroup(t, k, newGroup(), opt)
}

// advance lets time pass, and the sweeper look at everything.
func (s *server) advance(d time.Duration) {
	s.time += d
	for round := range sweepRounds {
		s.group.step(int64(s.time), round)
	}
}

func serveGroup(t testing.TB, k kind, g *Group, opt Options, hooks ...func(*peer, []byte)) *server {
	t.Helper()
	s := &server{kind: k, group: g, opt: opt, conns: make(chan *peer, 20_000)}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := &peer{got: make(chan string, 1000), closed: make(chan Cause, 2)}
		if len(hooks) > 0 {
			p.before = hooks[0]
		}
		c, err := s.group.Upgrade(w, r, s.opt)
		if err != nil {
			return
		}
		p.Conn = c
		s.conns <- p
		c.Start(p)
	})
	s.Server = httptest.NewUnstartedServer(handler)
	if k.front {
		_ = s.Listener.Close()
		s.Listener = fronted(t, handler, k.tight)
	}
	if k.wrap != nil {
		s.Listener = listener{s.Listener, k.wrap}
	}
	if k.tls {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		s.group.Stop(ctx)
		s.Close()
		if n := s.group.stats.QueuedBytes.Load(); n != 0 {
			t.Errorf("%d bytes are still counted as queued", n)
		}
		if n := s.group.stats.Open.Load(); n != 0 {
			t.Errorf("%d connections are still counted as open", n)
		}
	})
	return s
}

// fronted is a listener whose connections a front serves: the test's own server
// has nothing to do.
func fronted(t testing.TB, h http.Handler, tight bool) net.Listener {
	t.Helper()
	ln, err := door.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if tight { // its connections have it from the listener
		raw, err := ln.(*net.TCPListener).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		if e := raw.Control(func(fd uintptr) {
			err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_SNDBUF, tightBuffer)
		}); e != nil || err != nil {
			t.Fatal(e, err)
		}
	}
	f := door.NewFront(h, slog.New(slog.DiscardHandler))
	served := make(chan error, 1)
	go func() { served <- f.Serve(ln) }()
	over := make(chan struct{})
	return &nothing{ln, over, sync.OnceFunc(func() {
		close(over)
		_ = f.Shutdown(context.Background())
		<-served
	})}
}

// nothing is a listener that takes nothing.
type nothing struct {
	net.Listener
	over chan struct{}
	stop func()
}

func (l *nothing) Accept() (net.Conn, error) {
	<-l.over
	return nil, net.ErrClosed
}

func (l *nothing) Close() error {
	l.stop()
	return nil
}

func (s *server) dial(t testing.TB, d *websocket.Dialer) (*websocket.Conn, *peer) {
	t.Helper()
	if d == nil {
		d = &websocket.Dialer{Subprotocols: []string{"relay.v1", "bearer.x"}}
	}
	if s.kind.tls {
		d.TLSClientConfig = s.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
		d.TLSClientConfig.NextProtos = nil
	}
	ws, res, err := d.Dial("ws"+strings.TrimPrefix(s.URL, "http"), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	t.Cleanup(func() { _ = ws.Close() })
	p := wait(t, s.conns)
	// The answer to the handshake is here before who wrote it has noted that, and
	// a clock that only tests move may not go on meanwhile.
	c := p.Conn.(*conn)
	until(t, "the writer has finished", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return !c.writing
	})
	return ws, p
}

// raw connects and hands over the bare connection, for frames that no client
// would send.
func (s *server) raw(t testing.TB) (net.Conn, *peer) {
	t.Helper()
	ws, p := s.dial(t, nil)
	return ws.NetConn(), p
}

// tcp is what is under a connection.
func tcp(nc net.Conn) *net.TCPConn {
	if c, ok := nc.(*tls.Conn); ok {
		nc = c.NetConn()
	}
	return nc.(*net.TCPConn)
}

func wait[T any](t testing.TB, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(20 * time.Second):
		t.Fatal("nothing came in 20 s")
		panic("unreachable")
	}
}

// until waits for a state that nothing announces.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not in 20 s: %s", what)
		}
		<-time.After(time.Millisecond)
	}
}
