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

// noBuffers are gorilla's: it uses one for the handshake and for a protocol
// error, and holds none in between.
type noBuffers struct{}

func (noBuffers) Get() any { return nil }
func (noBuffers) Put(any)  {}

// way is how connections with the same Options are made.
type way struct {
	asked    Options // without defaults
	opt      Options
	upgrader *websocket.Upgrader
}

// way finds or makes the one for opt: most connections have the same as the one
// before.
func (g *Group) way(opt Options) *way {
	if w := g.ways.Load(); w != nil && w.asked == opt {
		return w
	}
	w := &way{opt, opt.withDefaults(), upgrader(opt.Compression, 256)}
	g.ways.Store(w)
	return w
}

func upgrader(compression bool, readBuffer int) *websocket.Upgrader {
	return &websocket.Upgrader{
		ReadBufferSize:    readBuffer, // of its own: net/http's is 4 KiB and would be kept as long as the connection
		WriteBufferPool:   noBuffers{},
		WriteBufferSize:   512,
		Subprotocols:      []string{wire.Subprotocol},
		CheckOrigin:       func(*http.Request) bool { return true },
		EnableCompression: compression,
	}
}

// Upgrade answers a handshake that was let in. An error has been answered
// already. The connection reads nothing before Start. The caller has checked
// the origin.
func (g *Group) Upgrade(w http.ResponseWriter, r *http.Request, opt Options) (Conn, error) {
	if g.isStopped() {
		http.Error(w, "shutting down; connect again", http.StatusServiceUnavailable)
		return nil, ErrStopped
	}
	way := g.way(opt)
	h := &hijacker{ResponseWriter: w}
	ws, err := way.upgrader.Upgrade(h, r, nil)
	if err != nil {
		return nil, err
	}
	if !g.enter() {
		_ = h.line.Close()
		return nil, ErrStopped
	}
	c := g.newConn(&way.opt, h.line, ws)
	c.queue.deflated = way.opt.Compression && offersDeflate(r)
	c.controls().head, h.line.answer = h.line.answer, nil // goes out with the first frame, or on Start
	c.place.shard.add(c)
	return c, nil
}

// newConn chooses what the connection is made of: this is the one place.
func (g *Group) newConn(opt *Options, h *handshake, ws *websocket.Conn) *conn {
	g.writers.begin()
	shard := g.nextShard()
	if c := newPolled(shard, h.Conn, opt); c != nil {
		return c
	}
	h.Conn = waiting(h.Conn)
	s := newStream(h.Conn, ws)
	s.setUp(shard, opt, s)
	h.c = &s.conn
	return &s.conn
}

// setUp fills in what all connections have.
func (c *conn) setUp(s *shard, opt *Options, l line) {
	g := s.group
	c.group, c.opt, c.line, c.place.shard = g, opt, l, s
	now := g.now()
	c.progress = now
	c.heard.Store(now - rand.Int64N(max(int64(opt.PingEvery)/4, 1))) // pings are spread from the start
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
	line *handshake
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
	h.line = &handshake{Conn: nc}
	return h.line, rw, nil
}

// handshake is the connection as gorilla sees it: all that it writes goes through
// the queue like everything else. That is the answer to the handshake, and later
// a close frame about a protocol error.
type handshake struct {
	net.Conn
	answer []byte
	c      *conn // nil until the handshake is over
}

// Write implements net.Conn.
func (h *handshake) Write(b []byte) (int, error) {
	if h.c == nil {
		h.answer = append(h.answer, b...)
	} else {
		h.c.protocolError(b)
	}
	return len(b), nil
}

// SetWriteDeadline implements net.Conn: deadlines are the sweeper's.
func (*handshake) SetWriteDeadline(time.Time) error { return nil }
