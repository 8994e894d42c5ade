package auth

import (
	"context"
	"errors"
	"slices"
	"time"
)

// FirstMessageDeadline is how long a socket that presented nothing at the
// handshake may take to send its auth request.
const FirstMessageDeadline = 10 * time.Second

// Chain is an endpoint's authenticators. The first whose credential is present
// decides, and guests come last wherever they are listed: only who presented
// nothing at all is a guest. The zero Chain lets nobody in.
//
// A Chain does not own its authenticators, which endpoints share: closing them is
// left to whoever made them.
type Chain struct {
	vouching []Authenticator
	guests   *Anonymous
	places   Places
}

// NewChain makes a chain of list, in its order.
func NewChain(list ...Authenticator) *Chain {
	c := new(Chain)
	for _, a := range list {
		if g, ok := a.(*Anonymous); ok {
			c.guests = g
			continue
		}
		c.vouching = append(c.vouching, a)
		for _, p := range a.Places() {
			if !slices.Contains(c.places, p) {
				c.places = append(c.places, p)
			}
		}
	}
	return c
}

// Authenticate finds out who presents c. An error wraps ErrNoCredential when there
// is nothing and guests are not let in, ErrUserMismatch when the credential belongs
// to another user than c.Claim names, else ErrInvalid or ErrUnavailable as the
// authenticator that decided has it.
//
// A credential that no authenticator of this endpoint takes for its own is
// ErrInvalid: whoever sends one does not mean to be a guest.
func (c *Chain) Authenticate(ctx context.Context, cred Credentials) (*Identity, error) {
	for _, a := range c.vouching {
		id, err := a.Authenticate(ctx, cred)
		switch {
		case err == nil:
			return id.WithClaim(cred.Claim)
		case !errors.Is(err, ErrNoCredential):
			return nil, err
		}
	}
	switch {
	case c.Presented(cred):
		return nil, invalid("what was presented is empty, of another kind, or came from a place that no authenticator of this endpoint reads")
	case c.guests == nil:
		return nil, ErrNoCredential
	}
	return c.guests.Authenticate(ctx, cred)
}

// Presented reports whether cred holds a credential, good or not: a bearer token
// in any place (an empty one too), or something in a query or cookie that this
// chain reads (an empty cookie is how a cookie is taken away, so that is none).
// Where it is false at the handshake, and Guests or Deadline says that more may
// come, the socket waits for a message.
func (c *Chain) Presented(cred Credentials) bool {
	if len(cred.Bearer) > 0 {
		return true
	}
	_, ok := c.places.find(cred)
	return ok
}

// Guests reports whether who presents nothing is let in.
func (c *Chain) Guests() bool { return c.guests != nil }

// Deadline is how long to wait for an auth request as the first message, and 0
// where none of the authenticators reads messages.
func (c *Chain) Deadline() time.Duration {
	if !c.places.Has(Message) {
		return 0
	}
	return FirstMessageDeadline
}

// Places is where the chain's authenticators look, without repeats: what the
// gateway has to collect.
func (c *Chain) Places() Places { return slices.Clone(c.places) }
