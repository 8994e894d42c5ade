package socket

import (
	"compress/flate"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/wsrelay/relay/internal/wire"
)

// Start implements Conn.
func (c *conn) Start(h Handler) {
	c.handler = h
	go c.read() // counted in Group.work since Upgrade
}

var errTooBig = errors.New("message too big")

// read is the reader: it lives as long as the connection, and is what Closed
// waits for.
func (c *conn) read() {
	defer c.group.work.Done()
	for {
		if err := c.readOne(); err != nil {
			c.readEnded(err)
			break
		}
	}
	c.group.remove(c)
	c.mu.Lock()
	cause := c.cause
	c.mu.Unlock()
	c.group.stats.countClose(cause.Code)
	c.handler.Closed(cause)
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

// readOne reads a message into a buffer that a quiet connection does not hold,
// and hands it over.
func (c *conn) readOne() error {
	kind, r, err := c.ws.NextReader()
	if err != nil {
		return err
	}
	now := c.group.now()
	c.heard.Store(now)
	c.message.Store(max(now, 1))
	defer c.message.Store(0)
	if kind == websocket.BinaryMessage {
		c.Close(wire.CloseUnsupported, "binary frames are not used: send text")
		_, err := io.Copy(io.Discard, r)
		return err
	}
	buf := buffers.Get().(*[]byte)
	defer func() {
		if cap(*buf) <= 64<<10 {
			buffers.Put(buf)
		}
	}()
	*buf, err = readAll((*buf)[:0], r, c.opt.MaxMessage)
	if errors.Is(err, errTooBig) {
		c.Close(wire.CloseTooBig, "message too large")
		return err
	}
	if err != nil {
		return err
	}
	c.message.Store(0)
	c.group.stats.BytesIn.Add(int64(len(*buf)))
	if c.awaitResume() {
		c.handler.Message(*buf)
	}
	return nil
}

// readAll appends r to b, at most limit bytes of it. The limit counts what a
// compressed message inflates to.
func readAll(b []byte, r io.Reader, limit int64) ([]byte, error) {
	for {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if int64(len(b)) > limit {
			return b[:0], errTooBig
		}
		if err == io.EOF {
			return b, nil
		}
		if err != nil {
			return b, err
		}
	}
}

// fault is the close code that an error of the reader calls for, and what to
// tell the client; 0 where the network is to blame.
func fault(err error) (wire.CloseCode, string) {
	var corrupt flate.CorruptInputError
	switch {
	case errors.Is(err, websocket.ErrReadLimit): // gorilla tells the client itself, except of lengths beyond 63 bits
		return wire.CloseTooBig, "message too large"
	case errors.As(err, &corrupt), errors.Is(err, io.ErrUnexpectedEOF): // the network's own comes as a CloseError
		return wire.CloseInvalidData, "compressed data is broken"
	}
	return 0, ""
}

// readEnded works out how the connection ended, and ends it. It returns when
// the network connection is closed: until then the sweeper must know of it. A
// close frame of ours that still waits is written first.
func (c *conn) readEnded(err error) {
	var ce *websocket.CloseError
	if errors.As(err, &ce) && ce.Code != websocket.CloseAbnormalClosure { // which is gorilla's word for an end without a close frame
		c.mu.Lock()
		c.setCause(Cause{By: Client, Code: wire.CloseCode(ce.Code), Reason: ce.Text})
		c.peerDone = true
		waits := c.closing && !c.closeSent && !c.ended
		c.mu.Unlock()
		if waits {
			c.awaitEnd() // the writer cuts, or the sweeper
			return
		}
		c.cut(Cause{})
		return
	}
	code, reason := fault(err)
	c.mu.Lock()
	if code != 0 {
		c.close(code, reason)
	}
	c.setCause(Cause{By: Network, Err: err})
	linger := c.closing && !c.ended
	if linger {
		c.closeAt = min(c.closeAt, c.group.now()+int64(time.Second))
	}
	c.mu.Unlock()
	if linger {
		// The client broke the rules and is not listened to any more. To close
		// now, with unread bytes in the kernel, would reset the connection, and
		// it might never see why (RFC 1122 section 4.2.2.13).
		_, _ = io.Copy(io.Discard, c.net) // until the client ends it, or the sweeper in a second
	}
	c.cut(Cause{})
}

// Pings are answered through the queue; everything counts as a sign of life.
func (c *conn) handleControl() {
	c.ws.SetPingHandler(func(data string) error {
		c.heard.Store(c.group.now())
		b := append(make([]byte, 0, 2+len(data)), 0x80|websocket.PongMessage, byte(len(data)))
		c.mu.Lock()
		defer c.mu.Unlock()
		if !c.closing {
			c.control(append(b, data...))
		}
		return nil
	})
	c.ws.SetPongHandler(func(string) error {
		c.heard.Store(c.group.now())
		return nil
	})
	c.ws.SetCloseHandler(func(code int, text string) error {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.setCause(Cause{By: Client, Code: wire.CloseCode(code), Reason: text})
		if code == websocket.CloseNoStatusReceived {
			c.finish([]byte{0x80 | websocket.CloseMessage, 0})
		} else {
			c.finish(closeFrame(wire.CloseCode(code), ""))
		}
		return nil
	})
}
