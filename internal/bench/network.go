package bench

import (
	"net"
	"sync"
	"time"
)

// network carries bytes for many connections. Its methods are for one goroutine.
type network interface {
	// add takes over a connection under a number of the caller's.
	add(id int, c net.Conn) error
	// write sends, or keeps for later what the socket does not take now. Errors
	// come through wait.
	write(id int, b []byte)
	// backlog is how many bytes of a connection are kept for later.
	backlog(id int) int
	// wait hands over what has come, or waits for something at most d. data is
	// valid during the call only; with an error the connection is over.
	wait(d time.Duration, take func(id int, data []byte, err error))
	// drop ends one connection, close all of them.
	drop(id int)
	close()
}

// newNetwork chooses: epoll where there is one and nothing is encrypted.
func newNetwork(encrypted bool) network {
	if !encrypted {
		if nw, err := newEpoll(); err == nil {
			return nw
		}
	}
	return newStreams()
}

// streams is the network for any system, and for TLS: a goroutine per
// connection reads, and one writes while there is something to write.
type streams struct {
	came  chan chunk
	done  chan struct{}
	conns map[int]*stream
	work  sync.WaitGroup
	timer *time.Timer
}

type chunk struct {
	id   int
	data *[]byte // nil with err
	err  error
}

type stream struct {
	net.Conn
	work *sync.WaitGroup

	mu      sync.Mutex
	out     []byte // guarded by mu
	writing bool   // guarded by mu
}

var streamBuffers = sync.Pool{New: func() any { b := make([]byte, 16<<10); return &b }}

func newStreams() *streams {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return &streams{came: make(chan chunk, 1024), done: make(chan struct{}), conns: make(map[int]*stream), timer: t}
}

func (s *streams) add(id int, c net.Conn) error {
	st := &stream{Conn: c, work: &s.work}
	s.conns[id] = st
	s.work.Go(func() { s.read(id, st) })
	return nil
}

func (s *streams) read(id int, st *stream) {
	for {
		b := streamBuffers.Get().(*[]byte)
		*b = (*b)[:cap(*b)]
		n, err := st.Read(*b)
		*b = (*b)[:n]
		if n > 0 && !s.bring(chunk{id: id, data: b}) {
			return
		}
		if err != nil {
			s.bring(chunk{id: id, err: err})
			return
		}
	}
}

// bring hands something to who waits; false when nobody will any more.
func (s *streams) bring(k chunk) bool {
	select {
	case s.came <- k:
		return true
	case <-s.done:
		return false
	}
}

func (s *streams) write(id int, b []byte) {
	st := s.conns[id]
	if st == nil {
		return
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.out = append(st.out, b...)
	if !st.writing {
		st.writing = true
		st.work.Go(st.flush)
	}
}

// flush writes until nothing is left. An error is left to the reader to find.
func (st *stream) flush() {
	var spare []byte
	for {
		st.mu.Lock()
		b := st.out
		st.out = spare[:0]
		if len(b) == 0 {
			st.writing = false
			st.mu.Unlock()
			return
		}
		st.mu.Unlock()
		_, _ = st.Write(b)
		spare = b
	}
}

func (s *streams) backlog(id int) int {
	st := s.conns[id]
	if st == nil {
		return 0
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	return len(st.out)
}

func (s *streams) wait(d time.Duration, take func(int, []byte, error)) {
	if d > 0 {
		s.timer.Reset(d)
		defer s.timer.Stop()
		select {
		case k := <-s.came:
			s.hand(k, take)
		case <-s.timer.C:
			return
		}
	}
	for range cap(s.came) { // what is there already, but not for ever
		select {
		case k := <-s.came:
			s.hand(k, take)
		default:
			return
		}
	}
}

func (s *streams) hand(k chunk, take func(int, []byte, error)) {
	if k.data == nil {
		take(k.id, nil, k.err)
		return
	}
	take(k.id, *k.data, nil)
	streamBuffers.Put(k.data)
}

func (s *streams) drop(id int) {
	if st := s.conns[id]; st != nil {
		_ = st.Close() // its reader ends
		delete(s.conns, id)
	}
}

func (s *streams) close() {
	close(s.done)
	for id := range s.conns {
		s.drop(id)
	}
	s.work.Wait()
}
