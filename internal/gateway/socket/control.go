package socket

import (
	"strings"
	"unicode/utf8"

	"github.com/gorilla/websocket"

	"github.com/wsrelay/relay/internal/wire"
)

// control is what waits of control frames (RFC 6455 section 5.5). Each kind has
// one place: a newer pong takes that of an older one, so that a flood of pings
// costs one pong. Pong and ping go before the frames that wait, a close frame
// after them.
type control struct {
	pong []byte
	ping bool

	head    []byte // what is being written of pong and ping; first of all, the answer to the handshake
	pinging bool   // a ping is in head
	last    []byte // the close frame
}

// arm makes head of what waits, if all of the last one is out.
func (k *control) arm() {
	if len(k.head) > 0 || (k.pong == nil && !k.ping) {
		return
	}
	k.head, k.pong = k.pong, nil
	if k.ping {
		k.head = append(k.head, 0x80|websocket.PingMessage, 0)
		k.ping, k.pinging = false, true
	}
}

func (k *control) empty() bool {
	return k.pong == nil && !k.ping && len(k.head) == 0 && len(k.last) == 0
}

// controls makes the place for control frames, which a quiet connection does
// not have. mu is held.
func (c *conn) controls() *control {
	if c.ctl == nil {
		c.ctl = new(control)
	}
	return c.ctl
}

// pinged answers a ping.
func (c *conn) pinged(data string) {
	c.heard.Store(c.group.now())
	b := append(make([]byte, 0, 2+len(data)), 0x80|websocket.PongMessage, byte(len(data)))
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing || c.ended {
		return
	}
	c.controls().pong = append(b, data...)
	c.wantWriter()
}

// closeReceived is told of the client's close frame, and answers it.
func (c *conn) closeReceived(code int, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.setCause(Cause{By: Client, Code: wire.CloseCode(code), Reason: text})
	if code == websocket.CloseNoStatusReceived {
		c.finish([]byte{0x80 | websocket.CloseMessage, 0})
	} else {
		c.finish(closeFrame(wire.CloseCode(code), ""))
	}
}

// protocolError takes over the close frame that gorilla writes about what the
// client did wrong. It writes nothing else.
func (c *conn) protocolError(b []byte) {
	if len(b) < 4 || b[0]&0x0f != websocket.CloseMessage {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	code := wire.CloseCode(b[2])<<8 | wire.CloseCode(b[3])
	c.setCause(Cause{By: Server, Code: code, Reason: string(b[4:])})
	c.finish(append([]byte(nil), b...))
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
