// Package socket is one WebSocket connection: whole messages in, frames out,
// pings, and an orderly end.
//
// A message's way begins and ends here. gorilla/websocket does the handshake
// and the framing of what comes in; what goes out is framed already (wire.Frame)
// and only has to be queued and written.
//
// What all connections have in common is conn (conn.go, queue.go, control.go);
// under it is a line, of which there are two kinds, chosen in Upgrade:
//
//   - polled (polled_linux.go), plain TCP on Linux: a loop per core (loop_linux.go)
//     reads many of them, and a quiet one is a few hundred bytes. What has come of
//     a message waits in frames.go until it is whole, and parser.go hands it to
//     gorilla.
//   - stream (stream.go), everything else: a goroutine reads.
//
// Who has something queued is written by the writers of the group (writers.go),
// which never wait for one client: over TLS that takes a network that keeps what
// there was no room for (prompt_linux.go). Where there is none, a stream has a
// goroutine that writes while something waits.
//
// Every byte that leaves goes through one queue per connection: gorilla's own
// frames too, as it is given a net.Conn that queues what it writes. So nothing
// can come between the bytes of a frame, and everything that is pending goes out
// in one call.
package socket

import (
	"time"

	"github.com/wsrelay/relay/internal/wire"
)

// Conn is one connection, safe for concurrent use. Callers must not assume a
// goroutine behind it.
type Conn interface {
	// Start begins to read; before it, nothing reaches the Handler. Frames can
	// be sent before. The answer to the handshake goes out with the first frame,
	// or on Start.
	Start(h Handler)

	// Send queues a frame and never blocks. Frames go out in the order of the
	// calls. After Close nothing is queued any more. A receiver too slow for its
	// bound is dealt with as Options.Slow says.
	Send(f *wire.Frame)

	// Close writes what is queued, then a close frame, waits a moment for the
	// other side's, and ends the connection; all of it takes at most CloseWait.
	// The first call counts. It returns at once.
	Close(code wire.CloseCode, reason string)

	// Pause keeps Handler.Message from being called until as many calls of
	// Resume. A message that is being handled goes on. Messages are not read
	// meanwhile, so the client comes to feel it; Close ends a pause.
	Pause()
	Resume()
}

// Handler takes what a Conn reads. Its methods are called one at a time.
type Handler interface {
	// Message is one whole text message. data is valid during the call only. It
	// is not checked to be UTF-8: the parser does that. It must not block, for
	// other connections may wait until it returns: take a Pause, and a goroutine,
	// to do what takes time.
	Message(data []byte)
	// Closed is called once, after the last Message returned.
	Closed(c Cause)
}

// Cause tells how a connection ended.
type Cause struct {
	Code   wire.CloseCode // of the close frame; 0: there was none
	Reason string         // likewise
	By     Side           // who began
	Err    error          // of the network, nil after a close frame
}

// Side is one end of a connection.
type Side string

// Who ended a connection.
const (
	Client  Side = "client"
	Server  Side = "server"
	Network Side = "network"
)

// Normal reports whether the client said goodbye of its own accord.
func (c Cause) Normal() bool { return c.By == Client && c.Code == wire.CloseNormal }

// Slow says what becomes of a connection whose queue is full.
type Slow uint8

const (
	// Disconnect closes with 4429: the client resumes, and misses nothing in
	// rooms with history.
	Disconnect Slow = iota
	// Shed drops what a client can do without, oldest first: signals that a
	// newer one replaces, then all signals, then member events, then chats of
	// rooms without history; but nothing for what is worth less: a signal takes
	// the place of signals only. Where that does not help, it is Disconnect.
	Shed
)

// Options of a connection.
type Options struct {
	MaxMessage  int64 // bytes of one message, inflated
	MaxQueue    int   // bytes waiting to be written; a frame counts for 256 at least
	Slow        Slow
	Compression bool // offer permessage-deflate, without context takeover

	PingEvery   time.Duration // silence in either direction before a ping; 0: no pings
	PongTimeout time.Duration // silence after a ping was written before 4408

	WriteStall    time.Duration // no write progress for so long is 4429; default 30 s
	MessageWithin time.Duration // from a message's first frame to its last; default 30 s
	CloseWait     time.Duration // default 5 s
}

func (o Options) withDefaults() Options {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&o.WriteStall, 30*time.Second)
	set(&o.MessageWithin, 30*time.Second)
	set(&o.CloseWait, 5*time.Second)
	if o.MaxMessage == 0 {
		o.MaxMessage = 64 << 10
	}
	if o.MaxQueue == 0 {
		o.MaxQueue = 1 << 20
	}
	return o
}
