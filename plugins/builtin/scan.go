package builtin

import (
	"unicode/utf8"
)

// reach bounds how far a walk goes, in letters that differ and gaps: a word of
// maxLetters with a gap after each. A character of a text is looked at by at most
// as many walks, so scanning takes time in proportion to the text.
const reach = 2 * maxLetters

// A reading is one way to take characters that may be two things. Words that
// begin at a place are looked for in every reading that makes a difference there.
type reading uint8

const (
	signsApart reading = 1 << iota // $ @ ! are punctuation, not letters
	onesAreEls                     // 1 ! | are l, not i
	readings                       // how many there are
)

// scan looks through one text.
type scan struct {
	*lexicon
	text string

	// Where it stands.
	at       int
	previous cell // the last character that is not hidden
	fresh    bool // a gap or the beginning is right before at
	token    int  // where the letters before at began
	spared   int  // the text is allowed up to here

	restarted bool // see starts

	steps int // taken by walks, for tests that bound them

	// Of the current walk: how it reads, whether it met characters that other
	// readings take otherwise, and what stands for each letter of the path.
	as          reading
	signs, ones bool
	counts      [maxLetters]uint16
	bases       [maxLetters]rune // mixed where it differs
	depth       int              // the last one's index
	letters     int              // that are letters
	digits      int              // that are digits for letters
	head        bool             // it began where a word may
	found       found            // the longest
	after       cell             // the letter that found ends with
}

// found is a place in a text that has a word.
type found struct {
	from, to int // bytes
	index    int // in the list
}

// newScan is a scan of a text from its beginning.
func newScan(l *lexicon, text string) scan { return scan{lexicon: l, text: text, fresh: true} }

// read tells what the character at i is.
func (s *scan) read(i int) (cell, int) {
	b := s.text[i]
	var c cell
	n := 1
	if b < utf8.RuneSelf {
		c = s.ascii[b]
	} else {
		var r rune
		r, n = utf8.DecodeRuneInString(s.text[i:])
		c = s.cell(r)
	}
	if c.kind == digit || c.kind == sign {
		c = s.ambiguous(c)
	}
	return c, n
}

// ambiguous takes c as the reading has it.
func (s *scan) ambiguous(c cell) cell {
	if c.kind == sign {
		s.signs = true
		if s.as&signsApart != 0 {
			return cell{base: c.base}
		}
	}
	if s.isOne(c) {
		s.ones = true
		if s.as&onesAreEls != 0 {
			c.class = s.el
		}
	}
	return c
}

// isOne reports whether c reads as i or as l.
func (s *scan) isOne(c cell) bool {
	return (c.base == '1' || c.base == '!' || c.base == '|') && s.leet
}

// next finds the next place that has a word, from left to right, and of those
// that begin there the longest.
func (s *scan) next() (found, bool) {
	for s.at < len(s.text) {
		i, n := s.at, 1
		c := s.ascii[s.text[i]&(utf8.RuneSelf-1)]
		if s.text[i] >= utf8.RuneSelf {
			c, n = s.read(i)
		}
		s.at += n
		if c.kind <= hidden {
			if c.kind != hidden {
				s.previous, s.fresh = c, true
			}
			continue
		}
		previous, fresh := s.previous, s.fresh
		s.previous, s.fresh = c, false
		inside := !fresh && joined(previous, c)
		if !inside {
			s.token = i
		}
		s.head = !inside || c.kind == solid
		if !s.head && !s.anyStart {
			if c.kind == letter {
				s.skip()
			}
			continue
		}
		first := c
		if c.kind == several {
			parts := s.many[c.base]
			first, s.previous = parts[0], parts[len(parts)-1]
		}
		if !s.starts(previous, first, fresh) || c.kind != several && s.none(c) {
			continue
		}
		if s.walkFrom(i, n, c, fresh) && s.found.to > s.spared {
			s.at, s.token, s.previous = s.found.to, s.found.to, s.after
			return s.found, true
		}
	}
	return found{}, false
}

// starts reports whether c, after previous, begins a run of one letter: that is
// where words begin, since a walk takes a run as a whole. After signs, which may
// be punctuation before the run, and among characters that are i or l, it may
// begin once more; if it did everywhere, runs of those would take forever.
func (s *scan) starts(previous, c cell, fresh bool) bool {
	if fresh || c.class != previous.class && c.kind == letter && previous.kind == letter { // mostly
		s.restarted = false
		return true
	}
	one, other := s.isOne(c), s.isOne(previous)
	if c.class != previous.class && !(one && (other || previous.class == s.el) || other && c.class == s.el) {
		s.restarted = false
		return true
	}
	if s.restarted || !(other && !one || previous.kind == sign && c.kind != sign) {
		return false
	}
	s.restarted = true
	return true
}

// skip goes over letters inside of a word, as far as they are ASCII.
func (s *scan) skip() {
	i := s.at
	for i < len(s.text) && s.text[i] < utf8.RuneSelf && s.ascii[s.text[i]].kind == letter {
		i++
	}
	if i > s.at {
		s.at, s.previous = i, s.ascii[s.text[i-1]]
	}
}

// none reports whether it is plain at once that no word begins with c, which
// ends before at: in ordinary texts, the first two letters mostly tell.
func (s *scan) none(c cell) bool {
	first := s.step(0, c.class)
	if first == 0 {
		return !s.isOne(c) || s.step(0, s.el) == 0
	}
	if c.kind != letter || s.at >= len(s.text) || s.text[s.at] >= utf8.RuneSelf {
		return false
	}
	next := s.ascii[s.text[s.at]]
	return next.kind == letter && next.class != c.class && s.step(first, next.class) == 0 && s.nodes[first].out == 0
}

// joined reports whether two characters side by side are of one word or number.
func joined(a, b cell) bool {
	return a.kind == letter || a.kind == digit && b.kind == digit
}

// walkFrom looks for words that begin with the character c of n bytes at i, in
// every reading, and for letters spaced out one by one from there.
func (s *scan) walkFrom(i, n int, c cell, fresh bool) bool {
	s.found.to = -1
	s.signs, s.ones = c.kind == sign, s.isOne(c)
	spaced := s.spacing && fresh && s.alone(i+n)
	s.walk(i, false)
	if spaced {
		s.walk(i, true)
	}
	if !s.signs && !s.ones {
		return s.found.to >= 0
	}
	for s.as = 1; s.as < readings; s.as++ {
		if s.as&signsApart != 0 && (!s.signs || c.kind == sign) || s.as&onesAreEls != 0 && (!s.ones || s.el == 0) {
			continue
		}
		s.walk(i, false)
		if spaced {
			s.walk(i, true)
		}
	}
	s.as = 0
	return s.found.to >= 0
}

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
// letter stands between gaps of any kind; otherwise a gap with white space in it
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
	s.found, s.after = found{from, s.marks(to), w.index}, last
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
