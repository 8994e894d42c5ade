// Package wire is relay.v1 as bytes: it parses what clients ask and encodes what
// the server says, without reflection or needless allocation.
//
// It stands at both ends of a message's way. The gateway hands each text frame
// to Parse, which checks it and leaves the parts that relay does not read
// (message, data) as the raw bytes they came in. On the way back a room encodes
// an event once into a Frame, RFC 6455 header included, and every receiver's
// queue shares it.
//
// Parse reads JSON as RFC 8259 defines it and encoding/json implements it, with
// three differences, each an error: invalid UTF-8, an escaped surrogate without
// its other half in any string (I-JSON, RFC 7493 section 2.1: no receiver could
// tell what was meant), and nesting deeper than MaxDepth.
//
// The protocol is told for its users in docs/protocol.md; tests hold that page
// and this package together.
package wire

// Subprotocol is what a client offers and the server echoes in
// Sec-WebSocket-Protocol.
const Subprotocol = "relay.v1"

// Bounds of a request. Lengths are bytes of UTF-8, after unescaping where the
// value is a string and as sent where it is any JSON.
const (
	MaxDepth       = 128       // objects and arrays inside each other, the request's own included
	MaxInteger     = 1<<53 - 1 // of seq and the like: what every JSON reader holds exactly (RFC 7493 section 2.2)
	MaxID          = 128       // id, as sent
	MaxTypeName    = 64        // type
	MaxRoomID      = 128       // roomId
	MaxUserID      = 128       // user.id
	MaxUserName    = 256       // user.name
	MaxUserData    = 1024      // user.data, as sent
	MaxKey         = 64        // key
	MaxToken       = 16 << 10  // token
	MaxCursor      = 1024      // cursor
	MaxReason      = 256       // reason
	MaxEpoch       = 64        // resume.epoch
	MaxTraceparent = 128       // traceparent; version 00 has 55, later ones may have more
	MaxDebug       = 64        // debug
	MaxLimit       = 1000      // limit: messages of a history page
)
