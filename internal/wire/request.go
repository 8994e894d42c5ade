package wire

import (
	"bytes"
	"fmt"
	"math/bits"
	"strconv"
	"unicode/utf8"
)

// Type is what a request asks for.
type Type uint8

// The requests. Which fields each has is said in shapes.
const (
	TypeUnknown Type = iota // not one of ours: perhaps a route of the configuration
	TypeCreate
	TypeJoin
	TypeChat
	TypeExit
	TypeMembers
	TypeHistory
	TypeSignal
	TypeRedact
	TypeAuth
	TypePing
)

// String returns the type as clients write it, and "unknown" for the unknown.
func (t Type) String() string {
	if int(t) < len(shapes) {
		return shapes[t].name
	}
	return shapes[TypeUnknown].name
}

// field is a member of a request object that some request reads.
type field uint8

// The fields, in the order in which they are checked.
const (
	fieldID field = iota
	fieldType
	fieldRoomID
	fieldUser
	fieldMessage
	fieldKey
	fieldTraceparent
	fieldResume
	fieldCursor
	fieldBefore
	fieldAfter
	fieldLimit
	fieldData
	fieldMessageID
	fieldSeq
	fieldReason
	fieldToken
	fieldCount
)

// fields are a set of field.
type fields uint32

const (
	hasRoomID      fields = 1 << fieldRoomID
	hasUser        fields = 1 << fieldUser
	hasMessage     fields = 1 << fieldMessage
	hasKey         fields = 1 << fieldKey
	hasTraceparent fields = 1 << fieldTraceparent
	hasResume      fields = 1 << fieldResume
	hasCursor      fields = 1 << fieldCursor
	hasBefore      fields = 1 << fieldBefore
	hasAfter       fields = 1 << fieldAfter
	hasLimit       fields = 1 << fieldLimit
	hasData        fields = 1 << fieldData
	hasMessageID   fields = 1 << fieldMessageID
	hasSeq         fields = 1 << fieldSeq
	hasReason      fields = 1 << fieldReason
	hasToken       fields = 1 << fieldToken
)

// shapes says which fields a request reads beside id and type, and which of
// them it must have. All others are left alone.
var shapes = [...]struct {
	name        string
	uses, needs fields
}{
	TypeUnknown: {name: "unknown"},
	TypeCreate:  {"create", hasRoomID | hasUser | hasKey, 0},
	TypeJoin:    {"join", hasRoomID | hasUser | hasResume, hasRoomID},
	TypeChat:    {"chat", hasRoomID | hasUser | hasMessage | hasKey | hasTraceparent, hasRoomID | hasMessage},
	TypeExit:    {"exit", hasRoomID | hasUser, hasRoomID},
	TypeMembers: {"members", hasRoomID | hasCursor, hasRoomID},
	TypeHistory: {"history", hasRoomID | hasBefore | hasAfter | hasLimit, hasRoomID},
	TypeSignal:  {"signal", hasRoomID | hasData, hasRoomID | hasData},
	TypeRedact:  {"redact", hasRoomID | hasMessageID | hasSeq | hasReason, hasRoomID | hasMessageID | hasSeq},
	TypeAuth:    {"auth", hasToken, hasToken},
	TypePing:    {name: "ping"},
}

// Request is what a client asks. Parse fills the fields that the request's Type
// reads; the others are zero.
//
// Its slices point into the bytes given to Parse, or into a buffer of the
// Request's own where an escape had to be resolved: they hold until those bytes
// change or the next Parse, whichever comes first, and are read only.
type Request struct {
	Type     Type
	TypeName []byte // as sent
	ID       []byte // as sent, string or integer; nil when there is none
	Raw      []byte // the whole request, for those that go elsewhere

	RoomID      []byte // empty only in a create that leaves the choice to the server
	User        User
	Message     []byte // JSON as sent
	Data        []byte // JSON as sent
	Key         []byte // empty: none
	Traceparent []byte // as sent: whether it is one is for the reader to judge (W3C Trace Context)
	Resume      Resume
	Cursor      []byte // empty: from the start
	Before      uint64 // with HasBefore
	After       uint64 // with HasAfter
	HasBefore   bool
	HasAfter    bool
	Limit       int // 1 to MaxLimit; 0: not given
	MessageID   [16]byte
	Seq         uint64
	Reason      []byte
	Token       []byte // secret

	scratch []byte // unescaped strings
}

// User is what a client says of itself. What it is worth is for the
// authenticator to say.
type User struct {
	Present bool
	ID      []byte // empty: not given
	Name    []byte
	Data    []byte // JSON as sent; nil: not given, or null
}

// Resume is the place up to which a client has seen a room.
type Resume struct {
	Present bool
	Epoch   []byte
	Seq     uint64
}

// Format writes the type and room of a request whatever the verb, and so keeps
// tokens and messages out of logs.
func (r Request) Format(s fmt.State, _ rune) {
	fmt.Fprintf(s, "wire.Request(%s %q)", r.Type, r.RoomID)
}

// Parse reads one request from b into r, which it resets first. An error means
// that the request is to be refused; r.ID and r.Type are set even then if they
// could be found, so that the error can name its request.
//
// Of two members of one name the last counts. Names are compared as they are,
// case included. null is the same as leaving a field out, but for message and
// data, where it is a value.
func Parse(b []byte, r *Request) *Error {
	*r = Request{Raw: b, scratch: r.scratch[:0]}
	if !utf8.Valid(b) {
		return &Error{Code: BadRequest, Message: "not valid UTF-8", Close: CloseInvalidData}
	}
	var found [fieldCount]span
	w := walker{b: b}
	for w.next() {
		name := b[w.key.from:w.key.to]
		if w.escaped {
			name = r.unescape(name)
		}
		if f, ok := fieldNamed(name); ok {
			found[f] = w.val
		}
	}
	problem, at := w.problem, w.i
	if problem == fine {
		if at = skipSpace(b, at); at < len(b) {
			problem = badSyntax
		}
	}
	err := r.decodeHead(b, &found)
	if problem != fine {
		return malformed(b, problem, at)
	}
	if err == nil {
		err = r.decode(b, &found)
	}
	if err != nil {
		err.RoomID = string(r.RoomID)
	}
	return err
}

func fieldNamed(name []byte) (field, bool) {
	switch string(name) {
	case "id":
		return fieldID, true
	case "type":
		return fieldType, true
	case "roomId":
		return fieldRoomID, true
	case "user":
		return fieldUser, true
	case "message":
		return fieldMessage, true
	case "key":
		return fieldKey, true
	case "traceparent":
		return fieldTraceparent, true
	case "resume":
		return fieldResume, true
	case "cursor":
		return fieldCursor, true
	case "before":
		return fieldBefore, true
	case "after":
		return fieldAfter, true
	case "limit":
		return fieldLimit, true
	case "data":
		return fieldData, true
	case "messageId":
		return fieldMessageID, true
	case "seq":
		return fieldSeq, true
	case "reason":
		return fieldReason, true
	case "token":
		return fieldToken, true
	}
	return 0, false
}

// typeNamed finds a request type; TypeUnknown if it is none of ours.
func typeNamed(name []byte) Type {
	switch string(name) {
	case "create":
		return TypeCreate
	case "join":
		return TypeJoin
	case "chat":
		return TypeChat
	case "exit":
		return TypeExit
	case "members":
		return TypeMembers
	case "history":
		return TypeHistory
	case "signal":
		return TypeSignal
	case "redact":
		return TypeRedact
	case "auth":
		return TypeAuth
	case "ping":
		return TypePing
	}
	return TypeUnknown
}

// malformed says what is wrong with bytes that are not a request at all. It
// quotes none of them: they may hold a token.
func malformed(b []byte, p problem, at int) *Error {
	start := skipSpace(b, 0)
	e := &Error{Code: BadRequest}
	switch {
	case p == tooDeep:
		e.Message = "nested deeper than " + strconv.Itoa(MaxDepth) + " levels"
	case p == badSurrogate:
		e.Message = "half a surrogate pair in a string, at byte " + strconv.Itoa(at)
	case start < len(b) && b[start] != '{':
		e.Message = "must be a JSON object"
	case at >= len(b):
		e.Message = "not JSON: ends too early"
	default:
		e.Message = "not JSON: unexpected character at byte " + strconv.Itoa(at)
	}
	return e
}

// decodeHead reads id and type, and tells what is wrong with them.
func (r *Request) decodeHead(b []byte, found *[fieldCount]span) *Error {
	var wrong field = fieldCount
	if raw := value(b, found[fieldID]); raw != nil {
		if len(raw) <= MaxID && (raw[0] == '"' || integer(raw)) {
			r.ID = raw
		} else {
			wrong = fieldID
		}
	}
	name, ok := r.text(value(b, found[fieldType]), 1, MaxTypeName)
	if ok {
		r.TypeName, r.Type = name, typeNamed(name)
	} else if wrong == fieldCount {
		wrong = fieldType
	}
	if wrong != fieldCount {
		return badField(expected[wrong])
	}
	return nil
}

// decode reads the fields of the request's type.
func (r *Request) decode(b []byte, found *[fieldCount]span) *Error {
	shape := &shapes[r.Type]
	for set := shape.uses; set != 0; set &= set - 1 {
		f := field(bits.TrailingZeros32(uint32(set)))
		s := found[f]
		raw := b[s.from:s.to]
		if f != fieldMessage && f != fieldData {
			raw = value(b, s)
		}
		if len(raw) == 0 {
			if shape.needs&(1<<f) != 0 {
				return badField(expected[f])
			}
			continue
		}
		if wrong := r.decodeField(f, raw); wrong != "" {
			return badField(wrong)
		}
	}
	if r.HasBefore && r.HasAfter {
		return badField("before, after: give one of them at most")
	}
	return nil
}

func badField(message string) *Error { return &Error{Code: BadRequest, Message: message} }

// value is the raw value of a span, nil when there is none or it is null.
func value(b []byte, s span) []byte {
	if s.to == 0 || b[s.from] == 'n' {
		return nil
	}
	return b[s.from:s.to]
}

func (r *Request) unescape(s []byte) []byte {
	n := len(r.scratch)
	r.scratch = unescape(r.scratch, s)
	return r.scratch[n:len(r.scratch):len(r.scratch)]
}

// text reads a JSON string of minLen to maxLen bytes.
func (r *Request) text(raw []byte, minLen, maxLen int) ([]byte, bool) {
	if len(raw) == 0 || raw[0] != '"' {
		return nil, false
	}
	s := raw[1 : len(raw)-1]
	if bytes.IndexByte(s, '\\') >= 0 {
		s = r.unescape(s)
	}
	return s, minLen <= len(s) && len(s) <= maxLen
}
