package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ClaimError is a fault in what the client says of itself. It is an ErrInvalid;
// unlike the others, its text may be shown to the client, who wrote the field.
type ClaimError struct {
	Field  string // "user.id", "user.name", "user.data"
	Reason string
}

// Error reads "user.id: longer than 128 bytes".
func (e *ClaimError) Error() string { return e.Field + ": " + e.Reason }

// Unwrap makes it an ErrInvalid.
func (e *ClaimError) Unwrap() error { return ErrInvalid }

// WithClaim returns the identity as the client's claim completes it: the id, if it
// gives one, has to be the identity's own (ErrUserMismatch), and name and data fill
// what the authenticator left empty. Guests are returned as they are: their claim
// made them.
func (id *Identity) WithClaim(c Claim) (*Identity, error) {
	if id.Guest {
		return id, nil
	}
	if c.ID != "" && c.ID != id.ID {
		return nil, ErrUserMismatch
	}
	name, data := id.Name == "" && c.Name != "", id.Data == nil && c.Data != nil
	if !name && !data {
		return id, nil
	}
	full := *id
	if name {
		if err := checkName(c.Name); err != nil {
			return nil, &ClaimError{"user.name", err.Error()}
		}
		full.Name = c.Name
	}
	if data {
		if err := checkData(c.Data); err != nil {
			return nil, &ClaimError{"user.data", err.Error()}
		}
		full.Data = bytes.Clone(c.Data)
	}
	return &full, nil
}

// Refresh reports whether a socket that belongs to old may go on as fresh: it may
// when both are the same user, vouched for or not alike, else ErrUserMismatch.
func Refresh(old, fresh *Identity) error {
	if old.ID != fresh.ID || old.Guest != fresh.Guest {
		return ErrUserMismatch
	}
	return nil
}

// checkID holds for every id, whoever gave it.
func checkID(id string) error {
	switch {
	case id == "":
		return errors.New("empty")
	case len(id) > MaxUserID:
		return fmt.Errorf("longer than %d bytes", MaxUserID)
	}
	return checkText(id)
}

// checkVouchedID holds for ids that a token or the like names: those that mark
// guests and services are not to be had that way.
func checkVouchedID(id string) error {
	for _, prefix := range []string{GuestPrefix, ServicePrefix} {
		if strings.HasPrefix(id, prefix) {
			return fmt.Errorf("starts with %q, which is reserved", prefix)
		}
	}
	return checkID(id)
}

func checkName(name string) error {
	if len(name) > MaxUserName {
		return fmt.Errorf("longer than %d bytes", MaxUserName)
	}
	return checkText(name)
}

func checkData(data json.RawMessage) error {
	switch {
	case len(data) > MaxUserData:
		return fmt.Errorf("longer than %d bytes", MaxUserData)
	case !utf8.Valid(data) || !json.Valid(data):
		return errors.New("not valid JSON")
	}
	return nil
}

func checkText(s string) error {
	if !utf8.ValidString(s) {
		return errors.New("not valid UTF-8")
	}
	if strings.ContainsFunc(s, unicode.IsControl) {
		return errors.New("contains control characters")
	}
	return nil
}

// tidyName makes a name that an authenticator vouches for fit: nobody is refused
// for what the directory calls them. Control characters become spaces, and what is
// beyond MaxUserName is cut between runes.
func tidyName(name string) string {
	name = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(name, "\uFFFD"))
	if len(name) > MaxUserName {
		name = strings.ToValidUTF8(name[:MaxUserName], "") // drops the rune that was cut in two
	}
	return name
}

// ended turns a context that is over into what Authenticate returns.
func ended(err error) error { return fmt.Errorf("%w: %w", ErrUnavailable, err) }

// invalid is an ErrInvalid with its reason for the log.
func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrInvalid, fmt.Errorf(format, args...))
}
