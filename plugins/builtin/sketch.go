package builtin

import (
	"math/bits"
	"unicode/utf8"
)

// bins is how many numbers a sketch has.
const bins = 32

// sketch is what is kept of a text to tell whether another one is the same, or
// much the same. Both go by letters and digits alone, without case, accents and
// repetition.
//
// The pieces of three letters that a text has are hashed, and of those that fall
// into one of the bins the least is kept. The share of equal bins estimates how
// many of their pieces two texts share (one permutation hashing: Li, Owen, Zhang,
// NIPS 2012).
type sketch struct {
	sum   uint64 // of the whole
	size  int    // letters
	least [bins]uint16
}

// minAlike is how many letters it takes for two texts to be similar: fewer have
// to be the same.
const minAlike = 12

const emptyBin = 1<<16 - 1 // in a bin that nothing fell into

// begin makes s that of the empty text.
func (s *sketch) begin(seed uint64) {
	s.sum, s.size = seed, 0
	for i := range s.least {
		s.least[i] = emptyBin
	}
}

// add takes a text into the sketch.
func (s *sketch) add(text string, seed uint64) {
	table := ascii()
	from := s.size
	var last rune
	piece := uint64(0)
	for _, r := range text {
		if r < utf8.RuneSelf {
			g := &table[r]
			if g.kind != letter && g.kind != digit {
				continue
			}
			r = g.base
		} else {
			g := glyphOf(r)
			if g.kind == space || g.kind == hidden {
				continue
			}
			r = g.base
			if g.kind == letter {
				r = g.folded
			}
		}
		if r == last {
			continue
		}
		last = r
		s.sum = (s.sum ^ uint64(r)) * 0x9e3779b97f4a7c15
		s.size++
		piece = (piece<<21 | uint64(r)) & (1<<63 - 1) // three characters of 21 bits
		if s.size-from >= 3 {
			h := mix(piece, seed)
			bin := &s.least[h>>59]
			*bin = min(*bin, uint16(h>>40))
		}
	}
	if s.size == from { // "!!!", "?": nothing but what does not count elsewhere
		for i := 0; i < len(text); i++ {
			s.sum = (s.sum ^ uint64(text[i])) * 0x9e3779b97f4a7c15
		}
	}
	s.sum = mix(s.sum^1<<32, seed) // where a text ends
}

// mix is a hash of x that nobody foresees who does not know the seed.
func mix(x, seed uint64) uint64 {
	hi, lo := bits.Mul64(x^seed, 0x9e3779b97f4a7c15^seed<<1)
	return hi ^ lo
}

// alike estimates how much of their pieces two texts share, in percent.
func (s *sketch) alike(t *sketch) int {
	if s.sum == t.sum {
		return 100
	}
	if s.size < minAlike || t.size < minAlike {
		return 0
	}
	same, filled := 0, 0
	for i, x := range s.least {
		y := t.least[i]
		if x != emptyBin || y != emptyBin {
			filled++
			if x == y {
				same++
			}
		}
	}
	return min(99, same*100/max(filled, 1)) // only equal ones are all the same
}
