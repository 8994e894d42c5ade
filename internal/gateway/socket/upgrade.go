package socket

import (
	"bufio"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/gorilla/websocket"

	"github.com/wsrelay/relay/internal/wire"
)

// ErrStopped is returned by Upgrade when the group takes no more connections.
var ErrStopped = errors.New("shutting down")

// writeBuffers are gorilla's: it uses one for the handshake and for a protocol
// error, and holds none in between.
type writeBuffers struct{}

func (writeBuffers) Get() any { return nil }
func (writeBuffers) Put(any)  {}

// Upgrade answers a handshake that was let in. An error has been answered
// already. The connection reads nothing before Start. The caller has checked
// the origin.
func (g *Group) Upgrade(w http.ResponseWriter, r *http.Request, opt Options) (Conn, error) {
	if g.isStopped() {
		http.Error(w, "shutting down; connect again", http.StatusServiceUnavailable)
		return nil, ErrStopped
	}
	c := &conn{group: g, opt: opt.withDefaults()}
	up := websocket.Upgrader{
		HandshakeTimeout:  10 * time.Second,
		ReadBufferSize:    1 << 10, // of its own: net/http's is 4 KiB and would be kept as long as the connection
		WriteBufferPool:   writeBuffers{},
		WriteBufferSize:   512,
		Subprotocols:      []string{wire.Subprotocol},
		CheckOrigin:       func(*http.Request) bool { return true },
		EnableCompression: opt.Compression,
	}
	ws, err := up.Upgrade(&hijacker{w, c}, r, nil)
	if err != nil {
		return nil, err
	}
	c.ws = ws
	c.deflated = opt.Compression && offersDeflate(r)
	// What comes in compressed may be as large as what goes out of it; with a
	// little for the overhead of incompressible data.
	ws.SetReadLimit(c.opt.MaxMessage + c.opt.MaxMessage/100 + 64)
	c.handleControl()
	now := g.now()
	c.heard.Store(now - rand.Int64N(max(int64(c.opt.PingEvery)/4, 1))) // pings are spread from the start
	if !g.add(c) {
		_ = c.net.Close()
		return nil, ErrStopped
	}
	return c, nil
}

// offersDeflate finds out what gorilla does not tell: whether it agreed to
// compress, which it does whenever it is offered.
func offersDeflate(r *http.Request) bool {
	for _, h := range r.Header.Values("Sec-Websocket-Extensions") {
		for ext := range strings.SplitSeq(h, ",") {
			name, _, _ := strings.Cut(ext, ";")
			if strings.TrimSpace(name) == "permessage-deflate" {
				return true
			}
		}
	}
	return false
}

// hijacker gives gorilla a net.Conn of ours.
type hijacker struct {
	http.ResponseWriter
	c *conn
}

// Hijack implements http.Hijacker.
func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	hj, ok := h.ResponseWriter.(http.Hijacker)
	if !ok {
		return nil, nil, errors.New("the server cannot hand over its connection")
	}
	nc, rw, err := hj.Hijack()
	if err != nil {
		return nil, nil, err
	}
	h.c.net = nc
	return &inner{Conn: nc, c: h.c}, rw, nil
}

// inner is the connection as gorilla sees it. The handshake's answer goes
// straight out; whatever gorilla writes later can only be a close frame about a
// protocol error, and goes through the queue like everything else.
type inner struct {
	net.Conn
	c *conn
}

// Write implements net.Conn.
func (i *inner) Write(b []byte) (int, error) {
	if i.c.ws == nil {
		return i.Conn.Write(b)
	}
	i.c.mu.Lock()
	defer i.c.mu.Unlock()
	if len(b) >= 4 && b[0]&0x0f == websocket.CloseMessage {
		code := wire.CloseCode(b[2])<<8 | wire.CloseCode(b[3])
		i.c.setCause(Cause{By: Server, Code: code, Reason: string(b[4:])})
		i.c.finish(append([]byte(nil), b...))
	}
	return len(b), nil
}

// SetWriteDeadline implements net.Conn: deadlines are the sweeper's.
func (i *inner) SetWriteDeadline(t time.Time) error {
	if i.c.ws == nil {
		return i.Conn.SetWriteDeadline(t)
	}
	return nil
}
