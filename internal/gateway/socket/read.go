package socket

import (
	"compress/flate"
	"errors"
	"io"
	"time"

	"github.com/gorilla/websocket"

	"github.com/wsrelay/relay/internal/wire"
)

var errTooBig = errors.New("message too big")

// readAll appends r to b, at most limit bytes of it. The limit counts what a
// compressed message inflates to.
func readAll(b []byte, r io.Reader, limit int64) ([]byte, error) {
	for {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if int64(len(b)) > limit {
			return b[:0], errTooBig
		}
		if err == io.EOF {
			return b, nil
		}
		if err != nil {
			return b, err
		}
	}
}

// readLimit bounds the bytes of one message on the wire: what comes in
// compressed may be as large as what goes out of it, with a little for the
// overhead of incompressible data.
func readLimit(o *Options) int64 { return o.MaxMessage + o.MaxMessage/100 + 64 }

// fault is the close code that an error of the reader calls for, and what to
// tell the client; 0 where the network is to blame.
func fault(err error) (wire.CloseCode, string) {
	var corrupt flate.CorruptInputError
	switch {
	case errors.Is(err, errTooBig), errors.Is(err, websocket.ErrReadLimit): // gorilla tells the client itself, except of lengths beyond 63 bits
		return wire.CloseTooBig, "message too large"
	case errors.As(err, &corrupt), errors.Is(err, io.ErrUnexpectedEOF): // the network's own comes as a CloseError
		return wire.CloseInvalidData, "compressed data is broken"
	}
	return 0, ""
}

// errGone is the end of the network connection without a close frame, as
// gorilla would tell it.
var errGone = &websocket.CloseError{Code: websocket.CloseAbnormalClosure, Text: io.ErrUnexpectedEOF.Error()}

// then is what is left to do when nothing more is to be read as messages.
type then uint8

const (
	thenHangUp then = iota
	// thenWrite: a close frame of ours still waits, and is written first. Who
	// writes hangs up, or the sweeper.
	thenWrite
	// thenLinger: the client broke the rules and is not listened to any more. To
	// close now, with unread bytes in the kernel, would reset the connection, and
	// it might never see why (RFC 1122 section 4.2.2.13). So read on, and forget
	// what comes, until the client ends it, or the sweeper in a second.
	thenLinger
)

// readEnded works out how the connection ended.
func (c *conn) readEnded(err error) then {
	c.mu.Lock()
	defer c.mu.Unlock()
	var ce *websocket.CloseError
	if errors.As(err, &ce) && ce.Code != websocket.CloseAbnormalClosure { // which is gorilla's word for an end without a close frame
		c.setCause(Cause{By: Client, Code: wire.CloseCode(ce.Code), Reason: ce.Text})
		c.peerDone = true
		if c.closing && !c.closeSent && !c.ended {
			return thenWrite
		}
		return thenHangUp
	}
	if code, reason := fault(err); code != 0 {
		c.close(code, reason)
	}
	c.setCause(Cause{By: Network, Err: err})
	if c.closing && !c.ended {
		c.closeAt = min(c.closeAt, c.group.now()+int64(time.Second))
		return thenLinger
	}
	return thenHangUp
}

// wants reports whether the handler is to get messages: not when the connection
// is ending. The other result is whether it is to get them now, and not after a
// pause. mu is held.
func (c *conn) wants() (messages, now bool) {
	messages = !c.closing && !c.ended
	return messages, !messages || c.pauses <= 0
}
