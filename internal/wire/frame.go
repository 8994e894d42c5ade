package wire

import (
	"encoding/binary"
	"sync"
	"time"
)

// Class says what may become of a frame when its receiver is slow and its
// endpoint sheds.
type Class uint8

// The classes, in the order of what is worth keeping.
const (
	ClassReply     Class = iota // answers to requests, and what concerns the connection: never shed
	ClassSequenced              // has a place in a room's stream, or tells of a hole in it: never shed
	ClassChat                   // a message of a room without history
	ClassMember                 // somebody came or went
	ClassSignal                 // the newest per ShedKey wins
)

// Sheddable reports whether a slow receiver may do without frames of this class.
func (c Class) Sheddable() bool { return c >= ClassChat }

// String names the class for metrics.
func (c Class) String() string {
	switch c {
	case ClassReply:
		return "reply"
	case ClassSequenced:
		return "sequenced"
	case ClassChat:
		return "chat"
	case ClassMember:
		return "member"
	default:
		return "signal"
	}
}

// ShedKey tells which signals replace each other: those of one sender in one room.
type ShedKey struct{ RoomID, UserID string }

// Frame is one encoded server message, framed as one unmasked text frame. It is
// immutable and shared by all who receive it.
type Frame struct {
	bytes   []byte
	payload []byte
	class   Class
	chat    bool
	shed    ShedKey
	fate    Fate // nil: nobody wants to know
	about   any  // what fate knows the frame by
	writes  bool // fate hears of writes too

	once       sync.Once
	compressed []byte // written inside once
}

// Fate hears what becomes of a frame at each socket that it was queued to: once
// Wrote, when the socket has taken all of it, or once Dropped. Its methods must
// not block. about is what Track was told, conn the connection's id, why a word
// for programs: shed, slow_consumer, or closed where the connection had ended.
type Fate interface {
	Wrote(about any, conn string, at time.Time)
	Dropped(about any, conn, why string)
}

// Track makes fate hear of the frame: of every socket with writes, else only of
// those that drop it. about tells the frame from others, so that one fate can be
// that of all; a pointer makes no garbage. It must be called before the frame is
// sent to anybody.
func (f *Frame) Track(fate Fate, about any, writes bool) {
	f.fate, f.about, f.writes = fate, about, writes
}

// Wrote tells that a socket has taken the frame, and Dropped that it has not and
// will not. They cost nothing where nobody wants to know.
func (f *Frame) Wrote(conn func() string) {
	if f.writes {
		f.fate.Wrote(f.about, conn(), time.Now())
	}
}

// Dropped: see Wrote.
func (f *Frame) Dropped(conn func() string, why string) {
	if f.fate != nil {
		f.fate.Dropped(f.about, conn(), why)
	}
}

// Bytes is the whole frame, header included, as it goes to the socket. It must
// not be changed.
func (f *Frame) Bytes() []byte { return f.bytes }

// Payload is the JSON inside the frame. It must not be changed.
func (f *Frame) Payload() []byte { return f.payload }

// Class tells how much the frame is worth under pressure.
func (f *Frame) Class() Class { return f.class }

// Chat reports whether the frame is a message that somebody sent, in a room with
// history or without.
func (f *Frame) Chat() bool { return f.chat }

// ShedKey is set for ClassSignal only.
func (f *Frame) ShedKey() ShedKey { return f.shed }

// Compressed is the whole frame for those who have negotiated permessage-deflate
// without context takeover (RFC 7692), made at the first call: deflate appends
// the compressed payload to dst. Where it gives up (nil) or wins nothing, the
// frame stays as it is: RSV1 is set message by message (section 6).
func (f *Frame) Compressed(deflate func(dst, payload []byte) []byte) []byte {
	f.once.Do(func() {
		f.compressed = f.bytes
		b := deflate(open(len(f.payload)), f.payload)
		if len(b) > headRoom && len(b)-headRoom < len(f.payload) {
			f.compressed = header(b, finText|rsv1)
		}
	})
	return f.compressed
}

const (
	headRoom = 10   // of the longest header: 2 bytes and a 64-bit length
	finText  = 0x81 // FIN, opcode 1 (RFC 6455 section 5.2)
	rsv1     = 0x40 // compressed (RFC 7692 section 6)
)

// open makes a buffer for a payload of about n bytes, with the head room that
// header needs in front of it.
func open(n int) []byte { return make([]byte, headRoom, headRoom+n) }

// seal frames what was appended to a buffer of open.
func seal(b []byte, c Class) *Frame {
	return &Frame{bytes: header(b, finText), payload: b[headRoom:len(b):len(b)], class: c}
}

// header writes the header of RFC 6455 section 5.2 right in front of the payload
// and returns the frame.
func header(b []byte, first byte) []byte {
	n, at := len(b)-headRoom, 0
	switch {
	case n < 126:
		at = 8
		b[at+1] = byte(n)
	case n < 1<<16:
		at = 6
		b[at+1] = 126
		binary.BigEndian.PutUint16(b[at+2:], uint16(n))
	default:
		b[at+1] = 127
		binary.BigEndian.PutUint64(b[at+2:], uint64(n))
	}
	b[at] = first
	return b[at:len(b):len(b)]
}
