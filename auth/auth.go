// Package auth turns the credential a client presents into an Identity.
//
// It stands at the very start of a message's way: the gateway collects what a
// handshake (or a first message) carries into Credentials, asks the endpoint's
// Authenticators in their configured order, and everything after it (policies,
// filters, presence) sees only the Identity. Nothing in this package knows rooms.
package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Limits on what an Identity may carry. They bound presence entries and
// envelopes, which repeat the user in every message.
const (
	MaxUserID   = 128  // bytes of user.id
	MaxUserName = 256  // bytes of user.name
	MaxUserData = 1024 // bytes of user.data, as JSON
)

// GuestPrefix marks the ids of guests wherever the configuration also has
// authenticators that vouch for ids, so that a guest can never take the id of a
// signed-in user.
const GuestPrefix = "guest:"

// ServicePrefix marks the ids of holders of an API key, so that the subject of a
// token is never taken for a server of one's own, nor the other way round.
const ServicePrefix = "service:"

// Identity is who is at the other end of a socket. It is immutable once
// returned: a refreshed token yields a new Identity.
type Identity struct {
	ID     string          // unique within the deployment, 1 to MaxUserID bytes
	Name   string          // for people to read; may be empty
	Data   json.RawMessage // opaque to relay, shown to other members; nil or valid JSON
	Roles  []string        // from the authenticator only, never from the client
	Claims map[string]any  // from the authenticator only, as decoded JSON
	Guest  bool            // nobody vouched for this id

	Auth    string    // name of the authenticator in relay.yaml
	Expires time.Time // when the credential ends; zero: never
}

// Source is the place a credential came from.
type Source string

// The places where a client can put a credential. Query and Cookie carry the
// parameter's name in configuration ("query:token"), so they are prefixes there.
const (
	Header      Source = "header"      // Authorization: Bearer …
	Subprotocol Source = "subprotocol" // Sec-WebSocket-Protocol: relay.v1, bearer.…
	Message     Source = "message"     // an auth request, first thing on the socket or later
	Query       Source = "query"       // ?NAME=…
	Cookie      Source = "cookie"      // Cookie: NAME=…
)

// Credentials is everything a client presented that an authenticator may look
// at. The gateway fills it; it must never be logged, which is why it has no
// exported fields that format well: String redacts.
type Credentials struct {
	Bearer map[Source]string            // header, subprotocol, message: the bare token
	Named  map[Source]map[string]string // query and cookie: by parameter name
	Claim  Claim                        // what the client says of itself
}

// String keeps credentials out of logs that format the struct by accident.
func (Credentials) String() string { return "auth.Credentials(redacted)" }

// GoString does the same for %#v.
func (Credentials) GoString() string { return "auth.Credentials(redacted)" }

// Claim is what a client says of itself in `user`: taken as it is from guests,
// and only compared (ID) or used to fill gaps (Name, Data) for everyone else.
// For those it is Chain that looks at it, with Identity.WithClaim.
type Claim struct {
	ID   string
	Name string
	Data json.RawMessage
}

// Errors of Authenticate. Everything else that Authenticate returns wraps one
// of these, with the reason for the log in its text; what the client is told
// must not depend on that text.
var (
	// ErrNoCredential: the client presented nothing this authenticator looks
	// at. The next authenticator of the endpoint is asked.
	ErrNoCredential = errors.New("no credential presented")
	// ErrInvalid: what was presented is not good. The socket is
	// refused: an expired token does not become a guest.
	ErrInvalid = errors.New("invalid credential")
	// ErrUnavailable: the credential cannot be judged now (keys unreachable).
	// The client should try again later.
	ErrUnavailable = errors.New("authentication unavailable")
	// ErrUserMismatch: the credential is good, but names another user than the
	// client claims to be, or than the socket belongs to. It is an ErrInvalid.
	ErrUserMismatch = fmt.Errorf("%w: it belongs to another user", ErrInvalid)
)

// Authenticator judges one kind of credential. Implementations are safe for
// concurrent use and are exercised by authtest.Run.
//
// Authenticate returns ErrNoCredential when none of the places it is configured
// to look at holds anything, or what is there is plainly of another kind (an API
// key is no token), ErrInvalid (wrapped) for a credential that is malformed,
// forged, expired or not meant for us, ErrUnavailable (wrapped) when the means to
// judge it are out of reach or ctx has ended, and otherwise a complete Identity.
// It never panics on hostile input, does bounded work, and puts no part of a
// credential into an error but the public names in it (issuer, key id).
type Authenticator interface {
	Authenticate(ctx context.Context, c Credentials) (*Identity, error)
	// Places lists where Authenticate looks, in its order; none for guests.
	Places() Places
	// Close ends background work (key refresh). It is idempotent.
	Close() error
}
