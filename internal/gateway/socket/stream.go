package socket

import (
	"crypto/tls"
	"io"
	"net"
	"sync"

	"github.com/gorilla/websocket"

	"github.com/wsrelay/relay/internal/wire"
)

// stream is a conn over any net.Conn: a goroutine reads, and another writes while
// something waits. Where the network can be written to without waiting, the
// group's writers do that, and the goroutine is for who is slow only.
type stream struct {
	conn
	net   net.Conn
	ws    *websocket.Conn
	under unwaiting // what TLS writes to; nil: writing may wait

	awake chan struct{} // closed by proceed; nil: nobody waits; guarded by mu
}

// unwaiting is a network connection that can keep what there is no room for: see
// prompt.
type unwaiting interface {
	begin()       // Write does not wait from now on
	behind() bool // it has kept something
	drain() error // writes that, and waits for it
}

// newStream serves nc, whose handshake is done, with what gorilla made of it.
func newStream(nc net.Conn, ws *websocket.Conn) *stream {
	s := &stream{net: nc, ws: ws}
	if t, ok := nc.(*tls.Conn); ok {
		if s.under, ok = t.NetConn().(unwaiting); ok {
			s.under.begin()
		}
	}
	ws.SetPingHandler(func(data string) error { s.pinged(data); return nil })
	ws.SetPongHandler(func(string) error { s.heard.Store(s.group.now()); return nil })
	ws.SetCloseHandler(func(code int, text string) error { s.closeReceived(code, text); return nil })
	return s
}

// begin implements line.
func (s *stream) begin() {
	s.ws.SetReadLimit(readLimit(s.opt))
	go s.read() // counted in Group.work since Upgrade
}

// read is the reader: it lives as long as the connection.
func (s *stream) read() {
	defer s.gone()
	for {
		if err := s.readOne(); err != nil {
			s.readDone(s.readEnded(err))
			return
		}
	}
}

// readDone returns when the network connection is closed: until then the sweeper
// must know of it.
func (s *stream) readDone(next then) {
	switch next {
	case thenWrite:
		s.await(func() bool { return s.ended })
		return
	case thenLinger:
		_, _ = io.Copy(io.Discard, s.net)
	case thenHangUp:
	}
	s.end(Cause{})
	_ = s.net.Close() // nothing is owed any more
}

var inputs = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

// readOne reads a message into a buffer that a quiet connection does not hold,
// and hands it over.
func (s *stream) readOne() error {
	kind, r, err := s.ws.NextReader()
	if err != nil {
		return err
	}
	now := s.group.now()
	s.heard.Store(now)
	s.message.Store(max(now, 1))
	defer s.message.Store(0)
	if kind == websocket.BinaryMessage {
		s.Close(wire.CloseUnsupported, "binary frames are not used: send text")
		_, err := io.Copy(io.Discard, r)
		return err
	}
	buf := inputs.Get().(*[]byte)
	defer func() {
		if cap(*buf) <= 64<<10 {
			inputs.Put(buf)
		}
	}()
	if *buf, err = readAll((*buf)[:0], r, s.opt.MaxMessage); err != nil {
		return err
	}
	s.message.Store(0)
	s.place.shard.counts.in.Add(int64(len(*buf)))
	if s.awaitResume() {
		s.handler.Message(*buf)
	}
	return nil
}

// awaitResume blocks while the connection is paused; false when messages are of
// no interest any more.
func (s *stream) awaitResume() (messages bool) {
	s.await(func() bool {
		var now bool
		messages, now = s.wants()
		return now
	})
	return messages
}

// await blocks until ok, which is asked with mu held and again after each
// proceed.
func (s *stream) await(ok func() bool) {
	for {
		s.mu.Lock()
		if ok() {
			s.mu.Unlock()
			return
		}
		if s.awake == nil {
			s.awake = make(chan struct{})
		}
		ch := s.awake
		s.mu.Unlock()
		<-ch
	}
}

// proceed implements line.
func (s *stream) proceed() {
	if s.awake != nil {
		close(s.awake)
		s.awake = nil
	}
}

// wake implements line.
func (s *stream) wake() {
	if s.under != nil {
		s.group.writers.add(&s.conn)
		return
	}
	s.group.work.Add(1) // the reader is still counted: not from zero
	go s.writeAll()
}

// behind implements line. TLS answers some of what comes by itself.
func (s *stream) behind() bool { return s.under != nil && s.under.behind() }

// chunk is how much is written at once. Progress is noticed chunk by chunk: a
// client that reads one chunk per WriteStall is slow, but not stuck.
const chunk = 16 << 10

// write implements line.
func (s *stream) write(buf []byte) {
	for range turns {
		s.mu.Lock()
		b := s.outgoing(buf[:0:chunk])
		if b == nil && s.behind() {
			s.writing = true
			s.waitForIt(0)
		}
		s.mu.Unlock()
		if b == nil {
			return
		}
		n, err := s.net.Write(b)
		s.mu.Lock()
		waits := err == nil && s.behind()
		if waits {
			s.waitForIt(n)
		}
		s.mu.Unlock()
		if waits {
			return
		}
		s.written(n, err)
	}
	s.group.writers.add(&s.conn)
}

// waitForIt gives a client that is slow a writer of its own: n bytes are on their
// way. mu is held.
func (s *stream) waitForIt(n int) {
	if s.ended {
		return
	}
	s.group.work.Add(1) // the reader is still counted: not from zero
	go func() {
		s.written(n, s.under.drain())
		s.writeAll()
	}()
}

var chunks = sync.Pool{New: func() any { b := make([]byte, 0, chunk); return &b }}

// writeAll writes what waits in as few calls as it can, and ends when nothing is
// left.
func (s *stream) writeAll() {
	defer s.group.work.Done()
	buf := chunks.Get().(*[]byte)
	defer chunks.Put(buf)
	for {
		s.mu.Lock()
		b := s.outgoing(*buf)
		s.mu.Unlock()
		if b == nil {
			return
		}
		n, err := s.net.Write(b)
		if err == nil && s.under != nil {
			err = s.under.drain()
		}
		s.written(n, err)
	}
}

// written reports what a write did.
func (s *stream) written(n int, err error) {
	s.mu.Lock()
	done := s.sent(n)
	s.mu.Unlock()
	switch {
	case err != nil:
		s.cut(Cause{By: Network, Err: err})
	case done:
		s.end(Cause{})
		_ = s.net.Close() // says goodbye, where TLS does
	}
}

// hangUp implements line: it never waits, while TLS takes up to 5 s to say
// goodbye to who does not read.
func (s *stream) hangUp() {
	nc := s.net
	if t, ok := nc.(*tls.Conn); ok {
		nc = t.NetConn()
	}
	_ = nc.Close() // nothing is owed any more
}
