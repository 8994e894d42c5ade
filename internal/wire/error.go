package wire

import "time"

// Code tells programs why a request was refused. The set is part of the
// protocol: codes are added, never changed. Each comment below is what
// docs/protocol.md prints, its "Retry" line included.
type Code string

const (
	// BadRequest: The request is not one JSON object, or a field is missing or
	// not what it has to be; `message` names the field.
	// Retry: no, correct the request.
	BadRequest Code = "bad_request"
	// UnknownType: `type` is neither a request of this protocol nor a route of
	// this endpoint.
	// Retry: no.
	UnknownType Code = "unknown_type"
	// TooLarge: The message, or what a filter made of it, is larger than the room allows.
	// Retry: no, send less.
	TooLarge Code = "too_large"
	// Unauthenticated: No credential was presented where one is needed, or the
	// one presented is not good (any more): then close code 4401 follows.
	// Retry: with a fresh token.
	Unauthenticated Code = "unauthenticated"
	// Forbidden: A rule says no to this user. For a join it says so whether or
	// not the room exists.
	// Retry: no.
	Forbidden Code = "forbidden"
	// UserMismatch: `user.id` is not the user that this socket belongs to.
	// Retry: no, leave `user` out or open another socket.
	UserMismatch Code = "user_mismatch"
	// RoomNotFound: There is no such room, and this user may join it but not create it.
	// Retry: later, when somebody may have created it.
	RoomNotFound Code = "room_not_found"
	// RoomExists: A room to be created is there already.
	// Retry: no, join it or choose another `roomId`.
	RoomExists Code = "room_exists"
	// RoomFull: The room has as many members as it may have.
	// Retry: later, when somebody may have left.
	RoomFull Code = "room_full"
	// NotMember: The request needs this socket to be in the room, and it is not.
	// Retry: after a join.
	NotMember Code = "not_member"
	// RateLimited: Too many requests on this socket, too many messages in this
	// room, or more rooms at once than a socket may be in.
	// Retry: after `retryAfterMs`, if given; else after an `exit`.
	RateLimited Code = "rate_limited"
	// Muted: This user may not write here for a while; a `sanction` event said so.
	// Retry: after `retryAfterMs`, if given; else no.
	Muted Code = "muted"
	// Banned: This user may not be here; a `sanction` event said so.
	// Retry: after `retryAfterMs`, if given; else no.
	Banned Code = "banned"
	// Rejected: A filter refused the message; `reason` says why in words for
	// the user and `reasonCode` in one for programs, if the filter gave them.
	// Retry: no, the same message would be refused again.
	Rejected Code = "rejected"
	// FilterUnavailable: A filter that has to judge the message gave no answer.
	// The message was not published.
	// Retry: yes, with backoff.
	FilterUnavailable Code = "filter_unavailable"
	// HistoryUnavailable: The room keeps no history, or it cannot be read now
	// (`retry` is true then).
	// Retry: as `retry` says.
	HistoryUnavailable Code = "history_unavailable"
	// Unavailable: The server cannot do it now: its Redis is away or its queues
	// are full. With `outcome` "unknown" it may have happened all the same;
	// without, it did not.
	// Retry: yes, with backoff; a `chat` of unknown outcome with the same `key`.
	Unavailable Code = "unavailable"
	// Internal: A mistake in the server.
	// Retry: no.
	Internal Code = "internal"
)

// OutcomeUnknown is the Outcome of an Error whose request may have happened.
const OutcomeUnknown = "unknown"

// Error is a refusal on its way to a client. It is immutable once it is shared.
type Error struct {
	Code       Code
	Message    string        // for the developer of the client: what is wrong and what to do
	RoomID     string        // empty: not about a room, or not known
	Retry      bool          // the same request may succeed later
	RetryAfter time.Duration // 0: not known. Rounded up to milliseconds
	Outcome    string        // OutcomeUnknown or empty: it did not happen
	Reason     string        // Rejected, Muted, Banned: for the user
	ReasonCode string        // Rejected: the filter's own code
	Hint       string        // in dev mode: the line of relay.yaml to look at

	// Close is not sent: the socket is to be closed with it after the error, 0
	// for the usual case that it stays open.
	Close CloseCode
}

// Error implements error.
func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

// Frame encodes e as the answer to the request with this id, nil for none.
func (e *Error) Frame(id []byte) *Frame {
	return seal(e.AppendJSON(open(128+len(id)+len(e.Message)+len(e.RoomID)+len(e.Reason)+len(e.Hint)), id), ClassReply)
}

// AppendJSON appends the error event that Frame sends.
func (e *Error) AppendJSON(dst, id []byte) []byte {
	dst = start(dst, "error", id)
	dst = appendText(dst, `,"code":`, string(e.Code))
	dst = appendText(dst, `,"message":`, e.Message)
	dst = appendOptional(dst, `,"roomId":`, e.RoomID)
	dst = appendBool(dst, `,"retry":`, e.Retry)
	if e.RetryAfter > 0 {
		dst = appendInt(dst, `,"retryAfterMs":`, ceilMillis(e.RetryAfter))
	}
	dst = appendOptional(dst, `,"outcome":`, e.Outcome)
	dst = appendOptional(dst, `,"reason":`, e.Reason)
	dst = appendOptional(dst, `,"reasonCode":`, e.ReasonCode)
	dst = appendOptional(dst, `,"hint":`, e.Hint)
	return append(dst, '}')
}

// ceilMillis rounds up, so that nobody is told to come back too early.
func ceilMillis(d time.Duration) int64 {
	return int64((d + time.Millisecond - 1) / time.Millisecond)
}
