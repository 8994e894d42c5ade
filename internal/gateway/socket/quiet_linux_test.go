package socket

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// nobody is a handler that counts.
type nobody struct{ messages, closed atomic.Int64 }

func (n *nobody) Message([]byte) { n.messages.Add(1) }
func (n *nobody) Closed(Cause)   { n.closed.Add(1) }

// crowd connects n clients that are descriptors and nothing else, so that what
// grows in this process is the server.
func crowd(t testing.TB, addr net.Addr, n int) (fds []int) {
	t.Helper()
	to := &unix.SockaddrInet4{Port: addr.(*net.TCPAddr).Port, Addr: [4]byte{127, 0, 0, 1}}
	t.Cleanup(func() {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
	})
	hello := []byte("GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
	buf := make([]byte, 1<<10)
	for range n {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		fds = append(fds, fd)
		if err := unix.Connect(fd, to); err != nil {
			t.Fatal(err)
		}
		if _, err := unix.Write(fd, hello); err != nil {
			t.Fatal(err)
		}
		if n, err := unix.Read(fd, buf); err != nil || !bytes.Contains(buf[:n], []byte("101 ")) {
			t.Fatalf("%s %v", buf[:max(n, 0)], err)
		}
	}
	return fds
}

func crowded(t testing.TB, opt Options) (*Group, *nobody, net.Addr, chan Conn) {
	t.Helper()
	g, h := NewGroup(nil), new(nobody)
	conns := make(chan Conn, 10_000)
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := g.Upgrade(w, r, opt)
		if err != nil {
			t.Error(err)
			return
		}
		conns <- c
		c.Start(h)
	})}
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		g.Stop(ctx)
		_ = srv.Close()
	})
	return g, h, ln.Addr(), conns
}

func TestPlainTCPHasNoGoroutine(t *testing.T) {
	for _, k := range kinds[:2] {
		s := serve(t, k, Options{})
		_, p := s.dial(t, nil)
		if _, ok := p.Conn.(*conn).line.(*polled); !ok {
			t.Fatalf("%s: it is a %T", k.name, p.Conn.(*conn).line)
		}
	}
}

func TestQuietSocketsHoldNoGoroutineAndLittleMemory(t *testing.T) {
	const clients = 5000
	g, h, addr, conns := crowded(t, Options{PingEvery: time.Hour})
	crowd(t, addr, 10) // what is made once
	goroutines, before := runtime.NumGoroutine(), heap()
	fds := crowd(t, addr, clients)
	f := text("hello")
	for range 10 + clients {
		wait(t, conns).Send(f)
	}
	hello := frame(true, 1, []byte("hello"))
	buf := make([]byte, 1<<10)
	for _, fd := range fds {
		if _, err := unix.Read(fd, buf); err != nil {
			t.Fatal(err)
		}
		if _, err := unix.Write(fd, hello); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "all have spoken", func() bool { return h.messages.Load() == clients })
	until(t, "the handshakes are over", func() bool { return runtime.NumGoroutine() <= goroutines+5 })
	per := (heap() - before) / clients
	t.Logf("%d bytes per quiet socket, %d goroutines more", per, runtime.NumGoroutine()-goroutines)
	if per > 512 {
		t.Errorf("a quiet socket costs %d bytes", per)
	}
	for _, fd := range fds {
		_ = unix.Shutdown(fd, unix.SHUT_RDWR)
	}
	until(t, "all are gone at once", func() bool { return g.stats.Open.Load() == 10 && h.closed.Load() == clients })
}
