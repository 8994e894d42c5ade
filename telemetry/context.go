package telemetry

import "encoding/hex"

// Flags of a Context.
const (
	// FlagSampled is W3C's: the trace is recorded.
	FlagSampled byte = 0x01
	// FlagDebug is ours: the trace shows the write to every receiver. It travels
	// between instances only and never stands in a traceparent.
	FlagDebug byte = 0x80
)

// Context is a W3C trace context; the zero Context is none. Its layout is that
// of bus.Trace, so that one converts to the other.
type Context struct {
	TraceID [16]byte // in an envelope, zero stands for the message id
	SpanID  [8]byte
	Flags   byte
}

// IsZero reports whether there is no context at all.
func (c Context) IsZero() bool { return c == Context{} }

// Sampled reports whether the trace is recorded.
func (c Context) Sampled() bool { return c.Flags&FlagSampled != 0 }

// Debug reports whether the trace shows every receiver.
func (c Context) Debug() bool { return c.Flags&FlagDebug != 0 }

// Of is c with its trace id filled in for a message.
func (c Context) Of(message [16]byte) Context {
	if c.TraceID == [16]byte{} {
		c.TraceID = message
	}
	return c
}

// traceparentSize is the length of version 00.
const traceparentSize = 55

// Traceparent renders c as the W3C header of version 00.
func (c Context) Traceparent() string {
	var b [traceparentSize]byte
	copy(b[:], "00-")
	hex.Encode(b[3:], c.TraceID[:])
	b[35] = '-'
	hex.Encode(b[36:], c.SpanID[:])
	b[52] = '-'
	hex.Encode(b[53:], []byte{c.Flags & FlagSampled})
	return string(b[:])
}

// ParseTraceparent reads a traceparent header as W3C Trace Context section 3.2
// wants it: lower case, no zero ids, version ff refused, higher versions than 00
// read as far as 00 goes and only if a dash follows.
func ParseTraceparent[T string | []byte](s T) (Context, bool) {
	var c Context
	if len(s) < traceparentSize || s[2] != '-' || s[35] != '-' || s[52] != '-' {
		return Context{}, false
	}
	var version, flags [1]byte
	ok := unhex(version[:], s[:2]) && unhex(c.TraceID[:], s[3:35]) && unhex(c.SpanID[:], s[36:52]) && unhex(flags[:], s[53:55])
	switch {
	case !ok || version[0] == 0xff:
		return Context{}, false
	case version[0] == 0 && len(s) != traceparentSize:
		return Context{}, false
	case len(s) > traceparentSize && s[traceparentSize] != '-':
		return Context{}, false
	case c.TraceID == [16]byte{} || c.SpanID == [8]byte{}:
		return Context{}, false
	}
	c.Flags = flags[0] & FlagSampled
	return c, true
}

// unhex decodes lower-case digits only, where hex.Decode takes both cases.
func unhex[T string | []byte](dst []byte, src T) bool {
	for i := range dst {
		hi, lo := digit(src[2*i]), digit(src[2*i+1])
		if hi|lo > 0xf {
			return false
		}
		dst[i] = hi<<4 | lo
	}
	return true
}

func digit(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	}
	return 0xff
}

func hexID(id [16]byte) string { return hex.EncodeToString(id[:]) }
