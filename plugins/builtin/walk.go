package builtin

import "unicode/utf8"

// alone reports whether white space follows at i, perhaps after punctuation.
func (s *scan) alone(i int) bool {
	if i < len(s.text) && isASCIILetter(s.text[i]) { // mostly
		return false
	}
	for n := 0; i < len(s.text) && n < 4; n++ {
		c, size := s.read(i)
		if c.kind == space {
			return true
		}
		if c.kind != gap && c.kind != hidden {
			return false
		}
		i += size
	}
	return false
}

// walk follows the words of the lexicon along the text from i. Spaced out, each
// letter (no digit or sign) stands between gaps of any kind; otherwise a gap with white space in it
// ends the walk unless a phrase goes on there.
func (s *scan) walk(i int, spaced bool) {
	from, end := i, i
	at, last := int32(0), cell{}
	s.depth, s.letters, s.digits = -1, 0, 0
	inPiece := false // a letter of the piece between two gaps was read
	for budget := reach; budget > 0 && i < len(s.text); {
		c, n := s.read(i)
		s.steps++
		switch c.kind {
		case hidden:
			i += n
			continue
		case gap, space:
			budget--
			s.check(at, from, end, last, cell{})
			next, white := s.gap(i)
			switch {
			case white && !spaced:
				if at = s.step(at, s.white); at == 0 {
					return
				}
				s.enter(cell{base: ' '})
				last = cell{}
			case !s.spacing || !white && contraction(s.text, i, next):
				return
			}
			inPiece = false
			i = next
			continue
		case several:
			s.check(at, from, end, last, c)
			for _, part := range s.many[c.base] {
				budget--
				if at, last = s.along(at, last, part); at == 0 {
					return
				}
			}
		default:
			if spaced && c.kind != letter && c.kind != solid { // "a 5s", "1 + i"
				s.check(at, from, end, last, c)
				return
			}
			if c.class != last.class {
				if at != 0 && s.nodes[at].out != 0 {
					s.check(at, from, end, last, c)
				}
				if spaced && inPiece {
					return
				}
				budget--
			} else if !inPiece {
				budget--
			}
			if at, last = s.along(at, last, c); at == 0 {
				return
			}
		}
		inPiece = true
		i += n
		end = i
	}
	s.check(at, from, end, last, cell{})
}

// along takes one more letter.
func (s *scan) along(at int32, last, c cell) (int32, cell) {
	if c.class == 0 {
		return 0, c
	}
	if c.class == last.class {
		if s.counts[s.depth] < 1<<16-1 {
			s.counts[s.depth]++
		}
		if s.bases[s.depth] != c.base {
			s.bases[s.depth] = mixed
		}
	} else {
		at = s.step(at, c.class)
		if at == 0 {
			return 0, c
		}
		s.enter(c)
	}
	switch c.kind {
	case letter, solid:
		s.letters++
	case digit:
		s.digits++
	}
	return at, c
}

// enter begins the run of a letter.
func (s *scan) enter(c cell) {
	s.depth++
	s.counts[s.depth], s.bases[s.depth] = 1, c.base
}

// gap goes behind what separates letters at i, and tells whether there is white
// space in it.
func (s *scan) gap(i int) (next int, white bool) {
	for i < len(s.text) {
		c, n := s.read(i)
		if c.kind != gap && c.kind != space && c.kind != hidden {
			break
		}
		s.steps++
		white = white || c.kind == space
		i += n
	}
	return i, white
}

// contraction reports whether text[i:next] is an apostrophe as in he'll, which
// separates words that are no attempt to hide one.
func contraction(text string, i, next int) bool {
	if a := text[i:next]; a != "'" && a != "’" {
		return false
	}
	end := next
	for end < len(text) && end-next < 3 && isASCIILetter(text[end]) {
		end++
	}
	if end < len(text) && (text[end] >= utf8.RuneSelf || text[end] == '\'') {
		return false
	}
	switch text[next:end] {
	case "s", "t", "d", "m", "ll", "re", "ve", "S", "T", "D", "M", "LL", "RE", "VE":
		return true
	}
	return false
}

func isASCIILetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

// check looks which words are complete at a node, where the text went from from
// to to and next follows.
func (s *scan) check(at int32, from, to int, last, next cell) {
	i := s.nodes[at].out
	if at == 0 || i == 0 {
		return
	}
	tail := last.kind == solid || next.kind != letter && next.kind != several && (next.kind != digit || last.kind != digit)
	for ; ; i++ {
		w := &s.words[i]
		if (s.head || w.openHead) && (tail || w.openTail) && s.same(w) {
			s.take(w, from, to, last)
		}
		if w.last {
			return
		}
	}
}

// same compares a word with what stands for its letters.
func (s *scan) same(w *word) bool {
	if len(w.runs) != s.depth+1 {
		return false
	}
	for k, want := range w.runs {
		have := s.counts[k]
		switch {
		case have == uint16(want):
		case !s.repeats, have < uint16(want):
			return false
		case have == 2 && w.letters <= 3: // "good" is not "god"
			return false
		}
	}
	if w.exact != nil {
		for k, r := range w.exact {
			if r != 0 && s.bases[k] != r {
				return false
			}
		}
		return true
	}
	// Numbers are no words: at most half of one may be digits. And $$$ is money.
	total := s.letters + s.digits
	return 2*s.digits <= max(total, w.letters) && (s.letters > 0 || len(w.runs) > 1)
}

// take notes that a word was found.
func (s *scan) take(w *word, from, to int, last cell) {
	if w.allowed {
		s.spared = max(s.spared, s.marks(to))
		return
	}
	if w.wideHead {
		from = min(from, s.token)
	}
	if to <= s.found.to {
		return
	}
	if w.wideTail {
		to = s.tokenEnd(to)
	}
	s.found, s.after = found{from, s.marks(to)}, last
}

// tokenEnd goes to the end of the letters at i.
func (s *scan) tokenEnd(i int) int {
	for i < len(s.text) {
		c, n := s.read(i)
		if c.kind != letter && c.kind != hidden && c.kind != several {
			break
		}
		i += n
	}
	return i
}

// marks goes behind the marks at i, which belong to the character before.
func (s *scan) marks(i int) int {
	for i < len(s.text) {
		c, n := s.read(i)
		if c.kind != hidden {
			break
		}
		i += n
	}
	return i
}
