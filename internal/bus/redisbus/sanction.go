package redisbus

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/wsrelay/relay/internal/bus"
)

// sentence is a sanction's text in Redis: what the scripts do not look into.
// Names are short because there may be many, and must stay.
type sentence struct {
	Kind   bus.SanctionKind `json:"k"`
	Member string           `json:"m,omitempty"`
	IP     string           `json:"ip,omitempty"`
	Room   string           `json:"r,omitempty"`
	Reason string           `json:"why,omitempty"`
	By     string           `json:"by,omitempty"`
}

func encodeSanction(s *bus.Sanction) ([]byte, error) {
	return json.Marshal(sentence{s.Kind, s.Member, s.IP, s.Room, s.Reason, s.By})
}

// decodeSanction takes an entry apart: "issued end text", as the scripts wrote
// it. Of a later version's text it reads what it knows.
func decodeSanction(id, rest string) (*bus.Sanction, error) {
	issued, rest, _ := strings.Cut(rest, " ")
	ends, text, _ := strings.Cut(rest, " ")
	s := &bus.Sanction{ID: id}
	var err error
	if s.Issued, err = strconv.ParseInt(issued, 10, 64); err != nil {
		return nil, fmt.Errorf("sanction %q: issued: %w", id, errForeign)
	}
	if s.Until, err = strconv.ParseInt(ends, 10, 64); err != nil {
		return nil, fmt.Errorf("sanction %q: end: %w", id, errForeign)
	}
	var t sentence
	if json.Unmarshal([]byte(text), &t) != nil || id == "" {
		return nil, fmt.Errorf("sanction %q: %w", id, errForeign)
	}
	s.Kind, s.Member, s.IP, s.Room, s.Reason, s.By = t.Kind, t.Member, t.IP, t.Room, t.Reason, t.By
	return s, nil
}

// push is what came over the channel of the sanctions.
type push struct {
	sign          byte // + in force, - lifted, ! at once and over
	before, after version
	sanction      *bus.Sanction
}

func decodePush(s string) (push, error) {
	if s == "" {
		return push{}, errForeign
	}
	p, rest := push{sign: s[0]}, s[1:]
	switch p.sign {
	case '+', '-':
		var before, after string
		before, rest, _ = strings.Cut(rest, " ")
		after, rest, _ = strings.Cut(rest, " ")
		p.before, p.after = version(before), version(after)
	case '!':
	default:
		return push{}, errForeign
	}
	id, rest, _ := strings.Cut(rest, " ")
	var err error
	p.sanction, err = decodeSanction(id, rest)
	return p, err
}

// version names a state of the sanctions, as sanctions.lua makes it.
type version string

// nothing is the version where nothing was ever stored.
const nothing version = "-"

func (v version) parts() (line string, number uint64) {
	line, rest, _ := strings.Cut(string(v), ".")
	digits, _, _ := strings.Cut(rest, ".")
	number, _ = strconv.ParseUint(digits, 10, 63)
	return line, number
}

// covers reports whether the state v is, as far as can be told, not older than
// another.
func (v version) covers(other version) bool {
	line, number := v.parts()
	otherLine, otherNumber := other.parts()
	return line == otherLine && number >= otherNumber
}
