package wire

import "time"

// A server message is a struct with a Frame method. Fields of raw JSON (IDs,
// users, messages, data) must be valid JSON and are written as they are; optional
// ones are left out when empty. Times are milliseconds since the Unix epoch.

// Event is a server message that can stand inside another.
type Event interface {
	// AppendJSON appends the message's JSON object.
	AppendJSON(dst []byte) []byte
}

// Chat is a message of a room.
type Chat struct {
	RoomID      string
	Seq         uint64 // 0: the room keeps no history
	MessageID   [16]byte
	Time        int64
	User        []byte // raw JSON object
	Message     []byte // raw JSON
	Key         string // for the sender's own sockets only
	Traceparent string // when sampled
}

// AppendJSON implements Event. It allocates only where dst is too small.
func (c *Chat) AppendJSON(dst []byte) []byte {
	dst = append(dst, `{"type":"chat"`...)
	dst = appendText(dst, `,"roomId":`, c.RoomID)
	dst = appendSeq(dst, c.Seq)
	dst = appendID(dst, `,"messageId":`, c.MessageID)
	dst = appendInt(dst, `,"time":`, c.Time)
	dst = appendRaw(dst, `,"user":`, c.User)
	dst = appendRaw(dst, `,"message":`, c.Message)
	dst = appendOptional(dst, `,"key":`, c.Key)
	dst = appendOptional(dst, `,"traceparent":`, c.Traceparent)
	return append(dst, '}')
}

// size is enough for AppendJSON unless a string needs escapes.
func (c *Chat) size() int {
	const fixed = len(`{"type":"chat","roomId":"","seq":9007199254740991,"messageId":"0123456789abcdef0123456789abcdef",`+
		`"time":1700000000000,"user":,"message":,"key":"","traceparent":""}`) + 2
	return fixed + len(c.RoomID) + len(c.User) + len(c.Message) + len(c.Key) + len(c.Traceparent)
}

// Frame encodes the event.
func (c *Chat) Frame() *Frame {
	f := seal(c.AppendJSON(open(c.size())), sequencedOr(c.Seq, ClassChat))
	f.chat = true
	return f
}

func sequencedOr(seq uint64, c Class) Class {
	if seq != 0 {
		return ClassSequenced
	}
	return c
}

func appendSeq(dst []byte, seq uint64) []byte {
	if seq == 0 {
		return dst
	}
	return appendUint(dst, `,"seq":`, seq)
}

// Redacted tells that a message is gone. It has a place in the room's stream of
// its own.
type Redacted struct {
	RoomID    string
	Seq       uint64
	MessageID [16]byte // of this event
	Target    [16]byte // of the message that is gone
	Reason    string
}

// AppendJSON implements Event.
func (r *Redacted) AppendJSON(dst []byte) []byte {
	dst = append(dst, `{"type":"redacted"`...)
	dst = appendText(dst, `,"roomId":`, r.RoomID)
	dst = appendSeq(dst, r.Seq)
	dst = appendID(dst, `,"messageId":`, r.MessageID)
	dst = appendID(dst, `,"target":`, r.Target)
	dst = appendOptional(dst, `,"reason":`, r.Reason)
	return append(dst, '}')
}

// Frame encodes the event.
func (r *Redacted) Frame() *Frame {
	return seal(r.AppendJSON(open(192+len(r.RoomID)+len(r.Reason))), ClassSequenced)
}

// Signal is something worth losing: typing, a cursor.
type Signal struct {
	RoomID string
	UserID string // of the sender, for ShedKey; not sent
	User   []byte // raw JSON object
	Data   []byte // raw JSON
}

// Frame encodes the event.
func (s *Signal) Frame() *Frame {
	dst := open(64 + len(s.RoomID) + len(s.User) + len(s.Data))
	dst = append(dst, `{"type":"signal"`...)
	dst = appendText(dst, `,"roomId":`, s.RoomID)
	dst = appendRaw(dst, `,"user":`, s.User)
	dst = appendRaw(dst, `,"data":`, s.Data)
	f := seal(append(dst, '}'), ClassSignal)
	f.shed = ShedKey{s.RoomID, s.UserID}
	return f
}

// MemberJoined tells that a user came: at its first socket, over all instances.
type MemberJoined struct {
	RoomID string
	User   []byte // raw JSON object
	Count  int    // members now
}

// Frame encodes the event.
func (m *MemberJoined) Frame() *Frame {
	return memberFrame("member_joined", m.RoomID, m.User, m.Count, "")
}

// MemberLeft tells that a user went: at its last socket, over all instances.
type MemberLeft struct {
	RoomID string
	User   []byte // raw JSON object
	Count  int    // members now
	Reason string // kicked, banned, policy; empty: it went by itself
}

// Frame encodes the event.
func (m *MemberLeft) Frame() *Frame {
	return memberFrame("member_left", m.RoomID, m.User, m.Count, m.Reason)
}

func memberFrame(name, roomID string, user []byte, count int, reason string) *Frame {
	dst := start(open(96+len(roomID)+len(user)+len(reason)), name, nil)
	dst = appendText(dst, `,"roomId":`, roomID)
	dst = appendRaw(dst, `,"user":`, user)
	dst = appendInt(dst, `,"memberCount":`, int64(count))
	dst = appendOptional(dst, `,"reason":`, reason)
	return seal(append(dst, '}'), ClassMember)
}

// Sanction tells a user what was decided about it.
type Sanction struct {
	RoomID string // empty: everywhere
	Kind   string // warn, mute, kick, ban
	Until  int64  // 0: for good, or at once and over
	Reason string
}

// Frame encodes the event.
func (s *Sanction) Frame() *Frame {
	dst := start(open(96+len(s.RoomID)+len(s.Reason)), "sanction", nil)
	dst = appendOptional(dst, `,"roomId":`, s.RoomID)
	dst = appendText(dst, `,"kind":`, s.Kind)
	if s.Until != 0 {
		dst = appendInt(dst, `,"until":`, s.Until)
	}
	dst = appendOptional(dst, `,"reason":`, s.Reason)
	return seal(append(dst, '}'), ClassReply)
}

// RoomClosed tells that a room is gone, and its members out of it.
type RoomClosed struct {
	RoomID string
	Reason string
}

// Frame encodes the event.
func (r *RoomClosed) Frame() *Frame {
	dst := start(open(64+len(r.RoomID)+len(r.Reason)), "room_closed", nil)
	dst = appendText(dst, `,"roomId":`, r.RoomID)
	dst = appendOptional(dst, `,"reason":`, r.Reason)
	return seal(append(dst, '}'), ClassReply)
}

// NoticeKind is what a Notice is about.
type NoticeKind string

// The kinds of notices.
const (
	NoticeEpoch NoticeKind = "epoch" // a new epoch begins: Epoch, To the last seq of the old one that holds
	NoticeLost  NoticeKind = "lost"  // From to To, inclusive, are gone for good
	NoticeGap   NoticeKind = "gap"   // in a room without history: messages may be missing
)

// Notice tells of what is missing in a room's stream.
type Notice struct {
	RoomID string
	Kind   NoticeKind
	Epoch  string // NoticeEpoch: the new one, to resume from
	From   uint64 // 0: does not apply
	To     uint64 // 0: does not apply
}

// Frame encodes the event.
func (n *Notice) Frame() *Frame {
	dst := start(open(128+len(n.RoomID)+len(n.Epoch)), "notice", nil)
	dst = appendText(dst, `,"roomId":`, n.RoomID)
	dst = appendText(dst, `,"kind":`, string(n.Kind))
	dst = appendOptional(dst, `,"epoch":`, n.Epoch)
	if n.From != 0 {
		dst = appendUint(dst, `,"from":`, n.From)
	}
	if n.To != 0 {
		dst = appendUint(dst, `,"to":`, n.To)
	}
	return seal(append(dst, '}'), ClassSequenced)
}

// Expiring warns that the socket's credential ends; a fresh token by `auth`
// keeps the socket.
type Expiring struct{ In time.Duration }

// Frame encodes the event.
func (e Expiring) Frame() *Frame {
	dst := start(open(48), "expiring", nil)
	return seal(append(appendInt(dst, `,"inMs":`, e.In.Milliseconds()), '}'), ClassReply)
}

// Closing warns that the server will close the socket.
type Closing struct{ ReconnectAfter time.Duration }

// Frame encodes the event.
func (c Closing) Frame() *Frame {
	dst := start(open(56), "closing", nil)
	return seal(append(appendInt(dst, `,"reconnectAfterMs":`, ceilMillis(c.ReconnectAfter)), '}'), ClassReply)
}
