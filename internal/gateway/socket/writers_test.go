package socket

import (
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// met is a line that is written only when another is being written at the same
// time, on another goroutine.
type met struct {
	still
	slow  bool // the first lot is not, but takes until this is closed:
	taken chan struct{}
	other chan struct{}
	over  chan struct{}
	n     *atomic.Int64
}

func (m *met) write([]byte) {
	if n := m.n.Add(1); m.slow && n <= lot {
		if n == 1 {
			<-m.taken
		}
		return
	}
	select {
	case m.other <- struct{}{}:
	case <-m.other:
	case <-m.over:
	}
}

// roundOf has one goroutine lead a round of so many, and returns how many of them
// were written when nothing moves any more.
func roundOf(t *testing.T, size int, slow bool) (written int64) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2)) // one leads, one helps
	synctest.Test(t, func(t *testing.T) {
		g := newGroup()
		w := &g.writers
		w.begin()
		line := &met{slow: slow, taken: make(chan struct{}), other: make(chan struct{}), over: make(chan struct{}), n: new(atomic.Int64)}
		opt := Options{}.withDefaults()
		w.writing = true // so that the list is one when the round begins
		for range size {
			c := new(conn)
			c.setUp(g.shards[0], &opt, line)
			w.add(c)
		}
		w.lead <- struct{}{}
		<-time.After(2 * longRound) // which is when nothing moves for so long, of virtual time
		close(line.taken)
		synctest.Wait()
		written = line.n.Load()
		close(line.over) // whoever is alone goes on
		close(g.stop)
		g.own.Wait()
	})
	return written
}

func TestALargeRoundIsShared(t *testing.T) {
	if n := roundOf(t, 2*firstShare, false); n != 2*firstShare {
		t.Errorf("%d of %d were written by two", n, 2*firstShare)
	}
}

func TestASmallRoundIsNot(t *testing.T) {
	if n := roundOf(t, firstShare, false); n != 1 {
		t.Errorf("%d of %d were written: somebody helped", n, firstShare)
	}
}

func TestALongRoundIsShared(t *testing.T) {
	if n := roundOf(t, 4*lot, true); n <= lot+1 { // one that is alone begins the second lot
		t.Errorf("%d of %d were written, all by one", n, 4*lot)
	}
}
