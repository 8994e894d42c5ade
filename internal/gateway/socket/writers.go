package socket

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// writers write what waits, for all connections of a group whose line never
// makes them wait.
//
// A connection with something queued stands on one list, once. A round takes the
// list as it is, goes through it, and writes for each connection all that waits
// in one call. What is queued meanwhile is for the next round: the busier a room,
// the more goes out at once. There is no timer, so when there is little it leaves
// at once.
//
// There is one list, and not one for each core, so that the members of a room
// stand side by side and get their messages in the same round. Lists of their own
// are in different places of their rounds: then a sender who waits for everybody
// hears of its messages one by one, and sends them so, until a write carries 2.9
// messages where it could 3.9 (docs/performance.md, scenario many). Cores share
// a large round instead.
type writers struct {
	group *Group
	begun sync.Once
	lead  chan struct{} // holds one: somebody is to write until the list is empty; never closed, for many send
	help  chan *round   // rounds that are large

	mu      sync.Mutex // guards what follows; taken after conn.mu
	list    []*conn    // to be written
	writing bool       // somebody is at it, or about to be, and looks at the list again
}

const (
	// gatherMax is how many connections wait at most until somebody who gathers
	// writes them; with more, a writer begins at once, on a core of its own.
	gatherMax = 64
	// firstShare is how many connections of a round one goroutine writes until
	// another helps, when all were asleep: it should be worth waking it up.
	firstShare = 256
	// laterShare is the same when round follows round. Then cores are better used
	// for what comes in than to write less at a time; but no round should take
	// much longer than 6 ms.
	laterShare = 1024
	// longRound is how long one goroutine writes alone in any case: frames may be
	// large, or kernels slow.
	longRound = 20 * time.Millisecond
	// lot is how many one goroutine takes from a round at a time.
	lot = 16
	// turns is how often one connection reads or writes before the next has its
	// turn.
	turns = 4
	// writeMax is how much one call writes at most.
	writeMax = 64 << 10
)

func (w *writers) init(g *Group) {
	w.group = g
	w.lead = make(chan struct{}, 1)
	w.help = make(chan *round, runtime.GOMAXPROCS(0)-1)
}

// begin starts the goroutines, if they do not run yet.
func (w *writers) begin() {
	w.begun.Do(func() {
		for range runtime.GOMAXPROCS(0) {
			w.group.own.Go(w.run)
		}
	})
}

// add has c written, which is not on the list.
func (w *writers) add(c *conn) {
	w.mu.Lock()
	w.list = append(w.list, c)
	wake := !w.writing && (w.group.gathering.Load() == 0 || len(w.list) > gatherMax)
	w.writing = w.writing || wake
	w.mu.Unlock()
	if wake {
		w.lead <- struct{}{} // has room: nobody leads
	}
}

// run writes until the group stops.
func (w *writers) run() {
	for {
		select {
		case <-w.lead:
			buf := writeBuffers.Get().(*[writeMax]byte)
			for r, n := w.take(), firstShare; r != nil; r, n = w.take(), laterShare {
				w.write(r, n, buf[:0])
			}
			writeBuffers.Put(buf)
		case r := <-w.help:
			buf := writeBuffers.Get().(*[writeMax]byte)
			for r.write(buf[:0]) {
			}
			r.leave()
			writeBuffers.Put(buf)
		case <-w.group.stop:
			return
		}
	}
}

// write leads a round, of which each goroutine is to have n. If it takes long all
// the same, everybody is asked.
func (w *writers) write(r *round, n int, buf []byte) {
	w.share(r, n)
	for began, asked := time.Now(), false; r.write(buf); {
		if !asked && time.Since(began) > longRound {
			asked = true
			w.share(r, lot)
		}
	}
	r.leave()
}

// take begins a round with all that is on the list; nil when there is nobody:
// whoever wrote is done.
func (w *writers) take() *round {
	r := rounds.Get().(*round)
	w.mu.Lock()
	r.list, w.list = w.list, r.list
	w.writing = len(r.list) > 0
	w.mu.Unlock()
	r.at.Store(0)
	r.users.Store(1)
	if len(r.list) == 0 {
		r.leave()
		return nil
	}
	return r
}

// share asks for help with a round, where there is more than n to do for each. Who
// is late finds nothing left.
func (w *writers) share(r *round, n int) {
	for range (len(r.list) - int(r.at.Load()) - 1) / n {
		r.users.Add(1)
		select {
		case w.help <- r:
		default:
			r.users.Add(-1)
			return
		}
	}
}

// flush writes what waits, on the goroutine of the caller, unless somebody is at
// it. What is queued meanwhile is for a writer.
func (w *writers) flush() {
	w.mu.Lock()
	if w.writing || len(w.list) == 0 {
		w.mu.Unlock()
		return
	}
	w.writing = true
	w.mu.Unlock()
	buf := writeBuffers.Get().(*[writeMax]byte)
	if r := w.take(); r != nil {
		w.write(r, laterShare, buf[:0])
	}
	writeBuffers.Put(buf)
	w.mu.Lock()
	w.writing = len(w.list) > 0
	wake := w.writing
	w.mu.Unlock()
	if wake {
		w.lead <- struct{}{} // has room: nobody leads
	}
}

var writeBuffers = sync.Pool{New: func() any { return new([writeMax]byte) }}

// round is one round of writing. Goroutines that share it take lots until all of
// the list is taken; the last that leaves lets it be used again.
type round struct {
	list  []*conn
	at    atomic.Int64 // the first of the list that nobody has taken
	users atomic.Int32
}

var rounds = sync.Pool{New: func() any { return new(round) }}

// write takes a lot of the round and writes it; false when all is taken.
func (r *round) write(buf []byte) bool {
	to := int(r.at.Add(lot))
	from := to - lot
	if from >= len(r.list) {
		return false
	}
	for _, c := range r.list[from:min(to, len(r.list))] {
		c.line.write(buf)
	}
	return true
}

func (r *round) leave() {
	if r.users.Add(-1) == 0 {
		clear(r.list)
		r.list = r.list[:0]
		rounds.Put(r)
	}
}
