package wire

import "strconv"

// expected is what a client is told when a field is missing or not what it has
// to be. The bounds in the texts are checked against the constants by a test.
var expected = [fieldCount]string{
	fieldID:          "id: must be a string or an integer, of at most 128 bytes",
	fieldType:        "type: must be a string of 1 to 64 bytes",
	fieldRoomID:      "roomId: must be a string of 1 to 128 bytes without control characters",
	fieldUser:        "user: must be an object",
	fieldMessage:     "message: must be given, as any JSON value",
	fieldKey:         "key: must be a string of 1 to 64 bytes",
	fieldTraceparent: "traceparent: must be a string of at most 128 bytes",
	fieldResume:      "resume: must be an object with epoch and seq",
	fieldCursor:      "cursor: must be a string of at most 1024 bytes",
	fieldBefore:      "before: must be an integer of 0 to 2^53-1",
	fieldAfter:       "after: must be an integer of 0 to 2^53-1",
	fieldLimit:       "limit: must be an integer of 1 to 1000",
	fieldData:        "data: must be given, as any JSON value",
	fieldMessageID:   "messageId: must be a string of 32 lowercase hex digits",
	fieldSeq:         "seq: must be an integer of 0 to 2^53-1",
	fieldReason:      "reason: must be a string of at most 256 bytes",
	fieldToken:       "token: must be a string of 1 to 16384 bytes",
}

// The same for what is inside of user and resume.
const (
	expectedUserID      = "user.id: must be a string of 1 to 128 bytes without control characters"
	expectedUserName    = "user.name: must be a string of at most 256 bytes"
	expectedUserData    = "user.data: must be JSON of at most 1024 bytes"
	expectedResumeEpoch = "resume.epoch: must be a string of 1 to 64 bytes"
	expectedResumeSeq   = "resume.seq: must be an integer of 0 to 2^53-1"
)

// decodeField reads one field from its raw value and returns what it should
// have been, or "".
func (r *Request) decodeField(f field, raw []byte) string {
	ok := true
	switch f {
	case fieldRoomID:
		var id []byte
		if id, ok = r.text(raw, 1, MaxRoomID); ok {
			if ok = !hasControl(id); ok {
				r.RoomID = id
			}
		}
	case fieldUser:
		return r.decodeUser(raw)
	case fieldMessage:
		r.Message = raw
	case fieldData:
		r.Data = raw
	case fieldKey:
		r.Key, ok = r.text(raw, 1, MaxKey)
	case fieldTraceparent:
		r.Traceparent, ok = r.text(raw, 0, MaxTraceparent)
	case fieldResume:
		return r.decodeResume(raw)
	case fieldCursor:
		r.Cursor, ok = r.text(raw, 0, MaxCursor)
	case fieldBefore:
		r.Before, ok = number(raw)
		r.HasBefore = ok
	case fieldAfter:
		r.After, ok = number(raw)
		r.HasAfter = ok
	case fieldLimit:
		var n uint64
		n, ok = number(raw)
		ok = ok && 1 <= n && n <= MaxLimit
		r.Limit = int(n)
	case fieldMessageID:
		var s []byte
		if s, ok = r.text(raw, 32, 32); ok {
			r.MessageID, ok = messageID(s)
		}
	case fieldSeq:
		r.Seq, ok = number(raw)
	case fieldReason:
		r.Reason, ok = r.text(raw, 0, MaxReason)
	case fieldToken:
		r.Token, ok = r.text(raw, 1, MaxToken)
	}
	if !ok {
		return expected[f]
	}
	return ""
}

func (r *Request) decodeUser(raw []byte) string {
	if raw[0] != '{' {
		return expected[fieldUser]
	}
	r.User.Present = true
	var id, name, data span
	for w := (walker{b: raw}); w.next(); {
		key := raw[w.key.from:w.key.to]
		if w.escaped {
			key = r.unescape(key)
		}
		switch string(key) {
		case "id":
			id = w.val
		case "name":
			name = w.val
		case "data":
			data = w.val
		}
	}
	var ok bool
	if v := value(raw, id); v != nil {
		if r.User.ID, ok = r.text(v, 1, MaxUserID); !ok || hasControl(r.User.ID) {
			return expectedUserID
		}
	}
	if v := value(raw, name); v != nil {
		if r.User.Name, ok = r.text(v, 0, MaxUserName); !ok {
			return expectedUserName
		}
	}
	if v := value(raw, data); v != nil {
		if len(v) > MaxUserData {
			return expectedUserData
		}
		r.User.Data = v
	}
	return ""
}

func (r *Request) decodeResume(raw []byte) string {
	if raw[0] != '{' {
		return expected[fieldResume]
	}
	var epoch, seq span
	for w := (walker{b: raw}); w.next(); {
		key := raw[w.key.from:w.key.to]
		if w.escaped {
			key = r.unescape(key)
		}
		switch string(key) {
		case "epoch":
			epoch = w.val
		case "seq":
			seq = w.val
		}
	}
	var ok bool
	if r.Resume.Epoch, ok = r.text(value(raw, epoch), 1, MaxEpoch); !ok {
		return expectedResumeEpoch
	}
	if r.Resume.Seq, ok = number(value(raw, seq)); !ok {
		return expectedResumeSeq
	}
	r.Resume.Present = true
	return ""
}

// integer reports whether a scanned value is a number without fraction and
// exponent.
func integer(raw []byte) bool {
	if raw[0] == '-' {
		raw = raw[1:]
	}
	return digits(raw, 0) == len(raw)
}

// number reads an integer of 0 to MaxInteger from a scanned value.
func number(raw []byte) (uint64, bool) {
	const longest = 16 // digits of MaxInteger
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
		case c >= 'a' && c <= 'f':
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
		if c < 0x20 || c == 0x7F || c <= 0x9F && c >= 0x80 && s[i-1] == 0xC2 {
			return true
		}
	}
	return false
}
