package rawio

import (
	"io"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Conn is a TCP connection that never waits, and that Go's poller does not know:
// to tell it, and to take that back, are three system calls that a connection of
// which a loop takes care does not need. It is a net.Conn so that it can be handed
// around as one; where another would wait, Read and Write return EAGAIN. One
// goroutine at a time may use it.
type Conn struct {
	fd   int // -1: it is not ours any more
	peer netip.AddrPort
}

// Accept takes the next connection of a listener's descriptor, or returns EAGAIN.
// A connection that ended while it waited is skipped.
func Accept(listener int) (*Conn, error) {
	for {
		fd, sa, err := unix.Accept4(listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch err {
		case nil:
			return &Conn{fd, addrPort(sa)}, nil
		case unix.EINTR, unix.ECONNABORTED:
		default:
			return nil, err
		}
	}
}

// addrPort leaves the zone of an IPv6 address out: nobody is told apart by it.
func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

// Peer is where the connection comes from.
func (c *Conn) Peer() netip.AddrPort { return c.peer }

// Detach hands the descriptor over.
func (c *Conn) Detach() (fd int) {
	fd, c.fd = c.fd, -1
	return fd
}

// Std makes an ordinary connection of it. c is over, whether or not that fails.
func (c *Conn) Std() (net.Conn, error) {
	f := os.NewFile(uintptr(c.fd), "")
	nc, err := net.FileConn(f) // has a descriptor of its own
	c.fd = -1
	_ = f.Close()
	return nc, err
}

// Peek is recv(2) that leaves what it tells where it is.
func (c *Conn) Peek(b []byte) (int, error) { return result(peek(c.fd, b)) }

// Read implements net.Conn.
func (c *Conn) Read(b []byte) (int, error) { return result(Read(c.fd, b)) }

func result(n int, err error) (int, error) {
	if n == 0 && err == nil {
		return 0, io.EOF
	}
	return max(n, 0), err
}

// Write implements net.Conn, but may write a part.
func (c *Conn) Write(b []byte) (int, error) {
	n, err := Write(c.fd, b)
	if n >= 0 && n < len(b) {
		err = io.ErrShortWrite
	}
	return max(n, 0), err
}

// Close implements net.Conn.
func (c *Conn) Close() error {
	if c.fd < 0 {
		return net.ErrClosed
	}
	return unix.Close(c.Detach())
}

// LocalAddr implements net.Conn.
func (*Conn) LocalAddr() net.Addr { return nil }

// RemoteAddr implements net.Conn.
func (c *Conn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.peer) }

// SetDeadline implements net.Conn: there is nothing that could last too long.
func (*Conn) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements net.Conn.
func (*Conn) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements net.Conn.
func (*Conn) SetWriteDeadline(time.Time) error { return nil }
