package bus

import "errors"

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
	ID     string // set by Sanction: what Lift takes
	Kind   SanctionKind
	Member string // the identity's id
	IP     string // of a guest, who is bound by address too; otherwise empty
	Room   string // empty: in all rooms
	Reason string // told to the user
	By     string // who decided: "filter:NAME", "user:ID", "cli"
	Issued int64  // milliseconds since the Unix epoch
	Until  int64  // likewise; 0: until it is lifted. Of the store's clock
}

// Ended reports whether the sanction is over at now, in milliseconds since the
// Unix epoch.
func (s *Sanction) Ended(now int64) bool { return s.Until != 0 && s.Until <= now }

var (
	// ErrNoSanction: nothing to lift under that id.
	ErrNoSanction = errors.New("no such sanction")
	// ErrTooManySanctions: the store holds as many as it may.
	ErrTooManySanctions = errors.New("too many sanctions")
)
