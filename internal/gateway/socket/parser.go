package socket

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/gorilla/websocket"
)

// parser has gorilla read what is there already, for connections that share it:
// a quiet one needs no reader of its own, because nothing of gorilla's outlives
// a whole message. It is fed whole messages and control frames only: gorilla
// takes running dry for the end of a connection. After an error it begins anew.
//
// It is for one goroutine.
type parser struct {
	deflated bool
	ws       *websocket.Conn // nil: not made yet, or spoiled
	c        *conn           // whose bytes are read
	feed     [3][]byte       // what gorilla has not taken yet
	buf      []byte          // the message
}

// sentinel is an empty text message that follows where gorilla would not stop,
// or may not have taken everything, by itself.
var sentinel = []byte{finBit | websocket.TextMessage, maskBit, 0, 0, 0, 0}

// control carries out one whole control frame.
func (p *parser) control(c *conn, frame []byte) error {
	p.take(c, frame, sentinel)
	_, _, err := p.ws.NextReader()
	return p.check(err)
}

// message reads one whole message, given in one or two parts. The result is
// valid until the next call.
func (p *parser) message(c *conn, head, body []byte) ([]byte, error) {
	compressed := head[0]&rsv1 != 0
	p.take(c, head, body)
	if compressed {
		p.feed[2] = sentinel
	}
	_, r, err := p.ws.NextReader()
	if err != nil {
		return nil, p.check(err)
	}
	if cap(p.buf) > 64<<10 {
		p.buf = nil
	}
	if p.buf, err = readAll(p.buf[:0], r, c.opt.MaxMessage); err != nil {
		return nil, p.check(err)
	}
	if compressed { // the compressed data may end before its frame does
		_, _, err = p.ws.NextReader()
	}
	return p.buf, p.check(err)
}

// refuse lets gorilla say what is wrong with the bytes of parts.
func (p *parser) refuse(c *conn, parts ...[]byte) error {
	p.take(c, parts...)
	_, r, err := p.ws.NextReader()
	if err == nil {
		_, err = io.Copy(io.Discard, r)
	}
	if err == nil {
		err = errGone // not reached as long as scan and gorilla agree; an end all the same
	}
	return p.check(err)
}

// take makes ready to read parts.
func (p *parser) take(c *conn, parts ...[]byte) {
	if p.ws == nil {
		p.ws = newReader(p)
	}
	p.c, p.feed = c, [3][]byte{}
	copy(p.feed[:], parts)
	p.ws.SetReadLimit(readLimit(c.opt))
}

// check spoils the reader after an error: gorilla's are for good.
func (p *parser) check(err error) error {
	if err != nil {
		p.ws = nil
	}
	p.c, p.feed = nil, [3][]byte{}
	return err
}

// newReader makes gorilla believe in a handshake.
func newReader(p *parser) *websocket.Conn {
	r := &http.Request{Method: http.MethodGet, Header: http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"AAAAAAAAAAAAAAAAAAAAAA=="},
	}}
	if p.deflated {
		r.Header.Set("Sec-Websocket-Extensions", "permessage-deflate")
	}
	ws, err := upgrader(p.deflated, 4<<10).Upgrade(pretence{p}, r, nil)
	if err != nil {
		panic("socket: gorilla refused a handshake of our own making: " + err.Error())
	}
	ws.SetPingHandler(func(data string) error { p.c.pinged(data); return nil })
	ws.SetPongHandler(func(string) error { return nil }) // whatever comes is a sign of life
	ws.SetCloseHandler(func(code int, text string) error { p.c.closeReceived(code, text); return nil })
	return ws
}

// pretence is the HTTP side of that handshake.
type pretence struct{ p *parser }

func (pretence) Header() http.Header         { return http.Header{} }
func (pretence) Write(b []byte) (int, error) { return len(b), nil }
func (pretence) WriteHeader(int)             {}

// Hijack implements http.Hijacker.
func (t pretence) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	nc := fed(t)
	return nc, bufio.NewReadWriter(bufio.NewReaderSize(nc, 16), bufio.NewWriterSize(nc, 16)), nil
}

// fed is the net.Conn that gorilla reads the feed from.
type fed struct{ p *parser }

// Read implements net.Conn.
func (f fed) Read(b []byte) (int, error) {
	for i := range f.p.feed {
		if part := f.p.feed[i]; len(part) > 0 {
			n := copy(b, part)
			f.p.feed[i] = part[n:]
			return n, nil
		}
	}
	return 0, io.EOF
}

// Write implements net.Conn: it can only be about a protocol error, or belong to
// the handshake.
func (f fed) Write(b []byte) (int, error) {
	if f.p.c != nil && f.p.ws != nil {
		f.p.c.protocolError(b)
	}
	return len(b), nil
}

func (fed) Close() error                     { return nil }
func (fed) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (fed) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (fed) SetDeadline(time.Time) error      { return nil }
func (fed) SetReadDeadline(time.Time) error  { return nil }
func (fed) SetWriteDeadline(time.Time) error { return nil }
