// Package verify proves what relay promises about rooms with history: clients
// record all they send and hear while things go wrong, and Check compares the
// records with what was stored in the end.
//
// It knows nothing of the server's insides: it speaks the protocol, as any
// client does.
package verify

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Stored is one message of a room's history, in order: the truth that records
// are held against.
type Stored struct {
	Seq  uint64
	Text string // unique: who sent it, and a count
}

// Entry is one thing that happened to a client, in the order in which it did.
type Entry struct {
	Kind EntryKind
	Seq  uint64 // Entered: the room's position; Delivered: the message's; Forked: the last that holds
	Text string // Delivered
}

// EntryKind tells what an Entry is.
type EntryKind uint8

const (
	// Entered: joined without resume. What came before is not owed.
	Entered EntryKind = iota
	// Delivered: a message came by, live, missed or in history; or its own
	// message was acked.
	Delivered
	// Told: the client was told that something is missing here: a notice, or
	// recovered false.
	Told
	// Forked: the client was told that what it has seen beyond Seq is void: a new
	// epoch began there. It is Told, too.
	Forked
)

// Record is all that one client saw of one room.
type Record struct {
	Room    string
	Client  string
	Entries []Entry
	Acked   map[string]uint64 // text → seq, of its own messages
	Sent    map[string]bool   // texts of its own messages, acked or not
	Slowest time.Duration     // from the first try of a message to its ack

	members []string // as last heard
}

// Report is what Check found. Lost, Repeated, Swapped and Phantom are to be 0.
type Report struct {
	Acked, Delivered int
	Lost             int // owed to a member, and neither delivered nor told of
	Repeated         int
	Swapped          int // delivered after something that is stored later
	Phantom          int // delivered or acked, and not stored, without a word
	Noticed          int // owed, not delivered, and told of
	Slowest          time.Duration

	Violations []string // the first few, in words
}

// OK reports whether nothing was violated.
func (r *Report) OK() bool { return r.Lost+r.Repeated+r.Swapped+r.Phantom == 0 }

const maxViolations = 20

func (r *Report) violation(format string, args ...any) {
	if len(r.Violations) < maxViolations {
		r.Violations = append(r.Violations, fmt.Sprintf(format, args...))
	}
}

// Check holds records of one room against what is stored.
func Check(stored []Stored, records []*Record) *Report {
	r := &Report{}
	place := make(map[string]int, len(stored)) // text → index in stored
	for i, s := range stored {
		if _, twice := place[s.Text]; twice {
			r.Repeated++
			r.violation("%s is stored twice", s.Text)
		}
		place[s.Text] = i
		if i > 0 && s.Seq <= stored[i-1].Seq {
			r.Swapped++
			r.violation("seq %d is stored after %d", s.Seq, stored[i-1].Seq)
		}
	}
	sent := make(map[string]bool)
	for _, rec := range records {
		for text := range rec.Sent {
			sent[text] = true
		}
	}
	for _, s := range stored {
		if !sent[s.Text] {
			r.Phantom++
			r.violation("%s is stored, and nobody sent it", s.Text)
		}
	}
	r.senders(stored)
	for _, rec := range records {
		r.deliveries(rec, stored, place)
		r.acks(rec, stored, place)
		r.Slowest = max(r.Slowest, rec.Slowest)
	}
	return r
}

// senders checks that each sender's messages are stored in the order in which
// it sent them. Their texts are "name.count".
func (r *Report) senders(stored []Stored) {
	last := make(map[string]int)
	for _, s := range stored {
		var n int
		name := s.Text
		for i := len(name) - 1; i >= 0; i-- {
			if name[i] == '.' {
				if _, err := fmt.Sscan(name[i+1:], &n); err == nil {
					name = name[:i]
				}
				break
			}
		}
		if before, ok := last[name]; ok && n < before {
			r.Swapped++
			r.violation("%s is stored after %s.%d", s.Text, name, before)
		}
		last[name] = n
	}
}

// deliveries walks a client's entries along the stored messages. next is the
// index of the next one that is owed.
func (r *Report) deliveries(rec *Record, stored []Stored, place map[string]int) {
	seen := make(map[string]bool)
	void := voided(rec.Entries)
	next, told := len(stored), false
	entered, matched := false, false
	miss := func(to int) {
		for ; next < to; next++ {
			switch s := stored[next]; {
			case seen[s.Text]:
			case told:
				r.Noticed++
			default:
				r.Lost++
				r.violation("%s in %s: %s (seq %d) never came", rec.Client, rec.Room, s.Text, s.Seq)
			}
		}
		told = false
	}
	for i, e := range rec.Entries {
		switch e.Kind {
		case Entered:
			if !entered {
				for next = 0; next < len(stored) && stored[next].Seq <= e.Seq; next++ {
				}
			}
			entered = true
		case Told, Forked:
			told = true
		case Delivered:
			r.Delivered++
			if void[i] { // stored again later, under its key, or gone for good
				r.Noticed++
				continue
			}
			if seen[e.Text] {
				r.Repeated++
				r.violation("%s in %s: %s came twice", rec.Client, rec.Room, e.Text)
				continue
			}
			seen[e.Text] = true
			at, ok := place[e.Text]
			switch {
			case !ok && toldIn(rec.Entries[i:]):
				r.Noticed++
			case !ok:
				r.Phantom++
				r.violation("%s in %s: %s (seq %d) is not stored", rec.Client, rec.Room, e.Text, e.Seq)
			case at < next && !matched && toldIn(rec.Entries[:i]):
				// Everything was lost since it entered, and numbers began anew:
				// its place then says nothing of what is stored now.
				next = at + 1
			case at < next:
				r.Swapped++
				r.violation("%s in %s: %s came after what is stored later", rec.Client, rec.Room, e.Text)
			default:
				miss(at)
				next = at + 1
			}
			matched = matched || ok
		}
	}
	if entered {
		miss(len(stored))
	}
}

// String lists the entries, for evidence: <2 entered at 2, a.1@3 delivered at 3,
// ? told, >2 forked at 2.
func (r *Record) String() string {
	var b strings.Builder
	for _, e := range r.Entries {
		switch e.Kind {
		case Entered:
			fmt.Fprintf(&b, "<%d ", e.Seq)
		case Told:
			b.WriteString("? ")
		case Forked:
			fmt.Fprintf(&b, ">%d ", e.Seq)
		case Delivered:
			fmt.Fprintf(&b, "%s@%d ", e.Text, e.Seq)
		}
	}
	return r.Client + ": " + b.String()
}

// voided says of each entry whether a fork made it void later.
func voided(entries []Entry) []bool {
	void := make([]bool, len(entries))
	for i, f := range entries {
		if f.Kind != Forked {
			continue
		}
		for k, e := range entries[:i] {
			void[k] = void[k] || e.Kind == Delivered && e.Seq > f.Seq
		}
	}
	return void
}

func toldIn(entries []Entry) bool {
	return slices.ContainsFunc(entries, func(e Entry) bool { return e.Kind == Told || e.Kind == Forked })
}

// acks checks that an ack meant stored.
func (r *Report) acks(rec *Record, stored []Stored, place map[string]int) {
	for text, seq := range rec.Acked {
		r.Acked++
		at, ok := place[text]
		switch {
		case ok && stored[at].Seq == seq:
		case toldIn(rec.Entries):
			r.Noticed++
		default:
			r.Phantom++
			r.violation("%s in %s: %s was acked at seq %d and is not stored there", rec.Client, rec.Room, text, seq)
		}
	}
}

// Add sums reports up.
func (r *Report) Add(o *Report) {
	r.Acked += o.Acked
	r.Delivered += o.Delivered
	r.Lost += o.Lost
	r.Repeated += o.Repeated
	r.Swapped += o.Swapped
	r.Phantom += o.Phantom
	r.Noticed += o.Noticed
	r.Slowest = max(r.Slowest, o.Slowest)
	for _, v := range o.Violations {
		r.violation("%s", v)
	}
}
