package socket

import (
	"errors"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/wsrelay/relay/internal/rawio"
)

// loop serves the connections of a shard that have no goroutine of their own.
// It is two goroutines, whatever the number of connections:
//
//   - The reader sleeps until the kernel names connections that have something
//     to read or room to write again. It reads those, and calls their handlers.
//   - The writer sleeps until something is queued somewhere. It goes through the
//     list of connections with something queued, and writes for each all that
//     waits in one call. What is queued meanwhile waits for its next round: the
//     busier a room, the more goes out at once. When there is little, who queues
//     it writes it himself (Group.Gather): to wake a goroutine up costs more.
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
	set     *os.File
	raw     syscall.RawConn // of set
	buf     []byte          // the reader's
	parsers [2]parser       // the reader's: plain, deflated

	work    sync.Mutex    // guards what follows; taken after conn.mu
	reads   []*polled     // to be read though the kernel does not say so
	asleep  bool          // the reader sleeps, or is about to
	bell    int           // an eventfd in the set, to wake it; -1: it has ended
	writes  []*polled     // to be written, each once
	writing bool          // the writer is awake
	started chan struct{} // to wake it; never closed, for many send; nil: there is no loop
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
		s.started = make(chan struct{}, 1)
		s.group.own.Go(s.reader)
		s.group.own.Go(s.writer)
	})
	return s.started != nil
}

// stop ends the loop, when no connection is left.
func (s *shard) stop() {
	s.once.Do(func() {}) // nor will it start
	if s.started == nil {
		return
	}
	_ = s.set.Close() // the writer hears of it from Group.stop
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

// gatherMax is how many connections wait at most until somebody who gathers
// writes them; with more, the writer begins at once, on a core of its own.
const gatherMax = 64

// toWrite has p written, which is not on the list of those to be.
func (l *loop) toWrite(p *polled) {
	l.work.Lock()
	l.writes = append(l.writes, p)
	wake := !l.writing && (p.group.gathering.Load() == 0 || len(l.writes) > gatherMax)
	l.writing = l.writing || wake
	l.work.Unlock()
	if wake {
		l.started <- struct{}{} // has room: the writer sleeps
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

func (s *shard) writer() {
	k := new(round)
	for {
		select {
		case <-s.started:
			for s.take(k) {
				k.write()
			}
		case <-s.group.stop:
			return
		}
	}
}

// flush writes what waits, on the goroutine of the caller, unless the writer is
// at it. What is queued meanwhile is for the writer.
func (s *shard) flush() {
	s.work.Lock()
	if s.writing || len(s.writes) == 0 {
		s.work.Unlock()
		return
	}
	s.writing = true
	s.work.Unlock()
	k := rounds.Get().(*round)
	defer rounds.Put(k)
	if s.take(k) {
		k.write()
	}
	s.work.Lock()
	s.writing = len(s.writes) > 0
	wake := s.writing
	s.work.Unlock()
	if wake {
		s.started <- struct{}{} // has room: the writer sleeps
	}
}

// take moves the list of who is to be written into k; false when there is
// nobody: whoever wrote is done.
func (s *shard) take(k *round) bool {
	s.work.Lock()
	defer s.work.Unlock()
	k.list, s.writes = s.writes, k.list[:0]
	s.writing = len(k.list) > 0
	return s.writing
}

// round is one round of writing.
type round struct {
	list []*polled
	buf  [64 << 10]byte
}

var rounds = sync.Pool{New: func() any { return new(round) }}

func (k *round) write() {
	for _, p := range k.list {
		p.write(k.buf[:0])
	}
	clear(k.list)
}
