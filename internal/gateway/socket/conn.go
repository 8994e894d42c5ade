package socket

import (
	"crypto/tls"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"unicode/utf8"

	"github.com/gorilla/websocket"

	"github.com/wsrelay/relay/internal/wire"
)

// conn is a Conn with a goroutine that reads, and one that writes only while
// something is queued.
type conn struct {
	group    *Group
	opt      Options
	net      net.Conn
	ws       *websocket.Conn
	deflated bool // permessage-deflate was agreed
	handler  Handler

	heard   atomic.Int64 // coarse time of the last frame from the client
	message atomic.Int64 // coarse time at which the message being read began; 0: none

	mu        sync.Mutex
	queue     queue         // guarded by mu
	writing   bool          // a writer runs; guarded by mu
	progress  int64         // coarse time of the last write, or since when bytes wait; guarded by mu
	pinged    int64         // coarse time of the last ping; 0: none yet; guarded by mu
	pauses    int           // guarded by mu
	wake      chan struct{} // closed when a pause or the connection ends; nil: nobody waits; guarded by mu
	closing   bool          // a close frame is queued or written; guarded by mu
	closeAt   int64         // coarse time by which the closing must be over; guarded by mu
	cause     Cause         // what Closed will say; guarded by mu
	causeSet  bool          // guarded by mu
	ended     bool          // the network connection is closed; guarded by mu
	closeSent bool          // guarded by mu
	peerDone  bool          // the client's close frame has come; guarded by mu
}

// Send implements Conn.
func (c *conn) Send(f *wire.Frame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing || c.ended {
		return
	}
	n := len(c.bytesOf(f))
	if c.queue.bytes+n > c.opt.MaxQueue && !c.makeRoom(f, n) {
		return
	}
	c.push(item{frame: f, size: n})
}

// bytesOf is what goes to this client for a frame.
func (c *conn) bytesOf(f *wire.Frame) []byte {
	if c.deflated {
		return f.Compressed(deflate)
	}
	return f.Bytes()
}

// makeRoom deals with a full queue; false when f is not to be queued. mu is held.
func (c *conn) makeRoom(f *wire.Frame, n int) bool {
	if c.opt.Slow == Shed {
		shed := c.queue.shed(c.queue.bytes + n - c.opt.MaxQueue + c.opt.MaxQueue/32) // some more: the walk through the queue is not for every frame
		c.group.stats.ShedSignals.Add(shed.signals)
		c.group.stats.ShedMembers.Add(shed.members)
		c.group.stats.ShedChats.Add(shed.chats)
		c.group.stats.QueuedBytes.Add(-int64(shed.bytes))
		if c.queue.bytes+n <= c.opt.MaxQueue {
			return true
		}
		if f.Class().Sheddable() {
			c.group.stats.count(f.Class())
			return false
		}
	}
	c.group.stats.SlowCut.Add(1)
	c.group.stats.QueuedBytes.Add(-int64(c.queue.drop()))
	c.close(wire.CloseSlow, "slow consumer")
	return false
}

func (s *Stats) count(k wire.Class) {
	switch k {
	case wire.ClassChat:
		s.ShedChats.Add(1)
	case wire.ClassMember:
		s.ShedMembers.Add(1)
	default:
		s.ShedSignals.Add(1)
	}
}

// push queues and makes sure that somebody writes. mu is held.
func (c *conn) push(it item) {
	if c.queue.bytes == 0 {
		c.progress = c.group.now()
	}
	c.queue.push(it)
	c.group.stats.QueuedBytes.Add(int64(it.size))
	if !c.writing {
		c.writing = true
		c.group.work.Add(1) // the reader is still counted: not from zero
		go c.write()
	}
}

// control queues a control frame of our own or of gorilla's. A pong replaces one
// that still waits, so that a flood of pings does not fill the queue. mu is held.
func (c *conn) control(b []byte) {
	if c.ended || c.closeSent {
		return
	}
	if b[0]&0x0f == websocket.PongMessage && c.queue.replacePong(b) {
		return
	}
	c.push(item{raw: b, size: len(b)})
}

// Close implements Conn.
func (c *conn) Close(code wire.CloseCode, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.close(code, reason)
}

// close begins the end from our side. mu is held.
func (c *conn) close(code wire.CloseCode, reason string) {
	c.setCause(Cause{Code: code, Reason: reason, By: Server})
	c.finish(closeFrame(code, reason))
}

// finish queues the last frame. mu is held.
func (c *conn) finish(frame []byte) {
	if c.closing || c.ended {
		return
	}
	c.control(frame)
	c.closing = true
	c.closeAt = c.group.now() + int64(c.opt.CloseWait)
	c.endPause()
}

func (c *conn) setCause(k Cause) {
	if !c.causeSet {
		c.cause, c.causeSet = k, true
	}
}

// cut ends the network connection; the reader finds out and does the rest.
func (c *conn) cut(k Cause) {
	c.end(k)
	_ = c.net.Close() // nothing is owed any more
}

// sever is cut for those who look after other connections too: it never waits,
// while TLS takes up to 5 s to say goodbye to who does not read.
func (c *conn) sever(k Cause) {
	c.end(k)
	nc := c.net
	if t, ok := nc.(*tls.Conn); ok {
		nc = t.NetConn()
	}
	_ = nc.Close() // likewise
}

func (c *conn) end(k Cause) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.setCause(k)
	c.ended = true
	c.group.stats.QueuedBytes.Add(-int64(c.queue.drop()))
	c.endPause()
}

// awaitEnd blocks until the network connection is closed.
func (c *conn) awaitEnd() {
	for {
		c.mu.Lock()
		if c.ended {
			c.mu.Unlock()
			return
		}
		if c.wake == nil {
			c.wake = make(chan struct{})
		}
		ch := c.wake
		c.mu.Unlock()
		<-ch
	}
}

// Pause implements Conn.
func (c *conn) Pause() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pauses++
}

// Resume implements Conn.
func (c *conn) Resume() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pauses--; c.pauses <= 0 {
		if c.pinged > 0 {
			c.pinged = c.group.now() // the pong may lie unread since before the pause
		}
		c.endPause()
	}
}

// endPause wakes a waiting reader. mu is held.
func (c *conn) endPause() {
	if c.wake != nil {
		close(c.wake)
		c.wake = nil
	}
}

// awaitResume blocks while the connection is paused; false when it is ending,
// and messages are of no interest any more.
func (c *conn) awaitResume() bool {
	for {
		c.mu.Lock()
		if c.closing || c.ended {
			c.mu.Unlock()
			return false
		}
		if c.pauses <= 0 {
			c.mu.Unlock()
			return true
		}
		if c.wake == nil {
			c.wake = make(chan struct{})
		}
		ch := c.wake
		c.mu.Unlock()
		<-ch
	}
}

// check is the sweeper's look at the connection.
func (c *conn) check(now int64) {
	c.mu.Lock()
	switch {
	case c.ended:
	case c.closing:
		if now > c.closeAt {
			c.mu.Unlock()
			c.sever(Cause{By: Server})
			return
		}
	case c.queue.bytes > 0 && now-c.progress > int64(c.opt.WriteStall):
		c.group.stats.SlowCut.Add(1)
		c.group.stats.QueuedBytes.Add(-int64(c.queue.drop()))
		c.close(wire.CloseSlow, "no progress in writing")
	case c.pauses == 0 && c.tooLong(now):
		c.close(wire.ClosePolicy, "message took too long")
	case c.opt.PingEvery > 0 && c.pauses == 0:
		c.beat(now)
	}
	c.mu.Unlock()
}

func (c *conn) tooLong(now int64) bool {
	began := c.message.Load()
	return began > 0 && now-began > int64(c.opt.MessageWithin)
}

// beat pings, and gives up on who has not answered. Whatever came counts as an
// answer. mu is held.
func (c *conn) beat(now int64) {
	heard := c.heard.Load()
	awaiting := c.pinged > 0 && heard < c.pinged
	switch {
	case awaiting && now-c.pinged > int64(c.opt.PongTimeout):
		c.close(wire.CloseTimeout, "no pong")
	case !awaiting && now-heard >= int64(c.opt.PingEvery):
		c.pinged = now
		c.control([]byte{0x80 | websocket.PingMessage, 0})
	}
}

// closeFrame encodes RFC 6455 section 5.5.1; the reason is made UTF-8 and cut to
// what fits.
func closeFrame(code wire.CloseCode, reason string) []byte {
	const room = 123
	reason = strings.ToValidUTF8(reason[:min(len(reason), 4*room)], "\uFFFD")
	for len(reason) > room {
		_, n := utf8.DecodeLastRuneInString(reason)
		reason = reason[:len(reason)-n]
	}
	b := append(make([]byte, 0, 4+len(reason)), 0x80|websocket.CloseMessage, byte(2+len(reason)), byte(code>>8), byte(code))
	return append(b, reason...)
}
