//go:build linux && !race

package redisbus

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"unsafe"
)

// quietly makes a connection read and write without a word to Go's scheduler.
//
// A system call through package net tells the scheduler that this goroutine may
// be gone for long, which wakes a thread that watches over such calls every 20
// microseconds. These calls never last: the socket does not block. At low rates
// that thread took a sixth of relay's CPU. When there is nothing to read, or no
// room to write, the goroutine waits as it always does, with its deadlines.
//
// The race detector learns from package net what happened before what, so its
// builds do without this.
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
	trap  uintptr
	b     []byte
	n     int
	errno syscall.Errno
	try   func(fd uintptr) bool
}

var transfers = sync.Pool{New: func() any {
	t := new(transfer)
	t.try = t.once
	return t
}}

// once transfers what can be without waiting; false: wait until more can.
func (t *transfer) once(fd uintptr) bool {
	for {
		n, _, errno := syscall.RawSyscall(t.trap, fd, uintptr(unsafe.Pointer(&t.b[t.n])), uintptr(len(t.b)-t.n))
		switch errno {
		case 0:
			t.n += int(n)
			if t.trap == syscall.SYS_READ || t.n == len(t.b) {
				return true
			}
		case syscall.EINTR:
		case syscall.EAGAIN:
			return false
		default:
			t.errno = errno
			return true
		}
	}
}

// run transfers b by way of do, which is the connection's RawConn.Read or Write.
func (c *quietConn) run(trap uintptr, b []byte, do func(func(fd uintptr) bool) error) (n int, err error) {
	t := transfers.Get().(*transfer)
	t.trap, t.b, t.n, t.errno = trap, b, 0, 0
	err = do(t.try)
	n = t.n
	if err == nil && t.errno != 0 {
		op := "read"
		if trap == syscall.SYS_WRITE {
			op = "write"
		}
		err = &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: os.NewSyscallError(op, t.errno)}
	}
	t.b = nil
	transfers.Put(t)
	return n, err
}

// Read implements net.Conn.
func (c *quietConn) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	n, err := c.run(syscall.SYS_READ, b, c.raw.Read)
	if err == nil && n == 0 {
		err = io.EOF
	}
	return n, err
}

// Write implements net.Conn.
func (c *quietConn) Write(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	return c.run(syscall.SYS_WRITE, b, c.raw.Write)
}
