package socket

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
)

// readPolled gives what a connection makes of bytes that come in pieces of these
// sizes: messages, pong, and how it closes; and whether it waits for more of a
// message.
func readPolled(in []byte, deflated bool, sizes []byte) (told string, waits bool) {
	g := newGroup()
	p := &polled{fd: -1}
	opt := Options{MaxMessage: 300, Compression: deflated}.withDefaults()
	p.setUp(g.shards[0], &opt, p)
	g.shards[0].parsers[1].deflated = true
	g.shards[0].once.Do(func() {}) // no loop
	p.queue.deflated = deflated
	p.writing = true // nobody writes
	var out strings.Builder
	p.handler = teller{&out}
	for i := 0; len(in) > 0 && !p.deaf; i++ {
		n := len(in)
		if len(sizes) > 0 {
			n = min(n, 1+int(sizes[i%len(sizes)])%40)
		}
		p.digest(in[:n:n])
		in = in[n:]
	}
	return out.String() + ending(&p.conn), p.in != nil
}

// teller writes down what is told.
type teller struct{ *strings.Builder }

func (t teller) Message(b []byte) { fmt.Fprintf(t, "%q ", b) }
func (teller) Closed(Cause)       {}

func ending(c *conn) string {
	pong := ""
	if c.ctl != nil {
		pong = fmt.Sprintf("%q", c.ctl.pong)
	}
	if c.cause == nil {
		return pong
	}
	return fmt.Sprintf("%s %d %s", pong, c.cause.Code, c.cause.By)
}

// readStream is the same, as gorilla by itself would have it.
func readStream(in []byte, deflated bool) string {
	g := newGroup()
	opt := Options{MaxMessage: 300, Compression: deflated}.withDefaults()
	p := parser{deflated: deflated}
	s := newStream(nil, newReader(&p))
	s.setUp(g.shards[0], &opt, s)
	s.queue.deflated = deflated
	s.writing = true // nobody writes
	p.c, p.ws = &s.conn, s.ws
	p.feed[0] = in
	s.ws.SetReadLimit(readLimit(s.opt))
	var out strings.Builder
	s.handler = teller{&out}
	for {
		if err := s.readOne(); err != nil {
			if !errors.Is(err, io.EOF) && !websocket.IsCloseError(err, websocket.CloseAbnormalClosure) {
				s.readEnded(err)
			}
			return out.String() + ending(&s.conn)
		}
	}
}

// Whatever bytes come, and in whatever pieces: what a connection without a
// goroutine makes of them is what gorilla makes of them.
func FuzzPieces(f *testing.F) {
	for _, seed := range [][]byte{
		frame(true, 1, []byte("hello")),
		append(frame(false, 1, []byte("he")), append(frame(true, 9, []byte("ping")), frame(true, 0, []byte("llo"))...)...),
		append(frame(true, 1, []byte("a")), frame(true, 8, []byte{3, 232})...),
		frame(true, 1, bytes.Repeat([]byte("x"), 299)), frame(true, 1, bytes.Repeat([]byte("x"), 400)),
		append(frame(false, 1, bytes.Repeat([]byte("x"), 200)), frame(true, 0, bytes.Repeat([]byte("x"), 200))...),
		{0x81, 0xff, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		{0x81, 0xfe, 0, 3, 1, 2, 3, 4, 'a', 'b', 'c'},
		{0xc1, 0x81, 0, 0, 0, 0, 'x'},
		append(frame(false, 1, nil), frame(false, 1, nil)...), frame(true, 0, nil), frame(true, 2, nil), frame(true, 8, []byte{1}),
		append([]byte{0xc1, 0x87, 0, 0, 0, 0, 0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00}, frame(true, 1, []byte("b"))...),
		append([]byte{0xc1, 0x88, 0, 0, 0, 0, 0x03, 0x00, 'j', 'u', 'n', 'k', 'j', 'u'}, frame(true, 1, []byte("b"))...),
	} {
		f.Add(seed, []byte{0}, false)
		f.Add(seed, []byte{0}, true)
		f.Add(seed, []byte{2, 5, 0}, false)
		f.Add(seed, []byte{39}, true)
	}
	f.Fuzz(func(t *testing.T, in, sizes []byte, deflated bool) {
		want := readStream(in, deflated)
		for _, sizes := range [][]byte{nil, sizes} {
			got, waits := readPolled(bytes.Clone(in), deflated, sizes)
			if waits && deflated {
				return // gorilla inflates what has come of it, and may not like it
			}
			if got != want {
				t.Errorf("in pieces of %v:\n got %s\nwant %s", sizes, got, want)
			}
		}
	})
}
