package socket

import (
	"errors"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/wsrelay/relay/internal/rawio"
)

// loop reads the connections of a shard that have no goroutine of their own. It
// is one goroutine, the reader, whatever their number: it sleeps until the kernel
// names connections that have something to read or room to write again, reads
// those, and calls their handlers. Who writes them is the matter of writers.
//
// The kernel's set (epoll) is edge-triggered: it names a connection once when
// something comes, and again only when more has come. So there is no call to
// take back an interest in a pause, but who does not read to the end has to
// remember it: that is what toRead is for. All that the kernel says is taken as
// a hint; a connection that is read without need finds nothing.
//
// The set is itself known to Go's poller, which puts the reader to sleep: no
// thread waits in it.
type loop struct {
	once    sync.Once
	running bool            // written in once
	set     *os.File        // of the kernel, of who is watched
	raw     syscall.RawConn // of set
	buf     []byte          // the reader's
	parsers [2]parser       // the reader's: plain, deflated

	work   sync.Mutex // guards what follows; taken after conn.mu
	reads  []*polled  // to be read though the kernel does not say so
	asleep bool       // the reader sleeps, or is about to
	bell   int        // an eventfd in the set, to wake it; -1: it has ended
}

const noSlot = -1 // in the kernel's set: the bell

// start starts the loop, if it does not run yet; false when it cannot.
func (s *shard) start() bool {
	s.once.Do(func() {
		fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
		if err != nil {
			return
		}
		bell, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
		if err != nil {
			_ = unix.Close(fd)
			return
		}
		_ = unix.SetNonblock(fd, true) // for os.NewFile: it is to be polled
		s.set, s.bell = os.NewFile(uintptr(fd), "epoll"), bell
		s.raw, err = s.set.SyscallConn()
		if err == nil {
			err = s.watchFd(bell, noSlot, unix.EPOLLIN)
		}
		if err != nil {
			_ = s.set.Close()
			_ = unix.Close(bell)
			return
		}
		s.buf = make([]byte, readSize)
		s.parsers[1].deflated = true
		s.running = true
		s.group.own.Go(s.reader)
	})
	return s.running
}

// stop ends the loop, when no connection is left.
func (s *shard) stop() {
	s.once.Do(func() {}) // nor will it start
	if s.running {
		_ = s.set.Close() // the reader finds out
	}
}

func (s *shard) parser(deflated bool) *parser {
	if deflated {
		return &s.parsers[1]
	}
	return &s.parsers[0]
}

func (s *shard) watch(p *polled) error {
	return s.watchFd(p.fd, p.place.slot, unix.EPOLLIN|unix.EPOLLOUT|unix.EPOLLRDHUP)
}

func (s *shard) watchFd(fd int, slot int32, events uint32) (err error) {
	e := s.raw.Control(func(set uintptr) {
		err = unix.EpollCtl(int(set), unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events | unix.EPOLLET, Fd: slot})
	})
	return errors.Join(e, err)
}

// toRead has the reader look at p.
func (l *loop) toRead(p *polled) {
	l.work.Lock()
	defer l.work.Unlock()
	l.reads = append(l.reads, p)
	if l.asleep && l.bell >= 0 {
		l.asleep = false
		_, _ = rawio.Write(l.bell, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // full would do too
	}
}

func (s *shard) reader() {
	events := make([]unix.EpollEvent, 256)
	var named, list []*polled
	for {
		n, ok := s.await(events)
		if !ok {
			break
		}
		s.group.beginRow()
		named = s.lookUp(events[:n], named[:0])
		for i, p := range named {
			if p == nil {
				continue
			}
			if events[i].Events&unix.EPOLLOUT != 0 {
				p.writableNow()
			}
			if e := events[i].Events &^ unix.EPOLLOUT; e != 0 {
				p.read(e == unix.EPOLLIN)
			}
		}
		clear(named)
		s.work.Lock()
		list, s.reads = s.reads, list[:0]
		s.work.Unlock()
		for _, p := range list {
			p.read(false)
		}
		clear(list)
		s.group.endRow()
	}
	s.work.Lock()
	defer s.work.Unlock()
	_ = unix.Close(s.bell)
	s.bell = -1
}

// await asks the kernel for events, and sleeps until there are some or
// something else is to be done; false after stop.
func (s *shard) await(events []unix.EpollEvent) (n int, ok bool) {
	poll := func(fd uintptr) bool {
		n = rawio.Poll(int(fd), events)
		return n > 0
	}
	s.work.Lock()
	s.asleep = len(s.reads) == 0
	sleep := s.asleep
	s.work.Unlock()
	if !sleep {
		err := s.raw.Control(func(fd uintptr) { poll(fd) })
		return n, err == nil
	}
	err := s.raw.Read(poll)
	s.work.Lock()
	s.asleep = false
	s.work.Unlock()
	return n, err == nil
}

// lookUp finds the connections that the kernel names; nil for those that are
// gone.
func (s *shard) lookUp(events []unix.EpollEvent, list []*polled) []*polled {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range events {
		var p *polled
		if e.Fd != noSlot {
			if c := s.conns[e.Fd]; c != nil {
				p, _ = c.line.(*polled)
			}
		}
		list = append(list, p)
	}
	return list
}
