package socket

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/wsrelay/relay/internal/wire"
)

// A client that sends everything at once, goodbye included, while its
// connection is paused again and again: all of it comes, in its order.
func testWhatIsPipelinedComesInOrderThroughPauses(t *testing.T, k kind) {
	const messages = 300
	var wg sync.WaitGroup
	defer wg.Wait()
	s := serve(t, k, Options{}, func(p *peer, b []byte) {
		if bytes.HasSuffix(b, []byte("0")) {
			p.Pause()
			wg.Go(p.Resume)
		}
	})
	nc, p := s.raw(t)
	var all []byte
	for i := range messages {
		all = append(all, frame(true, 1, []byte(fmt.Sprintf("%s%d", strings.Repeat("x", 10*i), i)))...)
	}
	all = append(all, frame(true, 8, []byte{3, 232})...)
	go func() { _, _ = nc.Write(all) }()
	for i := range messages {
		if got, want := wait(t, p.got), fmt.Sprint(i); !strings.HasSuffix(got, want) || len(got) != 10*i+len(want) {
			t.Fatalf("message %d is %q", i, got)
		}
	}
	if k := wait(t, p.closed); !k.Normal() {
		t.Errorf("cause %+v", k)
	}
}

// Everything at once, on many connections: what is sent comes in order, and
// every connection ends exactly once.
func testMuchAtOnce(t *testing.T, k kind) {
	const clients, frames = 40, 300
	s := serve(t, k, Options{MaxQueue: 16 << 20})
	var wg sync.WaitGroup
	for i := range clients {
		ws, p := s.dial(t, nil)
		wg.Go(func() { // the server's side
			for n := range frames {
				p.Send(text(fmt.Sprint(n)))
				if n%7 == i%7 {
					p.Pause()
					wg.Go(p.Resume)
				}
			}
			if i%2 == 0 {
				p.Close(wire.CloseRestart, "")
			}
		})
		wg.Go(func() { // what the client says
			for n := 0; ; n++ {
				if err := ws.WriteMessage(websocket.TextMessage, []byte("hello")); err != nil {
					return
				}
				if n%5 == 0 {
					_ = ws.WriteControl(websocket.PingMessage, nil, time.Now().Add(time.Second))
				}
				if i%4 == 1 && n == frames {
					_ = tcp(ws.NetConn()).Close()
				}
			}
		})
		wg.Go(func() {
			for range p.got { // until the connection is closed
			}
		})
		wg.Go(func() { // and what it hears
			defer ws.Close()
			for n := 0; ; n++ {
				_, b, err := ws.ReadMessage()
				var ce *websocket.CloseError
				switch {
				case err == nil && string(b) != string(text(fmt.Sprint(n)).Payload()):
					t.Errorf("frame %d is %s", n, b)
					return
				case errors.As(err, &ce) && ce.Code == 1012 && n != frames:
					t.Errorf("closed after %d frames", n)
				case err == nil && i%2 == 1 && n == frames-1:
					return
				}
				if err != nil {
					return
				}
			}
		})
		wg.Go(func() {
			<-p.closed
			close(p.got)
		})
	}
	wg.Wait()
	until(t, "all have ended", func() bool { return s.group.stats.Open.Load() == 0 })
}
