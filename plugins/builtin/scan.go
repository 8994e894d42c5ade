package builtin

import "unicode/utf8"

// reach bounds how far a walk goes, in runs of one letter and gaps: a word of
// maxLetters with a gap after each. Walks begin only where a run does (or once
// inside, see starts), so at most as many times two look at a character in each
// reading, and scanning takes time in proportion to the text.
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
type found struct{ from, to int } // bytes

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
		c := s.ascii[s.text[i]&(utf8.RuneSelf-1)] // the mask saves a check of bounds
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
		previous, fresh, first := s.previous, s.fresh, c
		s.previous, s.fresh = c, false
		if c.kind == several {
			parts := s.many[c.base]
			first, s.previous = parts[0], parts[len(parts)-1]
		}
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
