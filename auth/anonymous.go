package auth

import (
	"bytes"
	"context"
	"crypto/rand"
	"strings"
)

// AnonymousOptions configure NewAnonymous.
type AnonymousOptions struct {
	Name string // of the authenticator in relay.yaml

	// Prefix puts GuestPrefix before every id. It has to be set when the
	// configuration has any authenticator that vouches for ids.
	Prefix bool
}

// Anonymous lets everyone in under the name they give themselves: a guest has no
// roles, no claims, and an id that nobody vouched for. It reads no credential and
// so never returns ErrNoCredential; Chain asks it only when none was presented.
type Anonymous struct {
	opt AnonymousOptions
}

// NewAnonymous makes an authenticator of guests.
func NewAnonymous(opt AnonymousOptions) *Anonymous { return &Anonymous{opt: opt} }

// Authenticate takes the claim as it is, within the limits; a fault in it is a
// *ClaimError. Without an id the guest gets one of 128 random bits.
func (a *Anonymous) Authenticate(ctx context.Context, c Credentials) (*Identity, error) {
	if err := ctx.Err(); err != nil {
		return nil, ended(err)
	}
	id, err := a.guestID(c.Claim.ID)
	if err != nil {
		return nil, err
	}
	if err := checkName(c.Claim.Name); err != nil {
		return nil, &ClaimError{"user.name", err.Error()}
	}
	if c.Claim.Data != nil {
		if err := checkData(c.Claim.Data); err != nil {
			return nil, &ClaimError{"user.data", err.Error()}
		}
	}
	return &Identity{ID: id, Name: c.Claim.Name, Data: bytes.Clone(c.Claim.Data), Guest: true, Auth: a.opt.Name}, nil
}

// guestID is the id of a guest who claims the id claimed. A guest that comes back
// claims the id it was given, prefix and all, and gets the same again; a second
// prefix below the first would make two ids that read as one, so it is refused.
func (a *Anonymous) guestID(claimed string) (string, error) {
	id := claimed
	if claimed == "" {
		id = strings.ToLower(rand.Text()) // 26 base32 digits: 130 bits
	}
	if a.opt.Prefix {
		bare := strings.TrimPrefix(id, GuestPrefix)
		if bare == "" {
			return "", &ClaimError{"user.id", "empty after " + GuestPrefix}
		}
		if strings.HasPrefix(bare, GuestPrefix) {
			return "", &ClaimError{"user.id", "starts with " + GuestPrefix + " more than once"}
		}
		id = GuestPrefix + bare
	}
	if err := checkID(id); err != nil {
		return "", &ClaimError{"user.id", err.Error()}
	}
	return id, nil
}

// Places is empty: a guest presents nothing.
func (*Anonymous) Places() Places { return nil }

// Close does nothing.
func (*Anonymous) Close() error { return nil }
