package redisbus

import (
	"context"
	"errors"
	"net"
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
	b, err := New(Options{URL: server.URL()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close(context.Background()) })
	if err := b.Start(t.Context(), aloof{}); err != nil {
		t.Fatal(err)
	}
	return b
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
