package socket

import (
	"sync"
	"sync/atomic"

	"github.com/wsrelay/relay/internal/wire"
)

// conn is what all connections have in common: the queue, the pings, and the
// order of the end. How bytes come and go is the matter of its line.
//
// It is kept small: an instance holds tens of thousands that are quiet. What a
// quiet one does not need is behind a pointer that is nil.
type conn struct {
	group   *Group
	opt     *Options
	line    line
	handler Handler
	place   place // in the group

	heard   atomic.Int64 // coarse time of the last frame from the client
	message atomic.Int64 // coarse time at which the message being read began; 0: none

	mu        sync.Mutex
	queue     queue    // guarded by mu
	ctl       *control // control frames that wait; nil: none; guarded by mu
	progress  int64    // coarse time of the last write, or since when something waits; guarded by mu
	pingedAt  int64    // coarse time at which the last ping was written; 0: none yet; guarded by mu
	closeAt   int64    // coarse time by which the closing must be over; guarded by mu
	cause     *Cause   // what Closed will say; guarded by mu
	pauses    int32    // guarded by mu
	writing   bool     // somebody writes, or waits until it is possible; guarded by mu
	closing   bool     // a close frame is queued or written; guarded by mu
	closeSent bool     // guarded by mu
	peerDone  bool     // the client's close frame has come; guarded by mu
	ended     bool     // the network connection is closed, or about to be; guarded by mu
}

// line is the network under a conn: stream has a goroutine that reads, polled
// has none. What it writes it takes from conn.outgoing, and reports to
// conn.sent.
type line interface {
	// begin starts to read, and calls the handler from then on.
	begin()
	// wake makes somebody write until nothing is left: conn.writing has just
	// become true. mu is held; it must not block.
	wake()
	// write is one turn of writing, by the writers of the group, which never
	// waits; afterwards the connection stands on their list again, unless nothing
	// is left or somebody else goes on.
	write(buf []byte)
	// behind reports that the network keeps something of which the queue knows
	// nothing: to write is to see to it. mu is held.
	behind() bool
	// proceed goes on after a pause, or because messages are of no interest any
	// more. mu is held; it must not block.
	proceed()
	// hangUp closes the network connection without waiting, after end; the
	// handler hears of it soon after.
	hangUp()
}

// Start implements Conn.
func (c *conn) Start(h Handler) {
	c.handler = h
	c.mu.Lock()
	if n, ok := h.(interface{ ID() string }); ok {
		c.queue.owner = n.ID // for those who want to know what became of a frame
	}
	if c.ctl != nil {
		c.wantWriter() // the client waits for the answer to its handshake
	}
	c.mu.Unlock()
	c.line.begin()
}

// Send implements Conn.
func (c *conn) Send(f *wire.Frame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing || c.ended {
		f.Dropped(c.queue.id, "closed")
		return
	}
	n := c.queue.costOf(f)
	if c.queue.cost+n > c.opt.MaxQueue && !c.makeRoom(f, n) {
		f.Dropped(c.queue.id, "slow_consumer")
		return
	}
	c.queue.push(f, n)
	c.place.shard.counts.queued.Add(int64(n))
	c.wantWriter()
}

// makeRoom deals with a full queue; false when f is not to be queued. mu is held.
func (c *conn) makeRoom(f *wire.Frame, n int) bool {
	if c.opt.Slow == Shed {
		need := c.queue.cost + n - c.opt.MaxQueue + c.opt.MaxQueue/32 // some more: the walk through the queue is not for every frame
		shed := c.queue.shed(need, f.Class())
		c.group.stats.ShedSignals.Add(shed.signals)
		c.group.stats.ShedMembers.Add(shed.members)
		c.group.stats.ShedChats.Add(shed.chats)
		c.place.shard.counts.queued.Add(-int64(shed.cost))
		if c.queue.cost+n <= c.opt.MaxQueue {
			return true
		}
		if f.Class().Sheddable() {
			c.group.stats.count(f.Class())
			return false
		}
	}
	c.slow("slow consumer")
	if f.Chat() {
		c.group.stats.CutChats.Add(1) // it goes with those that waited
	}
	return false
}

// slow ends a connection that does not keep up. mu is held.
func (c *conn) slow(reason string) {
	chats, freed := c.queue.drop()
	c.group.stats.SlowCut.Add(1)
	c.group.stats.CutChats.Add(chats)
	c.place.shard.counts.queued.Add(-int64(freed))
	c.close(wire.CloseSlow, reason)
}

// wantWriter makes sure that somebody writes. mu is held.
func (c *conn) wantWriter() {
	if !c.writing && !c.ended {
		c.writing = true
		c.progress = c.group.now()
		c.line.wake()
	}
}

// outgoing is what is to be written next, in buf or not: at most as much as buf
// has room for. Nothing left, or the end, and it returns nil: who writes is done.
// mu is held.
func (c *conn) outgoing(buf []byte) []byte {
	if c.ended {
		c.writing = false
		return nil
	}
	k, b := c.ctl, buf[:0]
	if k != nil && c.queue.skip == 0 { // a frame that was begun is finished first
		k.arm()
		b = append(b, k.head...)
	}
	b = c.queue.gather(b, cap(buf))
	if len(b) == 0 && k != nil {
		b = k.last
	}
	if len(b) == 0 {
		c.writing = false
		return nil
	}
	return b
}

// sent reports that n bytes of what outgoing gave are out. It returns true when
// those were the last of the connection's, and the client's close frame has come
// too: it is to be closed. mu is held.
func (c *conn) sent(n int) (done bool) {
	st := &c.place.shard.counts
	st.out.Add(int64(n))
	st.writes.Add(1)
	if c.ended {
		return false
	}
	now := c.group.now()
	if n > 0 {
		c.progress = now
	}
	k := c.ctl
	if k != nil && len(k.head) > 0 && c.queue.skip == 0 {
		m := min(n, len(k.head))
		k.head = k.head[m:]
		n -= m
		if len(k.head) == 0 && k.pinging {
			c.pingedAt, k.pinging = max(now, 1), false
		}
	}
	frames := c.queue.pinned > 0
	freed := c.queue.wrote(n)
	st.queued.Add(-int64(freed))
	if k == nil {
		return false
	}
	if !frames && n > 0 {
		k.last = k.last[n:]
		c.closeSent = len(k.last) == 0
	}
	if k.empty() {
		c.ctl = nil
	}
	return c.closeSent && c.peerDone
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
	c.controls().last = frame
	c.closing = true
	c.closeAt = c.group.now() + int64(c.opt.CloseWait)
	c.line.proceed()
	c.wantWriter()
}

// setCause notes why the connection ends; the first word counts. mu is held.
func (c *conn) setCause(k Cause) {
	if c.cause == nil {
		c.cause = &k
	}
}

// cut ends the network connection; the reader finds out and does the rest.
func (c *conn) cut(k Cause) {
	c.end(k)
	c.line.hangUp()
}

// end marks the end and forgets what waits. After it, the line hangs up.
func (c *conn) end(k Cause) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.setCause(k)
	c.ended = true
	c.ctl = nil
	c.place.shard.counts.queued.Add(-int64(c.queue.dropAll()))
	c.line.proceed()
}

// gone tells the handler, when nothing will be read any more.
func (c *conn) gone() {
	c.group.remove(c)
	c.mu.Lock()
	cause := *c.cause
	c.mu.Unlock()
	c.group.stats.countClose(cause.Code)
	c.handler.Closed(cause)
	c.group.work.Done()
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
	if c.pauses--; c.pauses > 0 {
		return
	}
	// What has come since may lie unread: nobody is to blame for the pause.
	now := c.group.now()
	if c.pingedAt > 0 {
		c.pingedAt = max(now, 1)
	}
	if c.message.Load() > 0 {
		c.message.Store(max(now, 1))
	}
	c.line.proceed()
}

// check is the sweeper's look at the connection.
func (c *conn) check(now int64) {
	c.mu.Lock()
	switch {
	case c.ended:
	case c.closing:
		if now > c.closeAt {
			c.mu.Unlock()
			c.cut(Cause{By: Server})
			return
		}
	case c.writing && now-c.progress > int64(c.opt.WriteStall):
		c.slow("no progress in writing")
	case c.pauses <= 0 && c.tooLong(now):
		c.close(wire.ClosePolicy, "message took too long")
	case c.opt.PingEvery > 0 && c.pauses <= 0:
		c.beat(now)
	}
	if c.line.behind() {
		c.wantWriter()
	}
	c.mu.Unlock()
}

func (c *conn) tooLong(now int64) bool {
	began := c.message.Load()
	return began > 0 && now-began > int64(c.opt.MessageWithin)
}

// beat pings when either direction has been silent for a while, and gives up on
// who has not answered. Whatever comes counts as an answer. mu is held.
func (c *conn) beat(now int64) {
	heard := c.heard.Load()
	switch {
	case c.ctl != nil && (c.ctl.ping || c.ctl.pinging): // not out yet: if it never is, that is for WriteStall
	case c.pingedAt > 0 && heard < c.pingedAt:
		if now-c.pingedAt > int64(c.opt.PongTimeout) {
			c.close(wire.CloseTimeout, "no pong")
		}
	case now-min(heard, c.progress) >= int64(c.opt.PingEvery):
		c.controls().ping = true
		c.wantWriter()
	}
}
