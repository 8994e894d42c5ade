package filter

import (
	"strconv"
	"strings"
)

// place is where a token stands in a body.
type place struct{ from, to int }

// locate finds every string token in body that pointer points at, in the order
// of the text. It trusts body to be valid JSON, and finds nothing in what is
// not, or in what is nested deeper than the pointer leads.
func locate(body []byte, pointer string) []place {
	if pointer != "" && pointer[0] != '/' {
		return nil
	}
	s := scanner{b: body}
	s.find(pointer)
	return s.found
}

// scanner walks over JSON. Past the end it reads zero bytes, which match nothing.
type scanner struct {
	b     []byte
	i     int
	found []place
}

func (s *scanner) peek() byte {
	if s.i < len(s.b) {
		return s.b[s.i]
	}
	return 0
}

func (s *scanner) space() {
	for {
		switch s.peek() {
		case ' ', '\t', '\r', '\n':
			s.i++
		default:
			return
		}
	}
}

// find walks over one value, and notes the strings in it that the rest of the
// pointer leads to.
func (s *scanner) find(rest string) {
	s.space()
	switch c := s.peek(); {
	case rest == "" && c == '"':
		from := s.i
		if s.str() {
			s.found = append(s.found, place{from, s.i})
		}
	case rest == "":
		s.skip()
	case c == '{':
		want, rest := step(rest)
		s.members(func() {
			from := s.i
			ok := s.str()
			key := s.b[from:s.i]
			s.space()
			s.i++ // the colon
			if ok && unquote(key) == want {
				s.find(rest)
			} else {
				s.skip()
			}
		})
	case c == '[':
		want, rest := step(rest)
		index := 0
		s.members(func() {
			if strconv.Itoa(index) == want {
				s.find(rest)
			} else {
				s.skip()
			}
			index++
		})
	default:
		s.skip()
	}
}

// step takes the first reference token off a pointer.
func step(pointer string) (token, rest string) {
	token = pointer[1:]
	if i := strings.IndexByte(token, '/'); i >= 0 {
		token, rest = token[:i], token[i:]
	}
	if strings.IndexByte(token, '~') >= 0 {
		token = strings.ReplaceAll(strings.ReplaceAll(token, "~1", "/"), "~0", "~")
	}
	return token, rest
}

// members calls each at the start of every member of the object or array here,
// and goes behind its end.
func (s *scanner) members(each func()) {
	s.i++
	for s.space(); s.i < len(s.b) && s.peek() != '}' && s.peek() != ']'; s.space() {
		if s.peek() == ',' {
			s.i++
			s.space()
		}
		before := s.i
		each()
		if s.i == before { // not JSON; do not stand still
			s.i++
		}
	}
	s.i++
}

// skip goes behind the value here, however deep it is.
func (s *scanner) skip() {
	s.space()
	depth := 0
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case '"':
			s.str()
		case '{', '[':
			depth++
			s.i++
		case '}', ']':
			if depth == 0 {
				return
			}
			depth--
			s.i++
		case ',':
			if depth == 0 {
				return
			}
			s.i++
		default:
			s.i++
			continue // numbers and words end where the next token begins
		}
		if depth == 0 && (s.peek() == ',' || s.peek() == '}' || s.peek() == ']' || s.i >= len(s.b)) {
			return
		}
	}
}

// str goes behind the string token here; false when that has no end.
func (s *scanner) str() bool {
	for s.i++; s.i < len(s.b); s.i++ {
		switch s.b[s.i] {
		case '\\':
			s.i++
		case '"':
			s.i++
			return true
		}
	}
	s.i = len(s.b)
	return false
}
