package socket

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"

	"github.com/wsrelay/relay/internal/wire"
)

// A client that stops reading and then says goodbye must not be held for ever.
func TestAGoodbyeFromAStuckReaderIsNotWaitedForForEver(t *testing.T) {
	s := serve(t, Options{MaxQueue: 64 << 20, CloseWait: time.Second})
	nc, p := s.raw(t)
	f := text(strings.Repeat("x", 1<<20))
	for range 30 {
		p.Send(f)
	}
	deadline := time.Now().Add(5 * time.Second)
	for w := int64(-1); time.Now().Before(deadline); { // until the writer is stuck
		n := s.group.stats.BytesOut.Load()
		if n == w {
			break
		}
		w = n
		<-time.After(300 * time.Millisecond)
	}
	if _, err := nc.Write(frame(true, 8, nil)); err != nil {
		t.Fatal(err)
	}
	wait(t, p.closed)
	ended := make(chan struct{})
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		s.group.Stop(ctx)
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(8 * time.Second):
		t.Error("Stop with a bound of 1 s hangs: the writer is in nobody's list")
		_ = p.Conn.(*conn).net.Close()
		<-ended
	}
}

func TestALengthBeyond63BitsIs1009(t *testing.T) {
	s := serve(t, Options{})
	ws, p := s.dial(t, nil)
	_, _ = ws.NetConn().Write([]byte{0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	_, _, err := ws.ReadMessage()
	t.Logf("client sees %v; cause %+v", err, wait(t, p.closed))
	if websocket.IsCloseError(err, websocket.CloseAbnormalClosure) {
		t.Error("no close frame")
	}
}

func TestBrokenCompressionIs1007(t *testing.T) {
	s := serve(t, Options{Compression: true})
	ws, p := s.dial(t, &websocket.Dialer{EnableCompression: true})
	b := frame(true, 1, bytes.Repeat([]byte{0xff}, 20))
	b[0] |= 0x40
	_, _ = ws.NetConn().Write(b)
	_, _, err := ws.ReadMessage()
	t.Logf("client sees %v; cause %+v", err, wait(t, p.closed))
	if !websocket.IsCloseError(err, 1007) {
		t.Error("not 1007")
	}
}

func TestTheReasonOfACloseIsUTF8(t *testing.T) {
	if f := closeFrame(wire.CloseForbidden, "a\xff"); !utf8.Valid(f[4:]) {
		t.Errorf("%q", f[4:])
	}
}

func TestAPongUnreadDuringAPauseIsNotMissed(t *testing.T) {
	c := &conn{group: &Group{}, opt: Options{PingEvery: 25e9, PongTimeout: 10e9}.withDefaults(), writing: true}
	c.pinged, c.pauses = 1e9, 1
	c.heard.Store(5e8)
	c.group.clock.Store(12e9)
	c.Resume()
	c.check(12e9)
	if c.closing {
		t.Errorf("closed right at the end of a pause: %+v", c.cause)
	}
}

// A full queue is not walked through for every frame that it is offered.
func BenchmarkSendToAFullShedQueue(b *testing.B) {
	c := &conn{group: &Group{}, opt: Options{MaxQueue: 1 << 20, Slow: Shed}.withDefaults(), writing: true}
	f := chat(0, 1)
	for range 2 << 20 / len(f.Bytes()) {
		c.Send(f)
	}
	for b.Loop() {
		c.Send(f)
	}
}
