package wire

import (
	"bytes"
	"math/bits"
	"strconv"
)

// expected is what a client is told when a field is missing or not what it has
// to be. A test holds the numbers in the texts to the constants.
var expected = [...]string{
	fieldID:          "id: must be a string or an integer, of at most 128 bytes",
	fieldType:        "type: must be a string of 1 to 64 bytes",
	fieldRoomID:      "roomId: must be a string of 1 to 128 bytes without control characters",
	fieldUser:        "user: must be an object",
	fieldMessage:     "message: must be given, as any JSON value",
	fieldKey:         "key: must be a string of 1 to 64 bytes",
	fieldTraceparent: "traceparent: must be a string of at most 128 bytes",
	fieldDebug:       "debug: must be a string of at most 64 bytes",
	fieldResume:      "resume: must be an object of epoch and seq",
	fieldCursor:      "cursor: must be a string of at most 1024 bytes",
	fieldBefore:      "before: must be an integer of 1 to 2^53-1",
	fieldAfter:       "after: must be an integer of 0 to 2^53-1",
	fieldLimit:       "limit: must be an integer of 1 to 1000",
	fieldData:        "data: must be given, as any JSON value",
	fieldMessageID:   "messageId: must be a string of 32 lowercase hex digits",
	fieldSeq:         "seq: must be an integer of 0 to 2^53-1",
	fieldReason:      "reason: must be a string of at most 256 bytes",
	fieldToken:       "token: must be a string of 1 to 16384 bytes",

	fieldUserID:      "user.id: must be a string of 1 to 128 bytes without control characters",
	fieldUserName:    "user.name: must be a string of at most 256 bytes",
	fieldUserData:    "user.data: must be JSON of at most 1024 bytes",
	fieldResumeEpoch: "resume.epoch: must be a string of 1 to 64 bytes",
	fieldResumeSeq:   "resume.seq: must be an integer of 0 to 2^53-1",
}

func unexpected(f field) *Error { return &Error{Code: BadRequest, Message: expected[f]} }

// rawValue is a field's value as sent, nil when it is missing.
func (r *Request) rawValue(found *spans, f field) []byte {
	s := found[f]
	if s.to == 0 {
		return nil
	}
	return r.Raw[s.from:s.to]
}

// value is rawValue for fields where null means the same as missing.
func (r *Request) value(found *spans, f field) []byte {
	raw := r.rawValue(found, f)
	if raw != nil && raw[0] == 'n' {
		return nil
	}
	return raw
}

// decodeHead reads id and type. Both are tried, so that the answer to a bad
// type finds its request.
func (r *Request) decodeHead(found *spans) *Error {
	id := r.value(found, fieldID)
	badID := id != nil && (len(id) > MaxID || id[0] != '"' && !isInteger(id))
	if !badID {
		r.ID = id
	}
	name, ok := r.text(r.value(found, fieldType), 1, MaxTypeName)
	if ok {
		r.TypeName, r.Type = name, typeNamed(name)
	}
	switch {
	case badID:
		return unexpected(fieldID)
	case !ok:
		return unexpected(fieldType)
	}
	return nil
}

// decode reads the fields of the request's type and nothing of the others.
func (r *Request) decode(found *spans) *Error {
	shape := &shapes[r.Type]
	for set := shape.uses; set != 0; set &= set - 1 {
		f := field(bits.TrailingZeros32(uint32(set)))
		raw := r.value(found, f)
		if f == fieldMessage || f == fieldData {
			raw = r.rawValue(found, f)
		}
		switch {
		case raw == nil && shape.needs&(1<<f) != 0:
			return unexpected(f)
		case raw == nil:
		case f == fieldUser:
			if err := r.decodeUser(found, raw); err != nil {
				return err
			}
		case f == fieldResume:
			if err := r.decodeResume(found, raw); err != nil {
				return err
			}
		case !r.decodeField(f, raw):
			return unexpected(f)
		}
	}
	if r.HasBefore && r.HasAfter {
		return &Error{Code: BadRequest, Message: "before, after: give one of them, not both"}
	}
	return nil
}

// decodeField reads a field that is one value, and reports whether it is what
// it has to be.
func (r *Request) decodeField(f field, raw []byte) (ok bool) {
	switch f {
	case fieldRoomID:
		r.RoomID, ok = r.name(raw, MaxRoomID)
	case fieldMessage:
		r.Message, ok = raw, true
	case fieldData:
		r.Data, ok = raw, true
	case fieldKey:
		r.Key, ok = r.text(raw, 1, MaxKey)
	case fieldTraceparent:
		r.Traceparent, ok = r.text(raw, 0, MaxTraceparent)
	case fieldDebug:
		r.Debug, ok = r.text(raw, 0, MaxDebug)
	case fieldCursor:
		r.Cursor, ok = r.text(raw, 0, MaxCursor)
	case fieldBefore:
		r.Before, ok = integer(raw)
		ok = ok && r.Before > 0 // nothing is before the first
		r.HasBefore = ok
	case fieldAfter:
		r.After, ok = integer(raw)
		r.HasAfter = ok
	case fieldLimit:
		var n uint64
		if n, ok = integer(raw); ok && n <= MaxLimit {
			r.Limit = int(n)
		}
		ok = r.Limit > 0
	case fieldMessageID:
		var s []byte
		if s, ok = r.text(raw, 2*len(r.MessageID), 2*len(r.MessageID)); ok {
			r.MessageID, ok = messageID(s)
		}
	case fieldSeq:
		r.Seq, ok = integer(raw)
	case fieldReason:
		r.Reason, ok = r.text(raw, 0, MaxReason)
	case fieldToken:
		r.Token, ok = r.text(raw, 1, MaxToken)
	}
	return ok
}

func (r *Request) decodeUser(found *spans, raw []byte) *Error {
	if raw[0] != '{' {
		return unexpected(fieldUser)
	}
	r.User.Present = true
	var ok bool
	if raw := r.value(found, fieldUserID); raw != nil {
		if r.User.ID, ok = r.name(raw, MaxUserID); !ok {
			return unexpected(fieldUserID)
		}
	}
	if raw := r.value(found, fieldUserName); raw != nil {
		if r.User.Name, ok = r.text(raw, 0, MaxUserName); !ok {
			return unexpected(fieldUserName)
		}
	}
	if r.User.Data = r.value(found, fieldUserData); len(r.User.Data) > MaxUserData {
		return unexpected(fieldUserData)
	}
	return nil
}

func (r *Request) decodeResume(found *spans, raw []byte) *Error {
	if raw[0] != '{' {
		return unexpected(fieldResume)
	}
	var ok bool
	if r.Resume.Epoch, ok = r.text(r.value(found, fieldResumeEpoch), 1, MaxEpoch); !ok {
		return unexpected(fieldResumeEpoch)
	}
	if r.Resume.Seq, ok = integer(r.value(found, fieldResumeSeq)); !ok {
		return unexpected(fieldResumeSeq)
	}
	r.Resume.Present = true
	return nil
}

// text reads a JSON string of minLen to maxLen bytes.
func (r *Request) text(raw []byte, minLen, maxLen int) ([]byte, bool) {
	if len(raw) == 0 || raw[0] != '"' {
		return nil, false
	}
	s := raw[1 : len(raw)-1]
	if len(s) > 6*maxLen { // too long even if every byte is an escape
		return nil, false
	}
	if bytes.IndexByte(s, '\\') >= 0 {
		s = r.unescape(s)
	}
	if len(s) < minLen || len(s) > maxLen {
		return nil, false
	}
	return s, true
}

// name reads the name of a room or user: text, not empty, without control
// characters.
func (r *Request) name(raw []byte, maxLen int) ([]byte, bool) {
	s, ok := r.text(raw, 1, maxLen)
	if !ok || hasControl(s) {
		return nil, false
	}
	return s, true
}

// unescape resolves the escapes of a scanned string into the Request's own
// buffer. Earlier results stay good when that grows: the old one is left behind.
func (r *Request) unescape(s []byte) []byte {
	n := len(r.scratch)
	r.scratch = unescape(r.scratch, s)
	return r.scratch[n:len(r.scratch):len(r.scratch)]
}

// isInteger reports whether a scanned value is a number without fraction and
// exponent, of any size.
func isInteger(raw []byte) bool {
	if raw[0] == '-' {
		raw = raw[1:]
	}
	return digits(raw, 0) == len(raw)
}

// integer reads an integer of 0 to MaxInteger from a scanned value, which may
// be nil.
func integer(raw []byte) (uint64, bool) {
	const longest = len("9007199254740991") // MaxInteger
	if len(raw) == 0 || len(raw) > longest || digits(raw, 0) != len(raw) {
		return 0, false
	}
	n, err := strconv.ParseUint(string(raw), 10, 64)
	return n, err == nil && n <= MaxInteger
}

func messageID(s []byte) (id [16]byte, ok bool) {
	for i, c := range s {
		switch {
		case c-'0' <= 9:
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		default:
			return id, false
		}
		id[i/2] = id[i/2]<<4 | c
	}
	return id, true
}

// hasControl reports whether valid UTF-8 holds a control character: U+0000 to
// U+001F, or U+007F to U+009F, which are C2 80 to C2 9F.
func hasControl(s []byte) bool {
	for i, c := range s {
		if c < 0x20 || c == 0x7F || 0x80 <= c && c <= 0x9F && s[i-1] == 0xC2 {
			return true
		}
	}
	return false
}
