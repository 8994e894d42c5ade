package socket

import (
	"context"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wsrelay/relay/internal/wire"
)

// gathered is a room of n sockets, from which all has been read.
func gathered(t *testing.T, n int) (g *Group, room []Conn, fds []int) {
	t.Helper()
	g, _, addr, conns := crowded(t, Options{PingEvery: time.Hour})
	fds = crowd(t, addr, n)
	for range n {
		room = append(room, wait(t, conns))
	}
	f := chatFrame()
	for _, c := range room {
		c.Send(f)
	}
	for _, fd := range fds { // by then the loops have seen all that a handshake brings
		until(t, "a frame has come", func() bool { return arrived(t, fd) == len(f.Bytes()) })
		if _, _, err := unix.Recvfrom(fd, make([]byte, len(f.Bytes())), 0); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "all is quiet", func() bool { return idle(g) })
	return g, room, fds
}

// idle reports that nobody gathers, writes or waits to be written.
func idle(g *Group) bool {
	if g.gathering.Load() > 0 {
		return false
	}
	w := &g.writers
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.writing && len(w.list) == 0
}

// arrived is how many bytes lie ready for a client.
func arrived(t *testing.T, fd int) int {
	t.Helper()
	n, _, err := unix.Recvfrom(fd, make([]byte, 64<<10), unix.MSG_DONTWAIT|unix.MSG_PEEK)
	if err == unix.EAGAIN {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func chatFrame() *wire.Frame {
	return (&wire.Chat{RoomID: "r", Seq: 1, User: []byte(`{"id":"somebody"}`), Message: []byte(`"hello"`)}).Frame()
}

// A few are written by who has queued them, when they say that this is all, in
// one call for each socket.
func TestFlushWritesWhatWasGathered(t *testing.T) {
	g, room, fds := gathered(t, 10)
	f, writes := chatFrame(), g.stats.Writes.Load()
	g.Gather()
	for range 3 {
		for _, c := range room {
			c.Send(f)
		}
	}
	if n := g.stats.Writes.Load() - writes; n != 0 {
		t.Errorf("%d calls before Flush", n)
	}
	g.Flush()
	until(t, "all is written", func() bool { return idle(g) }) // a loop that ends a row may have taken a part
	if n := g.stats.Writes.Load() - writes; n != 10 {
		t.Errorf("%d calls for 10 sockets", n)
	}
	for i, fd := range fds {
		if n := arrived(t, fd); n != 3*len(f.Bytes()) {
			t.Errorf("client %d has %d bytes, want %d", i, n, 3*len(f.Bytes()))
		}
	}
}

// Whose frames they are does not matter, nor who flushes first.
func TestFlushWritesWhatOthersQueued(t *testing.T) {
	g, room, fds := gathered(t, 2)
	f := chatFrame()
	g.Gather()
	g.Gather()
	done := make(chan struct{})
	go func() { defer close(done); room[0].Send(f) }()
	<-done
	g.Flush()
	if n := arrived(t, fds[0]); n != len(f.Bytes()) {
		t.Errorf("after the first Flush the client has %d bytes, want %d", n, len(f.Bytes()))
	}
	room[1].Send(f)
	g.Flush()
	if n := arrived(t, fds[1]); n != len(f.Bytes()) {
		t.Errorf("after the second Flush the client has %d bytes, want %d", n, len(f.Bytes()))
	}
	room[0].Send(f) // and nobody gathers any more
	until(t, "a frame is written without Flush", func() bool { return arrived(t, fds[0]) == 2*len(f.Bytes()) })
}

// Many do not wait for Flush: the writers begin.
func TestMoreThanAFewAreWrittenWhileGathering(t *testing.T) {
	g, room, fds := gathered(t, gatherMax+2)
	f := chatFrame()
	g.Gather()
	// What comes when the writers have just gone to sleep may wait for more.
	until(t, "all is written without Flush", func() bool {
		for _, c := range room {
			c.Send(f)
		}
		for _, fd := range fds {
			if arrived(t, fd) == 0 {
				return false
			}
		}
		return true
	})
	g.Flush()
}

// A connection can be on the list of those to be written though it has ended,
// and who gathers may flush when the loop has stopped.
func TestAFlushAfterStopFindsNothingToDo(t *testing.T) {
	g, room, _ := gathered(t, 1)
	c := room[0].(*conn)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	g.Gather()
	g.Stop(ctx)
	g.writers.add(c)
	g.Flush()
	g.writers.add(c) // with nobody who gathers
	g.writers.add(c)
	g.Flush()
}
