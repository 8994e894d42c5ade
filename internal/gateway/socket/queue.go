package socket

import (
	"sync"

	"github.com/wsrelay/relay/internal/wire"
)

// minCost is what a queued frame counts for at least: a frame of a few bytes
// takes up its place in memory too, and a flood of those must not be free.
const minCost = 256

// queue holds the frames that wait for one client. What is in the hands of who
// writes stays in front until it is out, and counts until then.
type queue struct {
	deflated bool          // write frames as compressed; set before anybody knows of the connection
	owner    func() string // names the connection to who tracks a frame; nil: nobody knows
	frames   []*wire.Frame // frames[head:] wait, oldest first; nil when nothing does
	head     int
	pinned   int      // how many of them are being written: they stay
	skip     int      // bytes of the first that are out already
	cost     int      // of all that wait
	kinds    [5]int32 // how many wait, by class
}

// blocks are what queues keep their frames in: a quiet connection holds none.
var blocks = sync.Pool{New: func() any { return new(block) }}

type block [16]*wire.Frame

// bytes is what goes to this client for a frame.
func (q *queue) bytes(f *wire.Frame) []byte {
	if q.deflated {
		return f.Compressed(deflate)
	}
	return f.Bytes()
}

func (q *queue) costOf(f *wire.Frame) int { return max(len(q.bytes(f)), minCost) }

func (q *queue) len() int { return len(q.frames) - q.head }

// push queues a frame of that cost.
func (q *queue) push(f *wire.Frame, cost int) {
	if q.frames == nil {
		q.frames = blocks.Get().(*block)[:0]
	}
	q.frames = append(q.frames, f)
	q.cost += cost
	q.kinds[f.Class()]++
}

// gather adds to b what is to be written next, at most limit bytes of it: as
// many whole frames as fit, or a part of one that is larger. It copies only if
// there are several. The bytes stay in the queue until wrote says that they are
// out.
func (q *queue) gather(b []byte, limit int) []byte {
	waiting := q.frames[q.head:]
	if len(waiting) == 0 {
		return b
	}
	if p := q.bytes(waiting[0])[q.skip:]; len(b) == 0 && (len(waiting) == 1 || len(p) >= limit) {
		q.pinned = 1
		return p[:min(len(p), limit)]
	}
	skip := q.skip
	for i, f := range waiting {
		p := q.bytes(f)[skip:]
		if len(b)+len(p) > limit {
			break
		}
		b, skip = append(b, p...), 0
		q.pinned = i + 1
	}
	return b
}

// wrote forgets n bytes of what gather gave; the rest of it goes next. It
// returns the cost that this freed.
func (q *queue) wrote(n int) (freed int) {
	q.pinned = 0
	at := q.head
	for n > 0 && at < len(q.frames) {
		f := q.frames[at]
		left := len(q.bytes(f)) - q.skip
		if n < left {
			q.skip += n
			break
		}
		n -= left
		q.skip = 0
		f.Wrote(q.id)
		freed += q.costOf(f)
		q.kinds[f.Class()]--
		at++
	}
	clear(q.frames[q.head:at])
	q.head = at
	q.cost -= freed
	q.tidy()
	return freed
}

// tidy gives back what the queue no longer needs.
func (q *queue) tidy() {
	switch {
	case q.len() == 0:
		if cap(q.frames) == len(block{}) {
			blocks.Put((*block)(q.frames[:len(block{})]))
		}
		q.frames, q.head = nil, 0
	case q.head >= 64 && q.head >= q.len():
		n := copy(q.frames, q.frames[q.head:])
		clear(q.frames[n:])
		q.frames, q.head = q.frames[:n], 0
	}
}

// fixed is how many frames must stay, because at least some of their bytes are
// out or about to be.
func (q *queue) fixed() int {
	if q.skip > 0 {
		return max(q.pinned, 1)
	}
	return q.pinned
}

// id is the connection's name.
func (q *queue) id() string {
	if q.owner == nil {
		return ""
	}
	return q.owner()
}

// drop forgets everything that has not been begun, and returns how many chats
// that were and the cost that this freed.
func (q *queue) drop() (chats int64, freed int) {
	_, freed = q.remove(q.cost, func(_ int, f *wire.Frame) bool {
		if f.Chat() {
			chats++
		}
		return true
	}, "slow_consumer")
	return chats, freed
}

// dropAll forgets everything: nothing will be written any more.
func (q *queue) dropAll() (freed int) {
	freed = q.cost
	for _, f := range q.frames[q.head:] {
		f.Dropped(q.id, "closed")
	}
	q.frames, q.head, q.pinned, q.skip, q.cost, q.kinds = nil, 0, 0, 0, 0, [len(q.kinds)]int32{}
	return freed
}

// shedding counts what was dropped.
type shedding struct {
	signals, members, chats int64
	cost                    int
}

// shed makes room for a frame of that class by dropping what a client can do
// without, in the order of Shed, oldest first, until that much cost is freed. It
// never drops what is worth more than the frame: a flood of signals takes no
// chat with it.
func (q *queue) shed(need int, class wire.Class) (s shedding) {
	more := func(n *int64, k wire.Class, match func(int, *wire.Frame) bool) {
		if k >= class && s.cost < need && q.kinds[k] > 0 {
			count, freed := q.remove(need-s.cost, match, "shed")
			*n += count
			s.cost += freed
		}
	}
	if q.kinds[wire.ClassSignal] > 1 {
		more(&s.signals, wire.ClassSignal, q.replaced())
	}
	more(&s.signals, wire.ClassSignal, ofClass(wire.ClassSignal))
	more(&s.members, wire.ClassMember, ofClass(wire.ClassMember))
	more(&s.chats, wire.ClassChat, ofClass(wire.ClassChat))
	return s
}

func ofClass(k wire.Class) func(int, *wire.Frame) bool {
	return func(_ int, f *wire.Frame) bool { return f.Class() == k }
}

// replaced finds the signals that a newer one of the same sender and room makes
// worthless.
func (q *queue) replaced() func(int, *wire.Frame) bool {
	newest := make(map[wire.ShedKey]int)
	for i, f := range q.frames[q.head:] {
		if f.Class() == wire.ClassSignal {
			newest[f.ShedKey()] = i
		}
	}
	return func(i int, f *wire.Frame) bool {
		return f.Class() == wire.ClassSignal && newest[f.ShedKey()] != i
	}
}

// remove drops frames that match, until that much cost is freed.
func (q *queue) remove(need int, match func(i int, f *wire.Frame) bool, why string) (n int64, freed int) {
	waiting := q.frames[q.head:]
	kept := q.fixed()
	for i := kept; i < len(waiting); i++ {
		f := waiting[i]
		if freed < need && match(i, f) {
			f.Dropped(q.id, why)
			freed += q.costOf(f)
			q.kinds[f.Class()]--
			n++
			continue
		}
		waiting[kept] = f
		kept++
	}
	clear(waiting[kept:])
	q.frames = q.frames[:q.head+kept]
	q.cost -= freed
	q.tidy()
	return n, freed
}
