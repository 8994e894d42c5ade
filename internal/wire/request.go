package wire

import (
	"fmt"
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
	fieldDebug
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

	// What is inside of user and resume.
	fieldUserID
	fieldUserName
	fieldUserData
	fieldResumeEpoch
	fieldResumeSeq

	fieldOther // anything else
)

// spans are the places of the fields' values in a request.
type spans [fieldOther + 1]span

// fields are a set of field.
type fields uint32

const (
	hasRoomID      fields = 1 << fieldRoomID
	hasUser        fields = 1 << fieldUser
	hasMessage     fields = 1 << fieldMessage
	hasKey         fields = 1 << fieldKey
	hasTraceparent fields = 1 << fieldTraceparent
	hasDebug       fields = 1 << fieldDebug
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
	TypeChat:    {"chat", hasRoomID | hasUser | hasMessage | hasKey | hasTraceparent | hasDebug, hasRoomID | hasMessage},
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
	Debug       []byte // as sent: a debug token, good or not; empty: none
	Resume      Resume
	Cursor      []byte // empty: from the start
	Before      uint64 // with HasBefore; at least 1
	After       uint64 // with HasAfter; 0: from the oldest
	HasBefore   bool
	HasAfter    bool
	Limit       int // 1 to MaxLimit; 0: not given
	MessageID   [16]byte
	Seq         uint64
	Reason      []byte
	Token       []byte // secret

	scratch []byte // unescaped strings
}

// keepScratch is how much of a buffer for unescaped strings a Request keeps for
// the next Parse. Only long tokens, cursors and reasons ever need more.
const keepScratch = 4 << 10

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
	if cap(r.scratch) > keepScratch {
		r.scratch = nil
	}
	if !utf8.Valid(b) {
		return &Error{Code: BadRequest, Message: "not valid UTF-8", Close: CloseInvalidData}
	}
	var found spans
	problem, at := r.scan(b, &found)
	err := r.decodeHead(&found)
	if problem != fine {
		return malformed(b, problem, at)
	}
	if err == nil {
		err = r.decode(&found)
	}
	if err != nil {
		err.RoomID = string(r.RoomID)
	}
	return err
}

// scan checks the whole of b and finds the fields' values. Where there is a
// problem it tells where.
func (r *Request) scan(b []byte, found *spans) (problem, int) {
	w := walker{b: b}
	for w.next() {
		f := fieldNamed(r.memberName(&w))
		if (f == fieldUser || f == fieldResume) && w.i < len(b) && b[w.i] == '{' {
			found[f] = r.scanInside(&w, f, found)
		} else {
			found[f] = w.skip()
		}
	}
	if w.problem == fine {
		if w.i = skipSpace(b, w.i); w.i < len(b) {
			w.problem = badSyntax
		}
	}
	return w.problem, w.i
}

// scanInside is skip for the object of a field that has fields of its own. It
// forgets what an earlier object of the same name held.
func (r *Request) scanInside(outer *walker, of field, found *spans) span {
	if of == fieldUser {
		found[fieldUserID], found[fieldUserName], found[fieldUserData] = span{}, span{}, span{}
	} else {
		found[fieldResumeEpoch], found[fieldResumeSeq] = span{}, span{}
	}
	from := outer.i
	w := walker{b: outer.b, i: from, depth: outer.depth + 1}
	for w.next() {
		f := fieldInside(of, r.memberName(&w))
		found[f] = w.skip()
	}
	outer.i, outer.problem = w.i, w.problem
	return span{from, w.i}
}

// memberName is the name of the member that w stands at.
func (r *Request) memberName(w *walker) []byte {
	const longest = 6 * len("traceparent") // every character an escape
	name := w.b[w.name.from:w.name.to]
	if w.escaped && len(name) <= longest {
		return r.unescape(name)
	}
	return name
}

func fieldNamed(name []byte) field {
	switch string(name) {
	case "id":
		return fieldID
	case "type":
		return fieldType
	case "roomId":
		return fieldRoomID
	case "user":
		return fieldUser
	case "message":
		return fieldMessage
	case "key":
		return fieldKey
	case "traceparent":
		return fieldTraceparent
	case "debug":
		return fieldDebug
	case "resume":
		return fieldResume
	case "cursor":
		return fieldCursor
	case "before":
		return fieldBefore
	case "after":
		return fieldAfter
	case "limit":
		return fieldLimit
	case "data":
		return fieldData
	case "messageId":
		return fieldMessageID
	case "seq":
		return fieldSeq
	case "reason":
		return fieldReason
	case "token":
		return fieldToken
	}
	return fieldOther
}

func fieldInside(of field, name []byte) field {
	if of == fieldUser {
		switch string(name) {
		case "id":
			return fieldUserID
		case "name":
			return fieldUserName
		case "data":
			return fieldUserData
		}
		return fieldOther
	}
	switch string(name) {
	case "epoch":
		return fieldResumeEpoch
	case "seq":
		return fieldResumeSeq
	}
	return fieldOther
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
