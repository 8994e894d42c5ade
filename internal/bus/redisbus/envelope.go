package redisbus

import (
	"encoding/binary"
	"errors"
	"strconv"
	"strings"

	"github.com/wsrelay/relay/internal/bus"
)

// Envelopes.
//
// An event travels, and is stored, as an envelope:
//
//	byte 0       version, 1
//	byte 1       kind
//	bytes 2–5    length of the body, big endian
//	bytes 6–21   message id
//	bytes 22–29  time, milliseconds, big endian
//	then         fields: a tag byte, the length as a varint, the bytes
//	at the end   the body
//
// Fields that are empty are left out, fields whose tag is unknown are skipped:
// a later relay may add some without changing the version. The scripts look
// into kind, body length and id, which therefore stay where they are.
//
// On the channel of a room a frame stands around it, with a text prefix that a
// script can write:
//
//	"e" epoch " " seq " " envelope        a sequenced event
//	"u" envelope                          an event without a place
//	"j" or "l" epoch " " seq " " count " " version " " time " "
//	    len(member) " " len(reason) " " member reason user
//	                                      a member came or went, after seq;
//	                                      "-" and 0 in a room without history
const (
	envelopeVersion = 1
	envelopeHeader  = 30
)

// Tags of fields: never reuse one.
const (
	tagMember = 1 + iota
	tagUser
	tagConn
	tagKey
	tagReason
	tagTrace  // trace id, span id, flags
	tagTarget // id and seq, big endian
)

// errForeign is what came from a publisher that is not of this kind or version.
var errForeign = errors.New("not an envelope that this version reads")

// appendEnvelope encodes what travels of an event: not its room and position,
// which the channel and the frame tell.
func appendEnvelope(b []byte, e *bus.Event) []byte {
	b = append(b, envelopeVersion, byte(e.Kind))
	b = binary.BigEndian.AppendUint32(b, uint32(len(e.Body)))
	b = append(b, e.ID[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(e.Time))
	b = appendField(b, tagMember, e.Sender.Member)
	b = appendField(b, tagUser, e.Sender.User)
	b = appendField(b, tagConn, e.Sender.Conn)
	b = appendField(b, tagKey, e.Key)
	b = appendField(b, tagReason, e.Reason)
	if e.Trace != (bus.Trace{}) {
		b = append(b, tagTrace, 25)
		b = append(b, e.Trace.TraceID[:]...)
		b = append(b, e.Trace.SpanID[:]...)
		b = append(b, e.Trace.Flags)
	}
	if e.TargetSeq != 0 || !e.Target.IsZero() {
		b = append(b, tagTarget, 24)
		b = append(b, e.Target[:]...)
		b = binary.BigEndian.AppendUint64(b, e.TargetSeq)
	}
	return append(b, e.Body...)
}

func appendField[S string | []byte](b []byte, tag byte, value S) []byte {
	if len(value) == 0 {
		return b
	}
	b = append(b, tag)
	b = binary.AppendUvarint(b, uint64(len(value)))
	return append(b, value...)
}

// decodeEnvelope is the inverse of appendEnvelope, for any bytes: what it does
// not understand is errForeign.
func decodeEnvelope(s string) (*bus.Event, error) {
	if len(s) < envelopeHeader || s[0] != envelopeVersion {
		return nil, errForeign
	}
	e := &bus.Event{Kind: bus.Kind(s[1])}
	switch e.Kind {
	case bus.Chat, bus.Signal, bus.Redacted, bus.Closed, bus.Shadow:
	default:
		return nil, errForeign
	}
	head := []byte(s[2:envelopeHeader])
	size := uint64(binary.BigEndian.Uint32(head))
	copy(e.ID[:], head[4:])
	e.Time = int64(binary.BigEndian.Uint64(head[20:]))
	if size > uint64(len(s)-envelopeHeader) {
		return nil, errForeign
	}
	split := len(s) - int(size)
	if size > 0 {
		e.Body = []byte(s[split:])
	}
	for fields := s[envelopeHeader:split]; fields != ""; {
		tag := fields[0]
		length, n := uvarint(fields[1:])
		if n <= 0 || length > uint64(len(fields)-1-n) {
			return nil, errForeign
		}
		value := fields[1+n : 1+n+int(length)]
		fields = fields[1+n+int(length):]
		if value != "" && !decodeField(e, tag, value) {
			return nil, errForeign
		}
	}
	return e, nil
}

func decodeField(e *bus.Event, tag byte, value string) bool {
	switch tag {
	case tagMember:
		e.Sender.Member = value
	case tagUser:
		e.Sender.User = []byte(value)
	case tagConn:
		e.Sender.Conn = value
	case tagKey:
		e.Key = value
	case tagReason:
		e.Reason = value
	case tagTrace:
		if len(value) != 25 {
			return false
		}
		copy(e.Trace.TraceID[:], value)
		copy(e.Trace.SpanID[:], value[16:])
		e.Trace.Flags = value[24]
	case tagTarget:
		if len(value) != 24 {
			return false
		}
		copy(e.Target[:], value)
		e.TargetSeq = binary.BigEndian.Uint64([]byte(value[16:]))
	}
	return true
}

// uvarint is binary.Uvarint on a string.
func uvarint(s string) (v uint64, n int) {
	for i := 0; i < len(s) && i < binary.MaxVarintLen64; i++ {
		b := s[i]
		if b < 0x80 {
			if i == binary.MaxVarintLen64-1 && b > 1 {
				return 0, -1
			}
			return v | uint64(b)<<(7*i), i + 1
		}
		v |= uint64(b&0x7f) << (7 * i)
	}
	return 0, 0
}

// frame is what came over a room's channel.
type frame struct {
	event *bus.Event
	// at is the event's own position where it is sequenced, else the position
	// that precedes it, zero where that is not told.
	at        bus.Position
	sequenced bool
	size      int
}

// decodeFrame takes apart what came over the channel of a room.
func decodeFrame(room, s string) (frame, error) {
	f := frame{size: len(s)}
	if s == "" {
		return f, errForeign
	}
	kind, rest := s[0], s[1:]
	var err error
	switch kind {
	case 'u':
		f.event, err = decodeEnvelope(rest)
	case 'e':
		f.sequenced = true
		var ok bool
		if f.at, rest, ok = cutPosition(rest); !ok || f.at.Seq == 0 || f.at.Epoch == "" {
			return f, errForeign
		}
		if f.event, err = decodeEnvelope(rest); err == nil {
			f.event.Position = f.at
		}
	case 'j', 'l':
		f.event, f.at, err = decodeChange(kind, rest)
	default:
		return f, errForeign
	}
	if err != nil {
		return f, err
	}
	f.event.Room = room
	return f, nil
}

func cutPosition(s string) (p bus.Position, rest string, ok bool) {
	epoch, rest, ok := strings.Cut(s, " ")
	if !ok {
		return p, "", false
	}
	seq, rest, ok := cutNumber(rest)
	if epoch == "-" {
		epoch = ""
	}
	return bus.Position{Epoch: epoch, Seq: seq}, rest, ok
}

func cutNumber(s string) (n uint64, rest string, ok bool) {
	digits, rest, ok := strings.Cut(s, " ")
	if !ok {
		return 0, "", false
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	return n, rest, err == nil
}

func decodeChange(kind byte, s string) (*bus.Event, bus.Position, error) {
	at, rest, ok := cutPosition(s)
	var n [5]uint64 // count, version, time, len(member), len(reason)
	for i := range n {
		if !ok {
			return nil, at, errForeign
		}
		n[i], rest, ok = cutNumber(rest)
	}
	left := uint64(len(rest))
	if !ok || n[3] > left || n[4] > left-n[3] || n[0] > 1<<31 {
		return nil, at, errForeign
	}
	e := &bus.Event{Kind: bus.Joined, Count: int(n[0]), Version: n[1], Time: int64(n[2])}
	if kind == 'l' {
		e.Kind = bus.Left
	}
	e.Sender.Member = rest[:n[3]]
	e.Reason = rest[n[3] : n[3]+n[4]]
	e.Sender.User = []byte(rest[n[3]+n[4]:])
	return e, at, nil
}
