package socket

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/wsrelay/relay/internal/wire"
)

// In these tests time passes when they say so, over real connections.

func testSilenceAfterAPingIs4408(t *testing.T, k kind) {
	s := serveStill(t, k, Options{PingEvery: 25 * time.Second, PongTimeout: 10 * time.Second})
	ws, p := s.dial(t, nil)
	pinged := make(chan struct{}, 1)
	ws.SetPingHandler(func(string) error { pinged <- struct{}{}; return nil }) // sees it, says nothing
	code := make(chan int, 1)
	go func() { code <- closeCode(t, ws) }()
	s.advance(18 * time.Second)
	if n := len(pinged); n != 0 {
		t.Fatal("pinged before its time")
	}
	s.advance(7 * time.Second)
	wait(t, pinged)
	c := p.Conn.(*conn)
	until(t, "the ping is noted as written", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.pingedAt > 0
	})
	s.advance(10 * time.Second)
	s.advance(time.Second)
	if c := wait(t, code); c != 4408 {
		t.Errorf("close code %d", c)
	}
	_ = ws.Close()
	if k := wait(t, p.closed); k.Code != wire.CloseTimeout {
		t.Errorf("cause %+v", k)
	}
}

func testWhoAnswersPingsStays(t *testing.T, k kind) {
	s := serveStill(t, k, Options{PingEvery: 25 * time.Second, PongTimeout: 10 * time.Second})
	ws, p := s.dial(t, nil)
	pongs := make(chan struct{}, 1)
	ws.SetPingHandler(func(d string) error {
		err := ws.WriteControl(websocket.PongMessage, []byte(d), time.Time{})
		pongs <- struct{}{}
		return err
	})
	go func() { _, _, _ = ws.ReadMessage() }()
	c := p.Conn.(*conn)
	for range 20 {
		s.advance(25 * time.Second)
		wait(t, pongs)
		until(t, "the pong is heard", func() bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.pingedAt == int64(s.time) && c.heard.Load() == int64(s.time)
		})
	}
	if len(p.closed) > 0 {
		t.Error("closed")
	}
}

func testAMessageThatNeverEndsIsCut(t *testing.T, k kind) {
	for name, piece := range map[string][]byte{
		"empty fragments":  frame(false, 0, nil),
		"bytes of a frame": {'x'},
	} {
		t.Run(name, func(t *testing.T) {
			s := serveStill(t, k, Options{MessageWithin: 30 * time.Second})
			s.advance(time.Second)
			ws, p := s.dial(t, nil)
			start := frame(false, 1, nil)
			if len(piece) == 1 {
				start = frame(true, 1, make([]byte, 1000))[:9]
			}
			if _, err := ws.NetConn().Write(start); err != nil {
				t.Fatal(err)
			}
			c := p.Conn.(*conn)
			until(t, "the message has begun", func() bool { return c.message.Load() > 0 })
			for range 30 {
				if _, err := ws.NetConn().Write(piece); err != nil {
					t.Fatal(err)
				}
				s.advance(time.Second)
			}
			if len(p.closed) > 0 {
				t.Fatal("cut before its time")
			}
			s.advance(time.Second)
			if c := closeCode(t, ws); c != 1008 {
				t.Errorf("close code %d", c)
			}
			_ = ws.Close()
			wait(t, p.closed)
		})
	}
}

// boulder is a frame that no kernel holds in full for a client that does not read.
var boulder = sync.OnceValue(func() *wire.Frame { return text(strings.Repeat("x", 30<<20)) })

// stick fills a connection until nothing moves any more.
func stick(t *testing.T, s *server, p *peer) {
	t.Helper()
	p.Send(boulder())
	out := int64(-1)
	until(t, "the writer is stuck", func() bool {
		n := s.group.stats.BytesOut.Load()
		same := n == out && n > 0
		out = n
		<-time.After(50 * time.Millisecond)
		return same
	})
}

func testAStuckReaderIsCutWithoutProgress(t *testing.T, k kind) {
	const stall = 30 * time.Second
	s := serveStill(t, small(k), Options{MaxQueue: 64 << 20, WriteStall: stall, CloseWait: 5 * time.Second})
	_, p := s.raw(t)
	p.Send(boulder())
	c := p.Conn.(*conn)
	progress := func() time.Duration {
		c.mu.Lock()
		defer c.mu.Unlock()
		return time.Duration(c.progress)
	}
	// The kernel takes some of it, in its own time: each bit is progress.
	for cut := false; !cut; {
		was := progress()
		s.advance(was + stall - s.time)
		if n := s.group.stats.SlowCut.Load(); n != 0 {
			t.Fatal("cut before its time")
		}
		s.advance(time.Second)
		if cut = s.group.stats.SlowCut.Load() == 1; !cut && progress() == was {
			t.Fatal("not cut, though nothing moves")
		}
	}
	s.advance(6 * time.Second)
	if k := wait(t, p.closed); k.Code != wire.CloseSlow || k.By != Server {
		t.Errorf("%+v", k)
	}
}

// A client that stops reading and then says goodbye must not be held for ever.
func testAGoodbyeFromAStuckReaderIsNotWaitedForForEver(t *testing.T, k kind) {
	s := serveStill(t, small(k), Options{MaxQueue: 64 << 20, CloseWait: time.Second})
	nc, p := s.raw(t)
	p.Send(text(strings.Repeat("x", 30<<20))) // more than the network takes
	if _, err := nc.Write(frame(true, 8, nil)); err != nil {
		t.Fatal(err)
	}
	c := p.Conn.(*conn)
	until(t, "the goodbye is heard", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.peerDone
	})
	s.advance(2 * time.Second)
	if k := wait(t, p.closed); k.By != Client {
		t.Errorf("cause %+v", k)
	}
}

func testAReaderThatWakesUpStillSeesWhy(t *testing.T, k kind) {
	s := serveStill(t, k, Options{MaxQueue: 64 << 20})
	ws, p := s.dial(t, nil)
	p.Send(text(strings.Repeat("x", 30<<20))) // more than the network takes
	for len(p.closed) == 0 && s.group.stats.SlowCut.Load() == 0 {
		p.Send(text(strings.Repeat("y", 1<<20)))
	}
	if c := closeCode(t, ws); c != 4429 {
		t.Errorf("close code %d", c)
	}
	_ = ws.Close()
	wait(t, p.closed)
}
