package socket

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"github.com/wsrelay/relay/internal/wire"
)

// piped connects a client to a group over an unbuffered pipe, inside a bubble
// of virtual time.
func piped(t *testing.T, g *Group, opt Options) (*websocket.Conn, *peer) {
	t.Helper()
	client, srv := net.Pipe()
	p := &peer{got: make(chan string, 100), closed: make(chan Cause, 2)}
	ln := &oneConn{conn: srv, done: make(chan struct{})}
	hs := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := g.Upgrade(w, r, opt)
		if err != nil {
			t.Error(err)
			return
		}
		p.Conn = c
		c.Start(p)
	})}
	go func() { _ = hs.Serve(ln) }()
	d := websocket.Dialer{NetDial: func(string, string) (net.Conn, error) { return client, nil }}
	ws, _, err := d.Dial("ws://x/", nil)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	t.Cleanup(func() { _ = ws.Close(); close(ln.done) })
	return ws, p
}

// oneConn is a listener that accepts once.
type oneConn struct {
	conn net.Conn
	done chan struct{}
}

func (l *oneConn) Accept() (net.Conn, error) {
	if c := l.conn; c != nil {
		l.conn = nil
		return c, nil
	}
	<-l.done
	return nil, net.ErrClosed
}
func (l *oneConn) Close() error   { return nil }
func (l *oneConn) Addr() net.Addr { return &net.TCPAddr{} }

func bubble(t *testing.T, f func(t *testing.T, g *Group)) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGroup(nil)
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
			defer cancel()
			g.Stop(ctx)
		})
		f(t, g)
	})
}

func TestSilenceAfterAPingIs4408(t *testing.T) {
	bubble(t, func(t *testing.T, g *Group) {
		ws, p := piped(t, g, Options{PingEvery: 25 * time.Second, PongTimeout: 10 * time.Second})
		start := time.Now()
		ws.SetPingHandler(func(string) error { return nil }) // sees it, says nothing
		if c := closeCode(t, ws); c != 4408 {
			t.Errorf("close code %d", c)
		}
		if d := time.Since(start); d < 28*time.Second || d > 37*time.Second {
			t.Errorf("after %s", d)
		}
		_ = ws.Close()
		if k := <-p.closed; k.Code != wire.CloseTimeout {
			t.Errorf("cause %+v", k)
		}
	})
}

func TestWhoAnswersPingsStays(t *testing.T) {
	bubble(t, func(t *testing.T, g *Group) {
		ws, p := piped(t, g, Options{PingEvery: 25 * time.Second, PongTimeout: 10 * time.Second})
		var pings atomic.Int64
		ws.SetPingHandler(func(d string) error {
			pings.Add(1)
			return ws.WriteControl(websocket.PongMessage, []byte(d), time.Time{})
		})
		go func() { _, _, _ = ws.ReadMessage() }()
		time.Sleep(10 * time.Minute) // virtual
		if n := pings.Load(); len(p.closed) > 0 || n < 20 || n > 26 {
			t.Errorf("%d pings in 10 minutes, closed %d", n, len(p.closed))
		}
		_ = ws.Close()
		<-p.closed
	})
}

func TestAMessageThatNeverEndsIsCut(t *testing.T) {
	bubble(t, func(t *testing.T, g *Group) {
		ws, p := piped(t, g, Options{MessageWithin: 30 * time.Second})
		writer := make(chan struct{})
		go func() {
			defer close(writer)
			_, _ = ws.NetConn().Write(frame(false, 1, nil))
			for {
				if _, err := ws.NetConn().Write(frame(false, 0, nil)); err != nil {
					return
				}
				time.Sleep(time.Second) // virtual: an empty fragment each second, for ever
			}
		}()
		if c := closeCode(t, ws); c != 1008 {
			t.Errorf("close code %d", c)
		}
		_ = ws.Close()
		<-p.closed
		<-writer
	})
}

func TestAStuckReaderIsCutWithoutProgress(t *testing.T) {
	bubble(t, func(t *testing.T, g *Group) {
		_, p := piped(t, g, Options{WriteStall: 30 * time.Second, CloseWait: 5 * time.Second})
		start := time.Now()
		p.Send(text("nobody reads this"))
		k := <-p.closed
		if d := time.Since(start); k.Code != wire.CloseSlow || d < 30*time.Second || d > 37*time.Second {
			t.Errorf("%+v after %s", k, d)
		}
		if g.stats.SlowCut.Load() != 1 {
			t.Error("not counted")
		}
	})
}

func TestAFullQueueDisconnects(t *testing.T) {
	bubble(t, func(t *testing.T, g *Group) {
		_, p := piped(t, g, Options{MaxQueue: 1000})
		for range 100 {
			p.Send(text("0123456789"))
		}
		if q := g.stats.QueuedBytes.Load(); q > minCost { // what the writer holds
			t.Errorf("%d bytes are queued for a client that is cut", q)
		}
		if k := <-p.closed; k.Code != wire.CloseSlow {
			t.Errorf("%+v", k)
		}
	})
}

func TestAReaderThatWakesUpStillSeesWhy(t *testing.T) {
	bubble(t, func(t *testing.T, g *Group) {
		ws, p := piped(t, g, Options{MaxQueue: 1000})
		for range 100 {
			p.Send(text("0123456789"))
		}
		if c := closeCode(t, ws); c != 4429 {
			t.Errorf("close code %d", c)
		}
		_ = ws.Close()
		<-p.closed
	})
}

func signal(user, data string) *wire.Frame {
	return (&wire.Signal{RoomID: "r", UserID: user, User: []byte(`{}`), Data: []byte(data)}).Frame()
}

func chat(seq uint64, n int) *wire.Frame {
	return (&wire.Chat{RoomID: "r", Seq: seq, User: []byte(`{}`), Message: fmt.Appendf(nil, "%d", n)}).Frame()
}

func TestSheddingKeepsWhatMatters(t *testing.T) {
	bubble(t, func(t *testing.T, g *Group) {
		ws, p := piped(t, g, Options{MaxQueue: 20 * minCost, Slow: Shed})
		p.Send(text("first")) // the writer holds this one; all else waits
		synctest.Wait()
		shedAndKeep(t, g, ws, p)
		_ = ws.Close()
		<-p.closed
	})
}

// shedAndKeep queues more than fits for a client to whom nothing can be written,
// lets it read all there is, and looks whether what must not be shed has come.
// There is room for 20 small frames.
func shedAndKeep(t *testing.T, g *Group, ws *websocket.Conn, p *peer) {
	t.Helper()
	var want []string
	keep := func(f *wire.Frame) {
		p.Send(f)
		want = append(want, string(f.Payload()))
	}
	for i := range 15 {
		keep(chat(uint64(i+1), i)) // sequenced: must all arrive
		p.Send(signal("a", fmt.Sprint(i)))
		p.Send((&wire.MemberJoined{RoomID: "r", User: []byte(`{}`)}).Frame())
		p.Send(chat(0, i)) // plain
	}
	keep(text("last"))
	if len(p.closed) > 0 || g.stats.SlowCut.Load() > 0 {
		t.Fatal("closed")
	}
	var got []string
	for len(got) == 0 || got[len(got)-1] != want[len(want)-1] {
		_, r, err := ws.NextReader()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(io.LimitReader(r, 1<<10)) // what is larger is skipped
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(want, string(b)) {
			got = append(got, string(b))
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("sequenced frames were lost or moved:\n got %v\nwant %v", got, want)
	}
	st := &g.stats
	if st.ShedSignals.Load() == 0 || st.ShedMembers.Load() == 0 {
		t.Errorf("shed %d signals, %d members, %d chats", st.ShedSignals.Load(), st.ShedMembers.Load(), st.ShedChats.Load())
	}
}

func TestSheddingCutsWhereSequencedFramesAloneAreTooMuch(t *testing.T) {
	bubble(t, func(t *testing.T, g *Group) {
		_, p := piped(t, g, Options{MaxQueue: 1000, Slow: Shed})
		for i := range 50 {
			p.Send(chat(uint64(i+1), i))
		}
		if k := <-p.closed; k.Code != wire.CloseSlow {
			t.Errorf("%+v", k)
		}
	})
}
