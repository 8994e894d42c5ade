package policy

import (
	"fmt"
	"strings"
)

// Params are what the {names} of a match captured.
type Params map[string]string

// pattern is a compiled match: literals, runs (*) and captures ({name}).
//
// A capture takes one or more bytes other than the separators - . : and /, so
// that support-{team}-* means one team whatever the rest holds.
type pattern struct {
	parts []part
	names []string
}

type part struct {
	lit  string // set: these bytes
	name string // set: a capture
	// neither: any run of bytes, possibly none
}

func separator(b byte) bool { return b == '-' || b == '.' || b == ':' || b == '/' }

func compilePattern(match string) (*pattern, error) {
	p := &pattern{}
	rest := match
	for rest != "" {
		i := strings.IndexAny(rest, "*{}")
		if i != 0 {
			if i < 0 {
				i = len(rest)
			}
			p.parts = append(p.parts, part{lit: rest[:i]})
			rest = rest[i:]
			continue
		}
		switch rest[0] {
		case '*':
			rest = strings.TrimLeft(rest, "*")
			p.parts = append(p.parts, part{})
		case '}':
			return nil, fmt.Errorf("a } without its {")
		default:
			end := strings.IndexByte(rest, '}')
			if end < 0 {
				return nil, fmt.Errorf("a { without its }")
			}
			if err := p.capture(rest[1:end]); err != nil {
				return nil, err
			}
			rest = rest[end+1:]
		}
	}
	if match == "" {
		return nil, fmt.Errorf("must not be empty; * matches every room")
	}
	return p, nil
}

func (p *pattern) capture(name string) error {
	if !identifier(name) {
		return fmt.Errorf("{%s}: a name is letters, digits and _, and does not start with a digit", name)
	}
	for _, n := range p.names {
		if n == name {
			return fmt.Errorf("{%s} stands here twice", name)
		}
	}
	if n := len(p.parts); n > 0 && p.parts[n-1].lit == "" && p.parts[n-1].name != "" {
		return fmt.Errorf("{%s} follows another capture with nothing between them", name)
	}
	p.names = append(p.names, name)
	p.parts = append(p.parts, part{name: name})
	return nil
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

// match reports whether the whole room id fits, and what was captured.
//
// It backtracks to the last * only: once a * has been passed, what came before
// it need not be tried again, because a later start for the same * can do all
// that an earlier one can. That is at most len(room) tries of the parts between
// two stars; captures inside are deterministic, as they end at a separator or
// take the shortest run that lets the next literal follow.
func (p *pattern) match(room string) (Params, bool) {
	var caps [8]string
	got := caps[:0]
	star, starAt, starCaps := -1, 0, 0
	i, at := 0, 0
	for {
		ok := false
		switch {
		case i == len(p.parts):
			if at == len(room) {
				return p.params(got), true
			}
		case p.parts[i].name != "":
			if n := p.captureLen(i, room[at:]); n > 0 {
				got = append(got, room[at:at+n])
				at += n
				i++
				ok = true
			}
		case p.parts[i].lit != "":
			if strings.HasPrefix(room[at:], p.parts[i].lit) {
				at += len(p.parts[i].lit)
				i++
				ok = true
			}
		default:
			if i == len(p.parts)-1 {
				return p.params(got), true // a * at the end takes the rest
			}
			star, starAt, starCaps = i, at, len(got)
			i++
			ok = true
		}
		if ok {
			continue
		}
		if star < 0 || starAt >= len(room) {
			return nil, false
		}
		starAt++
		i, at, got = star+1, starAt, got[:starCaps]
	}
}

// captureLen is how much of s the capture at part i takes.
func (p *pattern) captureLen(i int, s string) int {
	end := 0
	for end < len(s) && !separator(s[end]) {
		end++
	}
	if i+1 < len(p.parts) && p.parts[i+1].lit != "" && !separator(p.parts[i+1].lit[0]) {
		// The next literal starts inside the run: the capture ends before its
		// first occurrence, but takes at least one byte.
		if end == 0 {
			return 0
		}
		if j := strings.Index(s[1:], p.parts[i+1].lit); j >= 0 && j+1 <= end {
			return j + 1
		}
		return 0
	}
	return end
}

func (p *pattern) params(got []string) Params {
	if len(got) == 0 {
		return nil
	}
	m := make(Params, len(got))
	for i, v := range got {
		m[p.names[i]] = v
	}
	return m
}

// AccessList is an endpoint's list of rooms: globs without captures.
type AccessList struct{ patterns []*pattern }

// CompileList compiles an access list; an empty one allows every room. The
// error of entry i is at index i of the second result, which is nil when all
// are good.
func CompileList(globs []string) (*AccessList, []error) {
	l, errs, bad := &AccessList{}, make([]error, len(globs)), false
	for i, g := range globs {
		p, err := compilePattern(g)
		if err == nil && len(p.names) > 0 {
			err = fmt.Errorf("{%s}: captures belong into rooms[].match, use * here", p.names[0])
		}
		if err != nil {
			errs[i], bad = err, true
			continue
		}
		l.patterns = append(l.patterns, p)
	}
	if bad {
		return nil, errs
	}
	return l, nil
}

// Allows reports whether the list has room in it. A nil list allows all.
func (l *AccessList) Allows(room string) bool {
	if l == nil || len(l.patterns) == 0 {
		return true
	}
	for _, p := range l.patterns {
		if _, ok := p.match(room); ok {
			return true
		}
	}
	return false
}
