package socket

import (
	"encoding/binary"
	"math"

	"github.com/gorilla/websocket"
)

// inbound is what a connection has sent of a message that is not whole yet. A
// connection without a goroutine cannot wait for the rest inside gorilla, so it
// waits here.
type inbound struct {
	raw   []byte // a frame that is not whole; or, in a pause, whatever there is
	data  []byte // the fragments so far, unmasked, one after the other
	first byte   // of the first fragment's header; 0: no fragmented message is under way
}

// piece is what a run of bytes begins with.
type piece uint8

const (
	incomplete piece = iota // more is needed to tell, or to be of use
	controlFrame
	fragment  // of a message that goes on
	lastPiece // a whole message, or the last of its fragments
	broken    // gorilla will not take it, and knows what to say about it
)

const (
	finBit  = 0x80
	rsvBits = 0x70
	rsv1    = 0x40
	maskBit = 0x80
)

// header is that of one frame (RFC 6455 section 5.2).
type header struct {
	first byte
	size  int // of the header itself, mask included
	body  int // bytes that follow
}

// scan finds out what b begins with, and how long it is: header and body of one
// frame, or for broken what is needed to see that it is. It judges by the header
// alone, so that nobody makes us wait for a frame that we shall refuse. limit
// bounds the bytes of a message, fragments together.
func (in *inbound) scan(b []byte, limit int64, deflated bool) (piece, header) {
	if len(b) < 2 {
		return incomplete, header{}
	}
	h := header{first: b[0], size: 6}
	n := uint64(b[1] &^ maskBit)
	open := in != nil && in.first != 0
	rsv, op, fin := b[0]&rsvBits, b[0]&0x0f, b[0]&finBit != 0
	control := op >= websocket.CloseMessage
	switch {
	case b[1]&maskBit == 0,
		rsv != 0 && (rsv != rsv1 || !deflated),
		op > websocket.BinaryMessage && !control, op > websocket.PongMessage,
		control && (n > 125 || !fin),
		!control && open != (op == 0): // a fragment of nothing, or a message inside another
		h.size = 2
		return broken, h
	case n == 126:
		h.size += 2
	case n == 127:
		h.size += 8
	}
	if len(b) < h.size-4 {
		return incomplete, h
	}
	switch n {
	case 126:
		n = uint64(binary.BigEndian.Uint16(b[2:]))
	case 127:
		n = binary.BigEndian.Uint64(b[2:])
	}
	switch {
	case n > math.MaxInt64:
		h.size -= 4
		return broken, h // which gorilla sees before the mask
	case len(b) < h.size:
		return incomplete, h
	}
	before := 0
	if open {
		before = len(in.data)
	}
	if n > math.MaxInt32 || !control && int64(before)+int64(n) > limit {
		return broken, h
	}
	h.body = int(n)
	switch {
	case len(b) < h.size+h.body:
		return incomplete, h
	case control:
		return controlFrame, h
	case !fin:
		return fragment, h
	}
	return lastPiece, h
}

// add appends the body of a frame to the message under way.
func (in *inbound) add(b []byte, h header) {
	if in.first == 0 {
		in.first = h.first
	}
	mask := b[h.size-4 : h.size]
	at := len(in.data)
	in.data = append(in.data, b[h.size:h.size+h.body]...)
	for i := range h.body {
		in.data[at+i] ^= mask[i&3]
	}
}

// joined is a frame around the fragments so far, as if they had come as one: its
// header, and the payload. fin tells whether nothing is to follow.
func (in *inbound) joined(fin bool) (head, data []byte) {
	head = make([]byte, 14) // and a mask of zeros, as the payload is not masked any more
	head[0], head[1] = in.first, maskBit|127
	if fin {
		head[0] |= finBit
	}
	binary.BigEndian.PutUint64(head[2:], uint64(len(in.data)))
	return head, in.data
}
