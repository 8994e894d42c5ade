package bus

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"unicode/utf8"
)

// SanctionKind is what befalls a user. Values are stored: never renumber.
type SanctionKind uint8

// The kinds of sanctions. Warn and Kick happen at once and are over; Mute and
// Ban last and are stored.
const (
	Warn SanctionKind = 1 // told, nothing else
	Mute SanctionKind = 2 // may not publish
	Kick SanctionKind = 3 // leaves, and may come back
	Ban  SanctionKind = 4 // leaves, and may not come back
)

func (k SanctionKind) String() string {
	if int(k) < len(sanctionNames) {
		return sanctionNames[k]
	}
	return "unknown"
}

var sanctionNames = [...]string{"unknown", "warn", "mute", "kick", "ban"}

// Lasts reports whether the sanction is stored until it ends or is lifted.
func (k SanctionKind) Lasts() bool { return k == Mute || k == Ban }

// Sanction is a decision against one user. It is immutable.
type Sanction struct {
	ID     string // what Lift takes; drawn by Bus.Sanction where it is empty
	Kind   SanctionKind
	Member string // the identity's id
	IP     string // of a guest, who is bound by address too (see BoundAddr); otherwise empty
	Room   string // empty: in all rooms
	Reason string // told to the user
	By     string // who decided: "filter:NAME", "user:ID", "cli"
	Issued int64  // milliseconds since the Unix epoch
	Until  int64  // likewise; 0: until it is lifted. Of the store's clock
}

// Ended reports whether the sanction is over at now, in milliseconds since the
// Unix epoch.
func (s *Sanction) Ended(now int64) bool { return s.Until != 0 && s.Until <= now }

// SanctionMax bounds the bytes of all text of a sanction together.
const SanctionMax = 4 << 10

// NewSanctionID makes one: easy to copy, hard to guess.
func NewSanctionID() string { return rand.Text()[:16] }

// Check says what is wrong with a sanction, if anything: ErrBadSanction.
func (s *Sanction) Check() error {
	if s.Kind < Warn || s.Kind > Ban {
		return fmt.Errorf("%w: kind %d; there are warn, mute, kick and ban", ErrBadSanction, s.Kind)
	}
	if s.Member == "" && s.IP == "" {
		return fmt.Errorf("%w: it names neither a member nor an address", ErrBadSanction)
	}
	if !s.Kind.Lasts() && s.Until != 0 {
		return fmt.Errorf("%w: a %s has no end", ErrBadSanction, s.Kind)
	}
	size := 0
	for _, text := range [...]string{s.ID, s.Member, s.IP, s.Room, s.Reason, s.By} {
		if size += len(text); !utf8.ValidString(text) {
			return fmt.Errorf("%w: %q is not UTF-8", ErrBadSanction, text)
		}
	}
	if size > SanctionMax {
		return fmt.Errorf("%w: %d bytes of text, %d are allowed", ErrBadSanction, size, SanctionMax)
	}
	for _, c := range s.ID {
		if c <= ' ' || c > '~' {
			return fmt.Errorf("%w: id %q: only printable ASCII without spaces", ErrBadSanction, s.ID)
		}
	}
	return nil
}

// BoundAddr is the address that a sanction binds guests by: an IPv6 subscriber
// usually has a /64 to choose from (RFC 6177), so all of it counts as one.
func BoundAddr(ip netip.Addr) string {
	ip = ip.Unmap().WithZone("")
	if ip.Is6() {
		if p, err := ip.Prefix(64); err == nil {
			return p.Addr().String()
		}
	}
	return ip.String()
}

// SanctionPage is one page of the sanctions in force.
type SanctionPage struct {
	Sanctions []*Sanction
	Count     int    // of all in force
	Cursor    string // of the next page; empty at the end
}

var (
	// ErrBadSanction: it says nothing that could be put in force.
	ErrBadSanction = errors.New("not a sanction")
	// ErrNoSanction: nothing to lift under that id.
	ErrNoSanction = errors.New("no such sanction")
	// ErrTooManySanctions: the store holds as many as it may.
	ErrTooManySanctions = errors.New("too many sanctions")
)
