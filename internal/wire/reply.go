package wire

import "time"

// Welcome is the first thing a socket hears.
type Welcome struct {
	ConnectionID string
	Instance     string
	User         []byte        // raw JSON object; empty: not known yet
	Heartbeat    time.Duration // how often the server pings; 0: never
	Limits       Limits
}

// Limits are what a client of this endpoint has to keep to; 0 is no limit.
type Limits struct {
	FrameSize         int64   // bytes of one request
	RequestsPerSecond float64 // of one socket
	Rooms             int     // one socket may be in at once
}

// Frame encodes the event.
func (w *Welcome) Frame() *Frame {
	dst := start(open(192+len(w.ConnectionID)+len(w.Instance)+len(w.User)), "welcome", nil)
	dst = appendText(dst, `,"connectionId":`, w.ConnectionID)
	dst = appendText(dst, `,"instance":`, w.Instance)
	dst = appendRaw(dst, `,"user":`, w.User)
	dst = appendInt(dst, `,"heartbeatMs":`, w.Heartbeat.Milliseconds())
	dst = append(dst, `,"limits":{`...)
	comma := len(dst)
	if w.Limits.FrameSize > 0 {
		dst = appendInt(dst, `,"frameSize":`, w.Limits.FrameSize)
	}
	if w.Limits.RequestsPerSecond > 0 {
		dst = appendFloat(dst, `,"requestsPerSecond":`, w.Limits.RequestsPerSecond)
	}
	if w.Limits.Rooms > 0 {
		dst = appendInt(dst, `,"rooms":`, int64(w.Limits.Rooms))
	}
	if len(dst) > comma { // the first has no comma in front
		dst = append(dst[:comma], dst[comma+1:]...)
	}
	return seal(append(dst, '}', '}'), ClassReply)
}

// Created answers a create: the room is there and its creator in it.
type Created struct {
	ID      []byte // raw JSON, as sent
	RoomID  string
	User    []byte // raw JSON object: who the socket is
	Epoch   string // empty: the room keeps no history
	Seq     uint64 // with Epoch
	Members [][]byte
	Count   int // of all members, which may be more than are listed
}

// Frame encodes the reply.
func (c *Created) Frame() *Frame {
	dst := open(192 + len(c.ID) + len(c.RoomID) + len(c.User) + listSize(c.Members))
	dst = appendState(start(dst, "created", c.ID), c.RoomID, c.User, c.Epoch, c.Seq, c.Members, c.Count)
	return seal(append(dst, '}'), ClassReply)
}

// Joined answers a join.
type Joined struct {
	ID        []byte // raw JSON, as sent
	RoomID    string
	User      []byte // raw JSON object: who the socket is
	Epoch     string // empty: the room keeps no history
	Seq       uint64 // with Epoch: everything up to here is in Messages or came before
	Members   [][]byte
	Count     int     // of all members, which may be more than are listed
	Recovered bool    // Messages is all that came after the request's resume
	Messages  []Event // in stream order: Chat, and Redacted where a message went meanwhile
}

// Frame encodes the reply.
func (j *Joined) Frame() *Frame {
	dst := open(256 + len(j.ID) + len(j.RoomID) + len(j.User) + listSize(j.Members) + 256*len(j.Messages))
	dst = appendState(start(dst, "joined", j.ID), j.RoomID, j.User, j.Epoch, j.Seq, j.Members, j.Count)
	dst = appendBool(dst, `,"recovered":`, j.Recovered)
	return seal(append(appendEvents(dst, j.Messages), '}'), ClassReply)
}

// appendState appends what created and joined tell of a room.
func appendState(dst []byte, roomID string, user []byte, epoch string, seq uint64, members [][]byte, count int) []byte {
	dst = appendText(dst, `,"roomId":`, roomID)
	dst = appendRaw(dst, `,"user":`, user)
	if epoch != "" {
		dst = appendText(dst, `,"epoch":`, epoch)
		dst = appendUint(dst, `,"seq":`, seq)
	}
	dst = appendList(dst, `,"members":`, members)
	return appendInt(dst, `,"memberCount":`, int64(count))
}

func appendEvents(dst []byte, events []Event) []byte {
	dst = append(dst, `,"messages":[`...)
	for i, e := range events {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = e.AppendJSON(dst)
	}
	return append(dst, ']')
}

func listSize(values [][]byte) int {
	n := len(values)
	for _, v := range values {
		n += len(v)
	}
	return n
}

// Exited answers an exit, or without an ID tells that the socket was taken out
// of a room.
type Exited struct {
	ID     []byte // raw JSON, as sent
	RoomID string
	Reason string // empty: it was asked for; kicked, banned, policy
}

// Frame encodes the reply.
func (e *Exited) Frame() *Frame {
	dst := start(open(64+len(e.ID)+len(e.RoomID)+len(e.Reason)), "exited", e.ID)
	dst = appendText(dst, `,"roomId":`, e.RoomID)
	dst = appendOptional(dst, `,"reason":`, e.Reason)
	return seal(append(dst, '}'), ClassReply)
}

// Members answers a members request, or without an ID replaces what the client
// knew, after an interruption in which members may have come and gone unseen.
type Members struct {
	ID      []byte // raw JSON, as sent
	RoomID  string
	Members [][]byte // raw JSON objects
	Count   int
	Cursor  string // of the next page; empty: this was the last
}

// Frame encodes the reply.
func (m *Members) Frame() *Frame {
	dst := start(open(96+len(m.ID)+len(m.RoomID)+len(m.Cursor)+listSize(m.Members)), "members", m.ID)
	dst = appendText(dst, `,"roomId":`, m.RoomID)
	dst = appendList(dst, `,"members":`, m.Members)
	dst = appendInt(dst, `,"memberCount":`, int64(m.Count))
	dst = appendOptional(dst, `,"cursor":`, m.Cursor)
	return seal(append(dst, '}'), ClassReply)
}

// History answers a history request.
type History struct {
	ID       []byte // raw JSON, as sent
	RoomID   string
	Epoch    string
	Messages []Event // oldest first
}

// Frame encodes the reply.
func (h *History) Frame() *Frame {
	dst := start(open(96+len(h.ID)+len(h.RoomID)+256*len(h.Messages)), "history", h.ID)
	dst = appendText(dst, `,"roomId":`, h.RoomID)
	dst = appendOptional(dst, `,"epoch":`, h.Epoch)
	return seal(append(appendEvents(dst, h.Messages), '}'), ClassReply)
}

// Ack answers a chat, or a redact: then MessageID is that of the message that is
// gone, Seq that of the redacted event, and Time is 0.
type Ack struct {
	ID        []byte // raw JSON, as sent
	RoomID    string
	Seq       uint64 // 0: the room keeps no history
	MessageID [16]byte
	Time      int64
	Message   []byte // raw JSON, when a filter changed it
	Duplicate bool   // the key was known: this is the first ack again
}

// Frame encodes the reply.
func (a *Ack) Frame() *Frame {
	dst := start(open(176+len(a.ID)+len(a.RoomID)+len(a.Message)), "ack", a.ID)
	dst = appendText(dst, `,"roomId":`, a.RoomID)
	dst = appendSeq(dst, a.Seq)
	dst = appendID(dst, `,"messageId":`, a.MessageID)
	if a.Time != 0 {
		dst = appendInt(dst, `,"time":`, a.Time)
	}
	dst = appendRaw(dst, `,"message":`, a.Message)
	if a.Duplicate {
		dst = append(dst, `,"duplicate":true`...)
	}
	return seal(append(dst, '}'), ClassReply)
}

// Authenticated answers an auth.
type Authenticated struct {
	ID        []byte // raw JSON, as sent
	User      []byte // raw JSON object
	ExpiresAt int64  // 0: never
}

// Frame encodes the reply.
func (a *Authenticated) Frame() *Frame {
	dst := start(open(80+len(a.ID)+len(a.User)), "authenticated", a.ID)
	dst = appendRaw(dst, `,"user":`, a.User)
	if a.ExpiresAt != 0 {
		dst = appendInt(dst, `,"expiresAt":`, a.ExpiresAt)
	}
	return seal(append(dst, '}'), ClassReply)
}

// Pong answers a ping.
type Pong struct {
	ID []byte // raw JSON, as sent
}

// Frame encodes the reply.
func (p Pong) Frame() *Frame {
	return seal(append(start(open(32+len(p.ID)), "pong", p.ID), '}'), ClassReply)
}

// Reply carries what an HTTP backend said to a request of its own type.
type Reply struct {
	ID   []byte // raw JSON, as sent
	Data []byte // raw JSON
}

// Frame encodes the reply.
func (r *Reply) Frame() *Frame {
	dst := start(open(40+len(r.ID)+len(r.Data)), "reply", r.ID)
	return seal(append(appendRaw(dst, `,"data":`, r.Data), '}'), ClassReply)
}
