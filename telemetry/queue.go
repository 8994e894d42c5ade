package telemetry

import (
	"sync"
	"sync/atomic"
)

// record is something that becomes spans.
type record interface {
	// draw makes the spans. It is called by one goroutine.
	draw(*artist)
}

// queue is what waits to become spans, bounded by how many spans it will be.
// Whoever puts never waits: what does not fit is counted.
type queue struct {
	max  int
	wake chan struct{} // holds one: there is something to do, or enough waits
	full int           // spans that are enough to be sent at once

	dropped atomic.Int64 // spans

	mu     sync.Mutex
	list   []queued // list[head:] waits; guarded by mu
	head   int      // guarded by mu
	spans  int      // of what waits; guarded by mu
	closed bool     // guarded by mu
}

type queued struct {
	record
	spans int
}

// enough spans are worth a request. To send more at a time is cheaper, and what
// comes faster than requests go makes them larger by itself; but whoever makes a
// large one has a core to himself for tens of milliseconds, and messages see it
// in their p99.
const enough = 512

func newQueue(maxSpans, batch int) *queue {
	return &queue{max: maxSpans, full: min(enough, batch, maxSpans), wake: make(chan struct{}, 1)}
}

// put takes a record of at most so many spans, or counts them as dropped.
func (q *queue) put(r record, spans int) {
	q.mu.Lock()
	if q.closed || q.spans+spans > q.max {
		q.mu.Unlock()
		q.dropped.Add(int64(spans))
		return
	}
	first := q.spans == 0
	q.list = append(q.list, queued{r, spans})
	q.spans += spans
	nudge := first || q.spans >= q.full
	q.mu.Unlock()
	if nudge {
		select {
		case q.wake <- struct{}{}:
		default:
		}
	}
}

// waiting is how many spans wait.
func (q *queue) waiting() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.spans
}

// take moves about one batch to into, which is overwritten, and returns it with
// how many spans it is at most.
func (q *queue) take(into []queued, batch int) ([]queued, int) {
	clear(into)
	into = into[:0]
	q.mu.Lock()
	defer q.mu.Unlock()
	n, spans := q.head, 0
	for n < len(q.list) && (n == q.head || spans+q.list[n].spans <= batch) {
		spans += q.list[n].spans
		n++
	}
	into = append(into, q.list[q.head:n]...)
	clear(q.list[q.head:n])
	q.head, q.spans = n, q.spans-spans
	switch left := q.list[q.head:]; {
	case len(left) == 0 && cap(q.list) > 4*batch:
		q.list, q.head = nil, 0 // a burst is no reason to keep its memory
	case q.head >= len(left):
		rest := copy(q.list, left)
		clear(q.list[rest:])
		q.list, q.head = q.list[:rest], 0
	}
	return into, spans
}

// close refuses everything from now on, and drops what is left.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.dropped.Add(int64(q.spans))
	q.list, q.head, q.spans = nil, 0, 0
}
