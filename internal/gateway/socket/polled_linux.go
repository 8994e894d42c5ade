package socket

import (
	"errors"
	"net"

	"github.com/gorilla/websocket"
	"golang.org/x/sys/unix"

	"github.com/wsrelay/relay/internal/rawio"
	"github.com/wsrelay/relay/internal/wire"
)

// polled is a conn over plain TCP that has no goroutine and, while it is quiet,
// no buffer: the loop of its shard reads it when the kernel says that there is
// something, and the writers of the group write it when something waits.
//
// Its descriptor is closed by the loop, or, if somebody is writing at that
// moment, right after: a number that the kernel has given to another connection
// must not be written to.
type polled struct {
	conn
	fd int

	// The loop's own.
	in   *inbound // nil: nothing
	deaf bool     // what comes is read and forgotten
	over bool     // Closed has been called; written under mu too

	begun    bool // guarded by mu
	unread   bool // there may be something to read after the pause; guarded by mu
	inWrite  bool // fd is being written to; guarded by mu
	blocked  bool // writing waits until the kernel has room; guarded by mu
	writable bool // the kernel said so while writing; guarded by mu
}

// newPolled takes the descriptor of nc over. nil when that cannot be: not plain
// TCP, or no descriptor to be had.
func newPolled(s *shard, nc net.Conn, opt *Options) *conn {
	fd := -1
	switch nc := nc.(type) {
	case *rawio.Conn:
		if s.start() {
			fd = nc.Detach()
		}
	case *net.TCPConn:
		if s.start() {
			fd = detach(nc)
		}
	}
	if fd < 0 {
		return nil
	}
	p := &polled{fd: fd}
	p.setUp(s, opt, p)
	return &p.conn
}

// detach has the connection live on under another descriptor, and closes tc: Go's
// own poller is not to be woken too. -1 when that cannot be.
func detach(tc *net.TCPConn) (fd int) {
	raw, err := tc.SyscallConn()
	if err != nil {
		return -1
	}
	if e := raw.Control(func(f uintptr) { fd, err = unix.FcntlInt(f, unix.F_DUPFD_CLOEXEC, 0) }); e != nil || err != nil {
		return -1
	}
	_ = tc.Close()
	return fd
}

// waiting is nc as a connection that waits, for who reads it from a goroutine.
func waiting(nc net.Conn) net.Conn {
	c, ok := nc.(*rawio.Conn)
	if !ok {
		return nc
	}
	std, err := c.Std()
	if err != nil {
		return c // is closed: the reader finds out
	}
	return std
}

// begin implements line. Once begun, the loop may close the descriptor, which it
// does with mu held: it is given to the kernel's set before that, or the number may
// be another connection's by then.
func (p *polled) begin() {
	p.mu.Lock()
	p.begun = true
	ended := p.ended
	err := p.place.shard.watch(p)
	p.mu.Unlock()
	if err != nil {
		p.cut(Cause{By: Network, Err: err})
	} else if ended {
		p.hangUp()
	}
}

// wake implements line.
func (p *polled) wake() { p.group.writers.add(&p.conn) }

// behind implements line.
func (*polled) behind() bool { return false }

// proceed implements line.
func (p *polled) proceed() {
	if p.unread {
		p.unread = false
		p.place.shard.toRead(p)
	}
}

// hangUp implements line.
func (p *polled) hangUp() { p.place.shard.toRead(p) }

const (
	// readSize is read at once, and bounds what a pause finds in our hands.
	readSize = 16 << 10
)

// read is one turn of reading. The loop calls it when there may be something,
// for no reason too. Only if the kernel has just named the connection, and had
// not seen its end by then, is it certain to name it again for what comes next:
// without, read on until nothing is there.
func (p *polled) read(named bool) {
	if p.over {
		return
	}
	p.mu.Lock()
	_, now := p.wants()
	begun, ended := p.begun, p.ended
	p.unread = begun && !now
	p.mu.Unlock()
	switch {
	case !begun: // begin comes back to it
		return
	case ended:
		p.finish()
		return
	case !now:
		return
	}
	if p.in != nil && len(p.in.raw) > 0 && !p.digest(nil) { // what a pause held back
		return
	}
	l := &p.place.shard.loop
	for range turns {
		n, err := rawio.Read(p.fd, l.buf)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			p.lineDone(err)
			return
		case n == 0:
			p.lineDone(errGone)
			return
		}
		if !p.deaf && !p.digest(l.buf[:n]) {
			return
		}
		if named && n < len(l.buf) {
			return
		}
	}
	p.place.shard.toRead(p)
}

// digest takes what was read apart, and hands whole messages over. False: do not
// read on.
func (p *polled) digest(b []byte) bool {
	now := max(p.group.now(), 1)
	p.heard.Store(now)
	if p.in != nil && len(p.in.raw) > 0 {
		p.in.raw = append(p.in.raw, b...)
		b = p.in.raw
	}
	parser := p.place.shard.parser(p.queue.deflated)
	whole := false // a message has been
	for len(b) > 0 {
		kind, h := p.in.scan(b, readLimit(p.opt), p.queue.deflated)
		n := h.size + h.body
		if h.first&0x0f == websocket.BinaryMessage && len(b) >= h.size && kind != broken {
			p.Close(wire.CloseUnsupported, "binary frames are not used: send text")
		}
		var err error
		switch kind {
		case incomplete:
			p.keep(b)
			if whole || p.message.Load() == 0 {
				p.message.Store(now)
			}
			return true
		case controlFrame:
			err = parser.control(&p.conn, b[:n])
		case fragment:
			p.inbound().add(b, h)
		case lastPiece:
			if p.paused() {
				p.message.Store(0)
				p.keep(b)
				return false
			}
			err = p.deliver(parser, b[:n], h)
			whole = true
		case broken:
			if p.in != nil && p.in.first != 0 {
				head, data := p.in.joined(false)
				err = parser.refuse(&p.conn, head, data, b[:h.size])
			} else {
				err = parser.refuse(&p.conn, b[:h.size])
			}
		}
		if err != nil {
			return p.readDone(err)
		}
		b = b[n:]
	}
	p.keep(nil)
	switch {
	case p.in == nil:
		p.message.Store(0)
	case whole || p.message.Load() == 0:
		p.message.Store(now)
	}
	return true
}

// deliver hands over the message that b ends.
func (p *polled) deliver(parser *parser, b []byte, h header) error {
	head, body := b[:h.size], b[h.size:]
	if p.in != nil && p.in.first != 0 {
		p.in.add(b, h)
		head, body = p.in.joined(true)
		p.in.data, p.in.first = nil, 0
	}
	data, err := parser.message(&p.conn, head, body)
	if err != nil {
		return err
	}
	p.place.shard.counts.in.Add(int64(len(data)))
	p.mu.Lock()
	messages, _ := p.wants()
	p.mu.Unlock()
	if messages {
		p.handler.Message(data)
	}
	return nil
}

// paused reports that no message is to be handed over now.
func (p *polled) paused() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, now := p.wants()
	p.unread = !now
	return !now
}

func (p *polled) inbound() *inbound {
	if p.in == nil {
		p.in = new(inbound)
	}
	return p.in
}

// keep holds rest until more has come; it may be the end of what is held.
func (p *polled) keep(rest []byte) {
	switch {
	case len(rest) > 0:
		in := p.inbound()
		if len(rest) != len(in.raw) || &rest[0] != &in.raw[0] {
			in.raw = append(in.raw[:0], rest...)
		}
	case p.in != nil && p.in.first == 0:
		p.in = nil
	case p.in != nil:
		p.in.raw = nil
	}
}

// readDone is called when nothing more is to be read as messages, though the
// network may bring more. True: read on.
func (p *polled) readDone(err error) bool {
	if p.readEnded(err) == thenHangUp {
		p.finish()
		return false
	}
	p.deaf, p.in = true, nil
	p.message.Store(0)
	return true
}

// lineDone is called when the network will bring nothing more.
func (p *polled) lineDone(err error) {
	if p.deaf && err == error(errGone) && p.stillWrites() {
		return // the client has said goodbye, and may yet read ours
	}
	p.readEnded(err)
	p.finish()
}

// stillWrites reports that our close frame waits to be written.
func (p *polled) stillWrites() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.peerDone && !p.closeSent && !p.ended
}

// finish ends the connection.
func (p *polled) finish() {
	p.end(Cause{})
	p.mu.Lock()
	p.over = true
	if !p.inWrite {
		_ = unix.Close(p.fd) // nothing is owed any more
	}
	p.mu.Unlock()
	p.in = nil
	p.gone()
}

// writableNow is called when the kernel has room for more.
func (p *polled) writableNow() {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.over:
	case p.blocked:
		p.blocked = false
		p.group.writers.add(&p.conn)
	default:
		p.writable = true
	}
}

// write implements line: one turn of writing what waits.
func (p *polled) write(buf []byte) {
	for range turns {
		p.mu.Lock()
		b := p.outgoing(buf)
		p.inWrite, p.writable = b != nil, false
		p.mu.Unlock()
		if b == nil {
			return
		}
		n, err := rawio.Write(p.fd, b)
		if !p.written(max(n, 0), err) {
			return
		}
	}
	p.group.writers.add(&p.conn)
}

// written reports what a write did; true: go on.
func (p *polled) written(n int, err error) bool {
	full := errors.Is(err, unix.EAGAIN)
	p.mu.Lock()
	p.inWrite = false
	if p.over {
		_ = unix.Close(p.fd) // finish left it to us
	}
	done := p.sent(n)
	p.blocked = full && !p.writable && !p.ended
	on := !p.blocked
	p.mu.Unlock()
	switch {
	case err != nil && !full && !errors.Is(err, unix.EINTR):
		p.cut(Cause{By: Network, Err: err})
	case done:
		p.cut(Cause{})
	}
	return on
}
