package redisbus

import (
	"bytes"
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
//	"v" version                           members came back of whom was never told
//	                                      that they were gone
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
// not understand is errForeign. The event keeps b.
func decodeEnvelope(b []byte) (*bus.Event, error) {
	e, _, err := decodeEnvelopeAt(b, 0)
	return e, err
}

// decodeEnvelopeAt decodes the envelope from start to the end of b, and returns
// all that precedes its body, as the one text that the event's strings are of.
func decodeEnvelopeAt(b []byte, start int) (e *bus.Event, text string, err error) {
	header := b[start:]
	if len(header) < envelopeHeader || header[0] != envelopeVersion {
		return nil, "", errForeign
	}
	e = &bus.Event{Kind: bus.Kind(header[1])}
	switch e.Kind {
	case bus.Chat, bus.Signal, bus.Redacted, bus.Closed, bus.Shadow:
	default:
		return nil, "", errForeign
	}
	size := uint64(binary.BigEndian.Uint32(header[2:]))
	copy(e.ID[:], header[6:])
	e.Time = int64(binary.BigEndian.Uint64(header[22:]))
	if size > uint64(len(header)-envelopeHeader) {
		return nil, "", errForeign
	}
	split := len(b) - int(size)
	if size > 0 {
		e.Body = b[split:len(b):len(b)]
	}
	text = string(b[:split])
	for at := start + envelopeHeader; at < split; {
		tag := text[at]
		length, n := uvarint(text[at+1:])
		at += 1 + n
		if n <= 0 || length > uint64(split-at) {
			return nil, "", errForeign
		}
		end := at + int(length)
		switch {
		case length == 0:
		case tag == tagUser:
			e.Sender.User = b[at:end:end]
		case !decodeField(e, tag, text[at:end]):
			return nil, "", errForeign
		}
		at = end
	}
	return e, text, nil
}

func decodeField(e *bus.Event, tag byte, value string) bool {
	switch tag {
	case tagMember:
		e.Sender.Member = value
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
	event   *bus.Event // nil: only the version of the member list is told
	version uint64
	// at is the event's own position where it is sequenced, else the position
	// that precedes it, zero where that is not told.
	at        bus.Position
	sequenced bool
	size      int
}

// decodeFrame takes apart what came over the channel of a room. The event keeps b.
func decodeFrame(room string, b []byte) (frame, error) {
	f := frame{size: len(b)}
	if len(b) == 0 {
		return f, errForeign
	}
	var err error
	switch kind := b[0]; kind {
	case 'u':
		f.event, err = decodeEnvelope(b[1:])
	case 'e':
		f.sequenced = true
		f.event, err = decodeSequenced(b)
		if err == nil {
			f.at = f.event.Position
		}
	case 'j', 'l':
		f.event, f.at, err = decodeChange(kind, string(b[1:]))
	case 'v':
		if f.version, err = strconv.ParseUint(string(b[1:]), 10, 63); err != nil {
			err = errForeign
		}
		return f, err
	default:
		return f, errForeign
	}
	if err != nil {
		return f, err
	}
	f.event.Room = room
	return f, nil
}

func decodeSequenced(b []byte) (*bus.Event, error) {
	head, rest, _ := bytes.Cut(b, []byte(" "))
	digits, envelope, _ := bytes.Cut(rest, []byte(" "))
	seq, err := strconv.ParseUint(string(digits), 10, 63)
	if err != nil || seq == 0 {
		return nil, errForeign
	}
	e, text, err := decodeEnvelopeAt(b, len(b)-len(envelope))
	if err != nil {
		return nil, err
	}
	e.Position = bus.Position{Epoch: text[1:len(head)], Seq: seq}
	if e.Epoch == "" || e.Epoch == "-" {
		return nil, errForeign
	}
	return e, nil
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
