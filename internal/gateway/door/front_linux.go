package door

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/wsrelay/relay/internal/rawio"
)

// inherited are the options of a listener that its connections have from the
// first moment: those that package net sets one by one for each. Keep-alives find
// out who is gone where there are no pings.
var inherited = [...]struct{ level, name, value int }{
	{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
	{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 15},
	{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 15},
	{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 9},
	{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
}

// deferFor is how many seconds the kernel keeps a connection to itself until
// something has come: clients speak first. So what is accepted can be read at once.
const deferFor = 1

// Listen opens a listener whose connections need no preparation.
func Listen(address string) (net.Listener, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) {
			for _, o := range inherited {
				_ = unix.SetsockoptInt(int(fd), o.level, o.name, o.value) // shorten looks whether it is so
			}
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, deferFor) // without, more goes the long way
		})
	}}
	return lc.Listen(context.Background(), "tcp", address)
}

// shortcut is a listener that carries handshakes out itself, and gives net/http
// what is left. A connection on it enters neither net/http nor Go's poller, which
// were a quarter of what it costs to connect: it is accepted, its request is there,
// and its descriptor goes to the loop that serves it.
//
// The shortcut is for what is plain: a whole request for a WebSocket and nothing
// behind it, there at the first look. It only looks: everything else, whatever is
// slow, long, malformed or unusual, lies unread when net/http gets the connection,
// so that all bounds and all answers are those of net/http.
type shortcut struct {
	front *Front
	addr  net.Addr
	file  *os.File // the listener
	raw   syscall.RawConn
	rest  chan accepted // to net/http; never closed
	over  chan struct{} // closed by Close
	once  sync.Once
}

// accepted is what net/http gets: a connection, or why there is none.
type accepted struct {
	conn net.Conn
	err  error
}

// shorten makes a shortcut of a listener made by Listen. This is the one place
// where the way in is chosen: with TLS, and where the options of a listener are
// not its connections' too, it is net/http's.
func (f *Front) shorten(ln net.Listener) net.Listener {
	tcp, ok := ln.(*net.TCPListener)
	if !ok {
		return ln
	}
	file, err := tcp.File() // net does not let others wait for its own
	if err != nil {
		return ln
	}
	s := &shortcut{front: f, addr: ln.Addr(), file: file, rest: make(chan accepted), over: make(chan struct{})}
	if s.raw, err = file.SyscallConn(); err != nil || !s.inherits() {
		_ = file.Close()
		return ln
	}
	_ = ln.Close() // it lives on in file
	f.work.Go(s.run)
	return s
}

func (s *shortcut) inherits() bool {
	all := true
	err := s.raw.Control(func(fd uintptr) {
		for _, o := range inherited {
			v, err := unix.GetsockoptInt(int(fd), o.level, o.name)
			all = all && err == nil && v == o.value
		}
	})
	return all && err == nil
}

// Accept implements net.Listener, for net/http: it also waits between errors, and
// logs them.
func (s *shortcut) Accept() (net.Conn, error) {
	select {
	case a := <-s.rest:
		return a.conn, a.err
	case <-s.over:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (s *shortcut) Close() (err error) {
	s.once.Do(func() {
		close(s.over)
		err = s.file.Close()
	})
	return err
}

// Addr implements net.Listener.
func (s *shortcut) Addr() net.Addr { return s.addr }

// run accepts until Close.
func (s *shortcut) run() {
	var c *rawio.Conn
	var err error
	next := func(fd uintptr) bool {
		c, err = rawio.Accept(int(fd))
		return !errors.Is(err, unix.EAGAIN)
	}
	for {
		if broken := s.raw.Read(next); broken != nil { // by Close, or else net/http ends
			s.give(accepted{err: broken})
			return
		}
		if err != nil {
			s.give(accepted{err: &net.OpError{Op: "accept", Net: "tcp", Addr: s.addr, Err: os.NewSyscallError("accept4", err)}})
			continue
		}
		c := c
		s.front.work.Go(func() {
			if !s.serve(c) {
				s.passOn(c)
			}
		})
	}
}

// give hands over to net/http; false when that takes nothing any more.
func (s *shortcut) give(a accepted) bool {
	select {
	case s.rest <- a:
		return true
	case <-s.over:
		return false
	}
}

// serve carries a handshake out, on a goroutine of its own: whoever judges the
// client may take seconds. False: it is for net/http.
func (s *shortcut) serve(c *rawio.Conn) (done bool) {
	h := newHead()
	n, err := c.Peek(h.buf[:])
	if err != nil && !errors.Is(err, unix.EAGAIN) {
		_ = c.Close() // gone already
		return true
	}
	r := h.request(n)
	if r == nil {
		return false
	}
	_, _ = c.Read(h.buf[:n]) // it is there
	r.RemoteAddr = c.Peer().String()
	w := newHandshake(s.front.ctx, c, h)
	defer w.finish()
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		done = true
		w.abort()
		if p != http.ErrAbortHandler {
			s.front.http.ErrorLog.Printf("http: panic serving %v: %v\n%s", r.RemoteAddr, p, debug.Stack())
		}
	}()
	s.front.http.Handler.ServeHTTP(w, r.WithContext(w.ctx))
	return true
}

// passOn leaves a connection to net/http.
func (s *shortcut) passOn(c *rawio.Conn) {
	nc, err := c.Std()
	if err != nil { // no descriptor to be had: to accept will fail too, and is told
		s.front.http.ErrorLog.Printf("http: passing a connection from %v on: %v", c.Peer(), err)
		return
	}
	if !s.give(accepted{conn: nc}) {
		_ = nc.Close()
	}
}
