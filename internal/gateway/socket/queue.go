package socket

import "github.com/wsrelay/relay/internal/wire"

// item is one thing to write: a shared frame, or the bytes of a control frame.
type item struct {
	frame *wire.Frame
	raw   []byte
	size  int
}

// queue holds what waits for one client, by the bytes it takes. Bytes that a
// writer has taken count until they are written.
type queue struct {
	items []item
	taken int // bytes of items that a writer holds
	bytes int // of items and taken
}

func (q *queue) push(it item) {
	q.items = append(q.items, it)
	q.bytes += it.size
}

// take hands all items to the writer, which gives back the slice of the last
// time.
func (q *queue) take(old []item) []item {
	clear(old)
	items := q.items
	q.items = old[:0]
	q.taken = q.bytes
	return items
}

// written forgets n bytes that are out.
func (q *queue) written(n int) {
	n = min(n, q.taken)
	q.taken -= n
	q.bytes -= n
}

// drop forgets everything that waits, and returns how many bytes that was.
func (q *queue) drop() int {
	n := q.bytes
	q.items, q.taken, q.bytes = nil, 0, 0
	return n
}

// replacePong puts a pong in the place of one that waits.
func (q *queue) replacePong(b []byte) bool {
	for i := range q.items {
		it := &q.items[i]
		if it.raw != nil && it.raw[0]&0x0f == 0xA {
			q.bytes += len(b) - it.size
			it.raw, it.size = b, len(b)
			return true
		}
	}
	return false
}

type shedding struct {
	signals, members, chats int64
	bytes                   int
}

// shed makes room for need bytes by dropping what a client can do without, in
// the order of Shed, oldest first.
func (q *queue) shed(need int) (s shedding) {
	s.signals += q.remove(need, &s.bytes, q.replaced())
	s.signals += q.remove(need, &s.bytes, ofClass(wire.ClassSignal))
	s.members += q.remove(need, &s.bytes, ofClass(wire.ClassMember))
	s.chats += q.remove(need, &s.bytes, ofClass(wire.ClassChat))
	return s
}

func ofClass(k wire.Class) func(int, *wire.Frame) bool {
	return func(_ int, f *wire.Frame) bool { return f.Class() == k }
}

// replaced finds the signals that a newer one of the same sender and room makes
// worthless.
func (q *queue) replaced() func(int, *wire.Frame) bool {
	newest := make(map[wire.ShedKey]int)
	for i, it := range q.items {
		if it.frame != nil && it.frame.Class() == wire.ClassSignal {
			newest[it.frame.ShedKey()] = i
		}
	}
	return func(i int, f *wire.Frame) bool {
		return f.Class() == wire.ClassSignal && newest[f.ShedKey()] != i
	}
}

// remove drops items that match until need bytes are free.
func (q *queue) remove(need int, freed *int, match func(int, *wire.Frame) bool) (n int64) {
	keep := q.items[:0]
	for i, it := range q.items {
		if *freed < need && it.frame != nil && match(i, it.frame) {
			*freed += it.size
			q.bytes -= it.size
			n++
			continue
		}
		keep = append(keep, it)
	}
	clear(q.items[len(keep):])
	q.items = keep
	return n
}
