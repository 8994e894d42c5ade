package redisbus

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"

	"github.com/wsrelay/relay/internal/rawio"
)

// quietly makes a connection over plain TCP read and write without a word to
// Go's scheduler, see package rawio. When there is nothing to read, or no room
// to write, the goroutine waits as it always does, with its deadlines.
func quietly(c net.Conn) net.Conn {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return c
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return c
	}
	return &quietConn{tcp, raw}
}

type quietConn struct {
	*net.TCPConn
	raw syscall.RawConn
}

// transfer is a read or a write under way. It is kept for the next one, because
// the function that RawConn takes would be allocated each time.
type transfer struct {
	call func(fd int, b []byte) (int, error)
	all  bool // not just what goes at once
	wait bool // while nothing goes
	b    []byte
	n    int
	err  error
	try  func(fd uintptr) bool
}

var transfers = sync.Pool{New: func() any {
	t := new(transfer)
	t.try = t.once
	return t
}}

// once transfers what can be; false: wait until more can.
func (t *transfer) once(fd uintptr) bool {
	for {
		n, err := t.call(int(fd), t.b[t.n:])
		switch err {
		case nil:
			t.n += n
			if n == 0 || !t.all || t.n == len(t.b) {
				return true
			}
		case syscall.EINTR:
		case syscall.EAGAIN:
			return !t.wait
		default:
			t.err = err
			return true
		}
	}
}

// Read implements net.Conn.
func (c *quietConn) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	t := transfers.Get().(*transfer)
	t.call, t.all, t.wait = rawio.Read, false, true
	n, err := c.run(t, b, c.raw.Read, "read")
	if err == nil && n == 0 {
		err = io.EOF
	}
	return n, err
}

// Write implements net.Conn.
func (c *quietConn) Write(b []byte) (int, error) {
	t := transfers.Get().(*transfer)
	t.call, t.all, t.wait = rawio.Write, true, true
	return c.run(t, b, c.raw.Write, "write")
}

// WriteAtOnce writes what there is room for, and does not wait for more.
func (c *quietConn) WriteAtOnce(b []byte) (int, error) {
	t := transfers.Get().(*transfer)
	t.call, t.all, t.wait = rawio.Write, true, false
	return c.run(t, b, c.raw.Write, "write")
}

// run transfers b by way of do, which is the connection's RawConn.Read or Write.
func (c *quietConn) run(t *transfer, b []byte, do func(func(fd uintptr) bool) error, op string) (n int, err error) {
	if len(b) > 0 {
		t.b, t.n, t.err = b, 0, nil
		err = do(t.try)
		n = t.n
		if err == nil && t.err != nil {
			err = &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: os.NewSyscallError(op, t.err)}
		}
		t.b = nil
	}
	transfers.Put(t)
	return n, err
}
