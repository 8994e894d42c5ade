package wire

import "strconv"

// CloseCode is a status of RFC 6455 section 7.4, and tells a client what to do
// next. Each comment below is what docs/protocol.md prints, its "Reconnect" line
// included.
type CloseCode uint16

const (
	// CloseNormal: The client closed, or asked for it. Its members leave their
	// rooms at once, without grace.
	// Reconnect: no.
	CloseNormal CloseCode = 1000
	// CloseGoingAway: This server is going away.
	// Reconnect: yes, with backoff.
	CloseGoingAway CloseCode = 1001
	// CloseProtocol: Bytes that are not a WebSocket frame as RFC 6455 has it.
	// Reconnect: no, the client is at fault.
	CloseProtocol CloseCode = 1002
	// CloseUnsupported: A binary frame; all frames are text.
	// Reconnect: no, the client is at fault.
	CloseUnsupported CloseCode = 1003
	// CloseInvalidData: Text that is not UTF-8.
	// Reconnect: no, the client is at fault.
	CloseInvalidData CloseCode = 1007
	// ClosePolicy: The client held the server up: a message whose fragments
	// took too long to come in.
	// Reconnect: no, the client is at fault.
	ClosePolicy CloseCode = 1008
	// CloseTooBig: A message larger than `limits.frameSize` of `welcome`, inflated
	// if it came compressed.
	// Reconnect: no, the client is at fault.
	CloseTooBig CloseCode = 1009
	// CloseRestart: The server or this endpoint restarts.
	// Reconnect: yes, after the `reconnectAfterMs` of `closing` where there was one.
	CloseRestart CloseCode = 1012
	// CloseOverload: The server has too much to do.
	// Reconnect: yes, with backoff from 5 s up.
	CloseOverload CloseCode = 1013
	// CloseUnauthenticated: No credential in time, a bad one, or one that has expired.
	// Reconnect: yes, with a fresh token; no without one.
	CloseUnauthenticated CloseCode = 4401
	// CloseForbidden: Kicked, banned or refused.
	// Reconnect: no.
	CloseForbidden CloseCode = 4403
	// CloseTimeout: Nothing came for too long, not even a pong.
	// Reconnect: yes, with backoff.
	CloseTimeout CloseCode = 4408
	// CloseSlow: The client did not read as fast as its rooms speak.
	// Reconnect: yes, with backoff, and resume.
	CloseSlow CloseCode = 4429
)

// Reconnect reports whether a client should open another socket after this
// code; for CloseUnauthenticated only with a fresh token. Codes of no meaning
// here (1006, proxies' own) come from the network, and are worth another try.
func (c CloseCode) Reconnect() bool {
	switch c {
	case CloseNormal, CloseProtocol, CloseUnsupported, CloseInvalidData, ClosePolicy, CloseTooBig, CloseForbidden:
		return false
	}
	return true
}

// Fault reports whether a connection that ended with this code is worth a look:
// somebody did something wrong, or did not keep up.
func (c CloseCode) Fault() bool {
	switch c {
	case 0, CloseNormal, CloseGoingAway, CloseRestart:
		return false
	}
	return c.Meaning() != "other"
}

// Runbook is where the documentation says what to do about the code.
func (c CloseCode) Runbook() string { return "docs/observability.md#closed-with-" + c.Label() }

// Label is the code for metrics: none without one, other for codes that have no
// meaning here.
func (c CloseCode) Label() string {
	switch {
	case c == 0:
		return "none"
	case c.Meaning() == "other":
		return "other"
	}
	return strconv.Itoa(int(c))
}

// Meaning is the code in a word, for metrics and logs.
func (c CloseCode) Meaning() string {
	switch c {
	case 0:
		return "lost"
	case CloseNormal:
		return "normal"
	case CloseGoingAway:
		return "going_away"
	case CloseProtocol:
		return "protocol"
	case CloseUnsupported:
		return "binary"
	case CloseInvalidData:
		return "invalid_utf8"
	case ClosePolicy:
		return "policy"
	case CloseTooBig:
		return "too_big"
	case CloseRestart:
		return "restart"
	case CloseOverload:
		return "overload"
	case CloseUnauthenticated:
		return "unauthenticated"
	case CloseForbidden:
		return "forbidden"
	case CloseTimeout:
		return "timeout"
	case CloseSlow:
		return "slow"
	}
	return "other"
}
