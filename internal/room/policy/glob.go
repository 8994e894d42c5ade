package policy

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds on a glob, so that the work of matching one room id is bounded too.
const (
	maxGlob     = 256 // bytes
	maxCaptures = 8
)

// Params are what the {names} of a match captured. They are shared: read only.
type Params map[string]string

// glob is a compiled match: literals, runs (*) and captures ({name}).
//
//   - any run of bytes, possibly none
//     {name}   one or more bytes other than the separators - . : and /
//     others   themselves, byte by byte
//
// A glob fits a whole room id or not at all. Where it fits in several ways, runs
// and captures are as short as they can be, from left to right. So with
// support-{team}-* the team of support-billing-eu-7 is billing, and never
// billing-eu; support--7 has no team and does not fit.
type glob struct {
	parts          []part
	names          []string // of the captures, in order
	prefix, suffix string   // what every room id that fits starts and ends with
}

type part struct {
	kind partKind
	lit  string // of a literal, never empty
	idx  int    // of a capture, into names
}

type partKind uint8

const (
	literal partKind = iota
	run
	capture
)

func separator(b byte) bool { return b == '-' || b == '.' || b == ':' || b == '/' }

// flaw is one thing wrong with a glob, at a byte offset into it.
type flaw struct {
	at  int
	msg string
}

// parseGlob reads a glob. What is wrong with it comes all at once; the glob is
// good only when nothing is.
func parseGlob(s string) (*glob, []flaw) {
	if s == "" {
		return nil, []flaw{{0, "is empty; * matches every room"}}
	}
	if len(s) > maxGlob {
		return nil, []flaw{{maxGlob, fmt.Sprintf("is longer than %d bytes", maxGlob)}}
	}
	if !utf8.ValidString(s) {
		return nil, []flaw{{0, "is not UTF-8, as all room ids are"}}
	}
	if i := strings.IndexFunc(s, unicode.IsControl); i >= 0 {
		return nil, []flaw{{i, "has a control character, which no room id has"}}
	}
	g, flaws := &glob{}, []flaw(nil)
	for at := 0; at < len(s); {
		p, size, msg := g.next(s[at:])
		if msg == "" {
			msg = g.add(p)
		}
		if msg != "" {
			flaws = append(flaws, flaw{at, msg})
		}
		at += size
	}
	if len(flaws) > 0 {
		return nil, flaws
	}
	g.prefix, g.suffix = g.parts[0].lit, g.parts[len(g.parts)-1].lit
	return g, nil
}

// next reads the part that s starts with, and says how long it is there.
func (g *glob) next(s string) (p part, size int, msg string) {
	switch s[0] {
	case '*':
		return part{kind: run}, len(s) - len(strings.TrimLeft(s, "*")), ""
	case '}':
		return part{}, 1, "a } without its {"
	case '{':
		end := strings.IndexByte(s, '}')
		if end < 0 {
			return part{}, len(s), "a { without its }"
		}
		name := s[1:end]
		switch {
		case !identifier(name):
			msg = fmt.Sprintf("{%s}: a name is letters, digits and _, and starts with no digit", name)
		case slices.Contains(g.names, name):
			msg = fmt.Sprintf("{%s} stands here twice", name)
		case len(g.names) == maxCaptures:
			msg = fmt.Sprintf("has more than %d captures", maxCaptures)
		default:
			p = part{kind: capture, idx: len(g.names)}
			g.names = append(g.names, name)
		}
		return p, end + 1, msg
	}
	if end := strings.IndexAny(s, "*{}"); end >= 0 {
		s = s[:end]
	}
	return part{kind: literal, lit: s}, len(s), ""
}

// add appends a part. A capture needs literals around it, or the ends of the
// room id: beside a * or another capture, nobody could tell what it captures.
func (g *glob) add(p part) (msg string) {
	if n := len(g.parts); n > 0 && p.kind != literal {
		switch last := g.parts[n-1]; {
		case last.kind == capture:
			msg = fmt.Sprintf("{%s} needs a literal after it, such as -", g.names[last.idx])
		case last.kind == run && p.kind == capture:
			msg = fmt.Sprintf("{%s} needs a literal before it, such as -", g.names[p.idx])
		}
	}
	g.parts = append(g.parts, p)
	return msg
}

func identifier(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c != '_' && (c|0x20 < 'a' || c|0x20 > 'z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// match reports whether the whole room id fits, and what was captured: nil
// where the glob has no captures.
func (g *glob) match(room string) (Params, bool) {
	if !strings.HasPrefix(room, g.prefix) || !strings.HasSuffix(room, g.suffix) {
		return nil, false
	}
	m := matching{glob: g, room: room}
	var few [48]uint64 // enough for a room id of full length and 23 parts
	if words := (len(g.parts)*(len(room)+1) + 63) / 64; words <= len(few) {
		m.tried = few[:words]
	} else {
		m.tried = make([]uint64, words)
	}
	if !m.from(0, 0) {
		return nil, false
	}
	if len(g.names) == 0 {
		return nil, true
	}
	params := make(Params, len(g.names))
	for i, name := range g.names {
		params[name] = room[m.starts[i]:m.ends[i]]
	}
	return params, true
}

// matching is one search for a way in which a glob fits. It backtracks, but
// tries each end of each part once: the work is at most the length of the room
// id times that of the glob, whatever the two are.
type matching struct {
	*glob
	room         string
	tried        []uint64 // a bit for each part and place: known to lead nowhere
	starts, ends [maxCaptures]int
}

// from reports whether the parts from i on fit the room id from at on.
func (m *matching) from(i, at int) bool {
	if i == len(m.parts) {
		return at == len(m.room)
	}
	switch p := &m.parts[i]; p.kind {
	case literal:
		return strings.HasPrefix(m.room[at:], p.lit) && m.from(i+1, at+len(p.lit))
	case run:
		if i == len(m.parts)-1 {
			return true
		}
		// The places after one that was tried before were tried then, too.
		for ; at <= len(m.room) && m.first(i, at); at++ {
			if m.from(i+1, at) {
				return true
			}
		}
		return false
	default:
		m.starts[p.idx] = at
		for at < len(m.room) && !separator(m.room[at]) {
			at++
			if !m.first(i, at) {
				return false // as for runs
			}
			if m.from(i+1, at) {
				m.ends[p.idx] = at
				return true
			}
		}
		return false
	}
}

// first reports whether it is asked for part i and this place for the first time.
func (m *matching) first(i, at int) bool {
	bit := i*(len(m.room)+1) + at
	word, mask := &m.tried[bit/64], uint64(1)<<(bit%64)
	if *word&mask != 0 {
		return false
	}
	*word |= mask
	return true
}

// AccessList is an endpoint's list of rooms: globs without captures.
type AccessList struct{ globs []*glob }

// CompileList compiles an access list; an empty one allows every room. The
// error of entry i is at index i of the second result, which is nil when all
// are good.
func CompileList(globs []string) (*AccessList, []error) {
	l, errs, bad := &AccessList{}, make([]error, len(globs)), false
	for i, s := range globs {
		g, flaws := parseGlob(s)
		switch {
		case len(flaws) > 0:
			errs[i], bad = fmt.Errorf("%q: %s", s, flaws[0].msg), true
		case len(g.names) > 0:
			errs[i], bad = fmt.Errorf("%q: captures are for rooms[].match; write * instead of {%s}", s, g.names[0]), true
		default:
			l.globs = append(l.globs, g)
		}
	}
	if bad {
		return nil, errs
	}
	return l, nil
}

// Allows reports whether the list has room in it. A nil list allows all.
func (l *AccessList) Allows(room string) bool {
	if l == nil || len(l.globs) == 0 {
		return true
	}
	return slices.ContainsFunc(l.globs, func(g *glob) bool {
		_, ok := g.match(room)
		return ok
	})
}
