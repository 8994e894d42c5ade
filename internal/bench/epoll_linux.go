//go:build linux && (amd64 || arm64)

package bench

import (
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"
	"unsafe"
)

// epoll drives all connections from the caller's goroutine: one call waits for
// all of them, exact to the microsecond, one reads what came for one of them.
type epoll struct {
	fd     int
	socks  []*epollSock // by file descriptor
	byID   map[int]*epollSock
	events []syscall.EpollEvent
	buf    []byte
}

type epollSock struct {
	fd, id int
	out    []byte // not taken by the socket yet
}

// sysEpollPwait2 is not in package syscall. It has this number wherever this
// file is built, on Linux 5.11 and later.
const sysEpollPwait2 = 441

func newEpoll() (network, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("creating an epoll: %w", err)
	}
	e := &epoll{fd: fd, byID: make(map[int]*epollSock), events: make([]syscall.EpollEvent, 512), buf: make([]byte, 256<<10)}
	if _, err := e.poll(0); err != nil {
		_ = syscall.Close(fd)
		return nil, err
	}
	return e, nil
}

// poll waits for events, at most d.
func (e *epoll) poll(d time.Duration) (int, error) {
	t := syscall.NsecToTimespec(int64(max(d, 0)))
	n, _, errno := syscall.Syscall6(sysEpollPwait2, uintptr(e.fd), uintptr(unsafe.Pointer(&e.events[0])), uintptr(len(e.events)), uintptr(unsafe.Pointer(&t)), 0, 0)
	switch errno {
	case 0:
		return int(n), nil
	case syscall.EINTR:
		return 0, nil
	}
	return 0, fmt.Errorf("waiting for sockets: %w", errno)
}

// add takes a duplicate of the connection's descriptor, so that the runtime's
// own poller does not look at the socket too.
func (e *epoll) add(id int, c net.Conn) error {
	defer c.Close()
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return fmt.Errorf("a %T cannot be polled", c)
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return err
	}
	fd, errno := -1, syscall.Errno(0)
	err = raw.Control(func(old uintptr) {
		var n uintptr
		n, _, errno = syscall.Syscall(syscall.SYS_FCNTL, old, syscall.F_DUPFD_CLOEXEC, 0)
		fd = int(n)
	})
	if err == nil && errno != 0 {
		err = errno
	}
	if err != nil {
		return fmt.Errorf("taking a socket over: %w", err)
	}
	s := &epollSock{fd: fd, id: id}
	if err := e.control(syscall.EPOLL_CTL_ADD, s); err != nil {
		_ = syscall.Close(fd)
		return err
	}
	for len(e.socks) <= fd {
		e.socks = append(e.socks, nil)
	}
	e.socks[fd], e.byID[id] = s, s
	return nil
}

func (e *epoll) control(op int, s *epollSock) error {
	ev := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(s.fd)}
	if len(s.out) > 0 {
		ev.Events |= syscall.EPOLLOUT
	}
	if err := syscall.EpollCtl(e.fd, op, s.fd, &ev); err != nil {
		return fmt.Errorf("polling a socket: %w", err)
	}
	return nil
}

func (e *epoll) write(id int, b []byte) {
	s := e.byID[id]
	switch {
	case s == nil:
	case len(s.out) > 0:
		s.out = append(s.out, b...)
	default:
		if n := e.try(s, b); n < len(b) {
			s.out = append(s.out, b[n:]...)
			_ = e.control(syscall.EPOLL_CTL_MOD, s) // reading finds out what is wrong
		}
	}
}

// try writes what the socket takes. Other errors than that it is full are found
// by reading.
func (e *epoll) try(s *epollSock, b []byte) int {
	n, err := syscall.Write(s.fd, b)
	if err != nil {
		return 0
	}
	return n
}

func (e *epoll) backlog(id int) int {
	if s := e.byID[id]; s != nil {
		return len(s.out)
	}
	return 0
}

func (e *epoll) wait(d time.Duration, take func(int, []byte, error)) {
	n, err := e.poll(d)
	if err != nil {
		for id := range e.byID {
			take(id, nil, err)
		}
		return
	}
	for _, ev := range e.events[:n] {
		s := e.socks[ev.Fd]
		if s == nil { // dropped meanwhile
			continue
		}
		if ev.Events&syscall.EPOLLOUT != 0 && len(s.out) > 0 {
			s.out = s.out[e.try(s, s.out):]
			if len(s.out) == 0 {
				s.out = nil
				_ = e.control(syscall.EPOLL_CTL_MOD, s) // as in write
			}
		}
		if ev.Events&(syscall.EPOLLIN|syscall.EPOLLHUP|syscall.EPOLLERR) != 0 {
			e.read(s, take)
		}
	}
}

// read reads once: what is left makes the next wait return at once.
func (e *epoll) read(s *epollSock, take func(int, []byte, error)) {
	n, err := syscall.Read(s.fd, e.buf)
	switch {
	case err == nil && n > 0:
		take(s.id, e.buf[:n], nil)
	case err == nil:
		take(s.id, nil, io.EOF)
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.EINTR):
	default:
		take(s.id, nil, fmt.Errorf("reading: %w", err))
	}
}

func (e *epoll) drop(id int) {
	if s := e.byID[id]; s != nil {
		_ = syscall.Close(s.fd) // which takes it out of the epoll as well
		e.socks[s.fd] = nil
		delete(e.byID, id)
	}
}

func (e *epoll) close() {
	for id := range e.byID {
		e.drop(id)
	}
	_ = syscall.Close(e.fd) // there is nothing to lose
}
