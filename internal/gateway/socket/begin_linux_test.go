package socket

import (
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// watched is a kernel's set that looks at who is given to it.
type watched struct {
	syscall.RawConn
	look func()
}

func (w watched) Control(f func(fd uintptr)) error {
	w.look()
	return w.RawConn.Control(f)
}

// Nobody can close a descriptor between the moment from which on the loop may and
// that in which it is watched: its number might be another connection's by then.
func TestADescriptorIsWatchedBeforeItCanBeClosed(t *testing.T) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	set := os.NewFile(uintptr(epoll), "epoll")
	defer set.Close()
	raw, err := set.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(ends[1]) }()
	looked := false
	p, s := &polled{fd: ends[0]}, new(shard) // whose loop does not run
	s.raw = watched{raw, func() {
		looked = true
		if p.begun && p.mu.TryLock() {
			p.mu.Unlock()
			t.Error("it could be closed now")
		}
	}}
	p.place.shard, p.line = s, p
	p.begin()
	if !looked {
		t.Error("never watched")
	}
	_ = unix.Close(p.fd)
}
