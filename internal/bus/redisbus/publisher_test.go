package redisbus

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wsrelay/relay/internal/bus"
	"github.com/wsrelay/relay/internal/bus/redisbus/redistest"
)

// aloof is a Handler that does not listen.
type aloof struct{ bus.AtOnce }

func (aloof) Deliver(*bus.Event)       {}
func (aloof) Sanctioned(*bus.Sanction) {}
func (aloof) Lifted(*bus.Sanction)     {}

// answered is a Receipt.
type answered chan bus.Result

func (a answered) Published(r bus.Result) { a <- r }

// publish says something in a room with or without history.
func publish(t *testing.T, b *Bus, keep int) bus.Result {
	t.Helper()
	a := make(answered, 1)
	m := &bus.Message{Event: bus.Event{Kind: bus.Chat, Room: "r", ID: bus.NewMessageID(), Body: []byte(`"hello"`)}, Retention: bus.Retention{Keep: keep, For: time.Hour}}
	if err := b.Publish(m, a); err != nil {
		return bus.Result{Err: err}
	}
	select {
	case r := <-a:
		return r
	case <-time.After(20 * time.Second):
		t.Fatal("no answer")
		return bus.Result{}
	}
}

// tight is a connection with little room: of what is written at once, room bytes
// go, and then it is as fault says.
type tight struct {
	net.Conn
	room  int
	fault error
	used  atomic.Int64
}

func (c *tight) WriteAtOnce(b []byte) (int, error) {
	c.used.Add(1)
	n, err := c.Write(b[:min(c.room, len(b))])
	if err == nil {
		err = c.fault
	}
	return n, err
}

// tighten puts a tight connection in the place of the publisher's.
func tighten(t *testing.T, b *Bus, room int, fault error) *tight {
	t.Helper()
	p := &b.lanes[0].publisher
	for range 1000 {
		p.mu.Lock()
		if p.listening {
			c := &tight{Conn: p.conn.Conn, room: room, fault: fault}
			p.conn.Conn = c
			p.mu.Unlock()
			return c
		}
		p.mu.Unlock()
		if r := publish(t, b, 0); r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	t.Fatal("the publisher never listens")
	return nil
}

func begun(t *testing.T, server *redistest.Server) *Bus {
	t.Helper()
	return begin(t, server.URL(), Timings{})
}

func TestMessagesThatAreSentAtOnce(t *testing.T) {
	server := redistest.Start(t)
	for name, c := range map[string]struct {
		room  int
		fault error
	}{
		"all of it":     {room: 1 << 20},
		"a part of it":  {room: 20},
		"nothing of it": {},
	} {
		t.Run(name, func(t *testing.T) {
			b := begun(t, server)
			conn := tighten(t, b, c.room, c.fault)
			was := uint64(0)
			for i := 0; i < 1000 && conn.used.Load() < 20; i++ {
				keep := i % 2 * 100
				r := publish(t, b, keep)
				if r.Err != nil || keep > 0 && r.Seq <= was {
					t.Fatalf("message %d: %+v, after %d", i, r, was)
				}
				was = max(was, r.Seq)
			}
			if n := conn.used.Load(); n < 20 {
				t.Errorf("%d of 1000 messages were sent at once", n)
			}
			if n := b.Stats().Reconnects.Load(); n != 0 {
				t.Errorf("%d new connections", n)
			}
		})
	}
}

func TestAResultTellsWithHowManyItTravelled(t *testing.T) {
	b := begun(t, redistest.Start(t))
	tighten(t, b, 1<<20, nil) // it listens: what is gathered waits for the end of that
	const n = 3
	a := make(answered, n)
	b.Gather()
	for range n {
		if err := b.Publish(&bus.Message{Event: bus.Event{Kind: bus.Chat, Room: "r", ID: bus.NewMessageID(), Body: []byte(`1`)}}, a); err != nil {
			t.Fatal(err)
		}
	}
	b.Flush()
	most := 0
	for range n {
		r := <-a
		if r.Err != nil || r.Pipeline < 1 {
			t.Errorf("%+v", r)
		}
		most = max(most, r.Pipeline)
	}
	if most < 2 {
		t.Errorf("%d messages that came in a row went one by one", n)
	}
}

// What is cut off on its way is sent again where that can be told apart, and is
// of unknown outcome where it cannot.
func TestAConnectionThatBreaksUnderAMessageSentAtOnce(t *testing.T) {
	server := redistest.Start(t)
	for name, keep := range map[string]int{"history": 100, "plain": 0} {
		t.Run(name, func(t *testing.T) {
			b := begun(t, server)
			for range 1000 {
				conn := tighten(t, b, 20, errors.New("broken"))
				_ = conn.Conn.(interface{ CloseWrite() error }).CloseWrite()
				r := publish(t, b, keep)
				if conn.used.Load() == 0 {
					continue // its end was seen first
				}
				if keep > 0 && (r.Err != nil || r.Seq == 0) || keep == 0 && !errors.Is(r.Err, bus.ErrUnknownOutcome) {
					t.Errorf("%+v", r)
				}
				return
			}
			t.Error("no message was sent at once")
		})
	}
}

func TestAnIdleConnectionThatIsClosed(t *testing.T) {
	server := redistest.Start(t)
	b := begun(t, server)
	for i := range 20 {
		tighten(t, b, 1<<20, nil) // so it listens
		server.Do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
		if r := publish(t, b, 100); r.Err != nil || r.Seq == 0 {
			t.Fatalf("message %d: %+v", i, r)
		}
	}
	if n := b.Stats().Reconnects.Load(); n == 0 {
		t.Error("the connection was never replaced")
	}
}

// prompt is a connection to a server that answers the first of two commands when
// not more than that has been written, before who writes knows how much it was.
type prompt struct {
	net.Conn
	begun chan struct{} // the first command is there
	heard chan struct{} // its answer has been read
	reads int           // the reader's, like what follows
	rest  []byte
	early bool // more was waited for before the rest was written
}

func (c *prompt) SetDeadline(time.Time) error     { return nil }
func (c *prompt) SetReadDeadline(time.Time) error { return nil }

func (c *prompt) WriteAtOnce(b []byte) (int, error) {
	close(c.begun)
	<-c.heard
	for range 1000 { // the reader may go on, if nothing holds it
		runtime.Gosched()
	}
	return len(b) / 2, nil
}

func (c *prompt) Write(b []byte) (int, error) {
	c.rest = append(c.rest, b...)
	return len(b), nil
}

func (c *prompt) Read(b []byte) (int, error) {
	if c.reads++; c.reads == 1 {
		<-c.begun
		defer close(c.heard)
	} else {
		c.early = c.early || len(c.rest) == 0
	}
	return copy(b, ":1\r\n"), nil
}

// What there was no room for is written before more answers are waited for: the
// server cannot give them without.
func TestTheRestIsSentThoughAnAnswerHasCome(t *testing.T) {
	b, err := New(Options{URL: "redis://localhost:1"})
	if err != nil {
		t.Fatal(err)
	}
	b.handler = aloof{}
	l := b.lanes[0]
	l.begun.Store(true) // there is no goroutine but this test's
	p := &l.publisher
	c := &prompt{begun: make(chan struct{}), heard: make(chan struct{})}
	p.conn = &link{Conn: c, r: bufio.NewReader(c), reply: time.Hour}
	p.listening = true
	listened := make(chan struct{})
	go func() { defer close(listened); p.listen() }()
	got := make(answered, 2)
	b.gathering.Add(1)
	for range 2 {
		if err := p.take(&outgoing{room: "r", channel: "c", payload: make([]byte, 100), receipt: got}); err != nil {
			t.Fatal(err)
		}
	}
	b.gathering.Add(-1)
	p.flush()
	<-listened
	if c.early || len(c.rest) == 0 {
		t.Errorf("waited for answers with %d bytes of the rest written", len(c.rest))
	}
	for range 2 {
		if r := <-got; r.Err != nil {
			t.Errorf("%+v", r)
		}
	}
}

// Signals that wait are bounded in bytes too, and leave room for messages.
func TestSignalsThatWaitAreBounded(t *testing.T) {
	b, err := New(Options{URL: "redis://localhost:1", MaxQueued: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	l := b.lanes[0]
	l.begun.Store(true) // and nobody sends
	p := &l.publisher
	const size, senders = 10_000, 1000
	signal := func(i, n int) {
		p.signal(signalKey{"r", fmt.Sprint(i)}, &outgoing{room: "r", channel: "c", payload: make([]byte, n)})
	}
	for i := range senders {
		signal(i, size)
	}
	most := p.bytes
	if n := len(p.signals); most > 1<<19 || most < 1<<19-2*size || b.Stats().Signals.Load() != int64(senders-n) {
		t.Errorf("%d signals of %d bytes wait; %d were lost", n, most, b.Stats().Signals.Load())
	}
	for i := range p.signals { // a newer one in place of each
		p.signal(i, &outgoing{room: "r", channel: "c", payload: make([]byte, size/2)})
	}
	if p.bytes > most/2+most/10 {
		t.Errorf("%d bytes wait in place of %d", p.bytes, most)
	}
	if err := p.take(&outgoing{room: "r", channel: "c", payload: make([]byte, 1<<19)}); err != nil {
		t.Errorf("no room for a message: %v", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.queue)+len(p.signals) > 0 {
		p.batch()
	}
	if p.bytes != 0 {
		t.Errorf("%d bytes are counted when nothing waits", p.bytes)
	}
}
