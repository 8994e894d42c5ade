package builtin

import (
	"math/rand/v2"
	"strings"
	"testing"
)

// Texts of repeated random pieces, and words made of the same pieces, do not make
// a scan look at a character more often than it may.
func TestNoTextIsSlow(t *testing.T) {
	pieces := []string{
		"a", "b", "i", "l", "1", "!", "|", "$", "s", "@", "4", "5", "ß", "æ", " ", ".", "'", "\u0301", "\u200b", "傻", "😀", "ﬁ", "é", "а", "c", "o", "m",
		"://", "http:", "[.]", " dot ", "/", "xn--", "com", "\xff",
	}
	r := rand.New(rand.NewPCG(1, 2))
	rounds := 1500
	if racing {
		rounds = 100
	}
	for range rounds {
		var b strings.Builder
		for range 1 + r.IntN(6) {
			b.WriteString(strings.Repeat(pieces[r.IntN(len(pieces))], 1+r.IntN(3)))
		}
		unit := b.String()
		text := strings.Repeat(unit, 4096/len(unit))
		s := newScan(newLexicon(wordsOf(r, unit), evasions{true, true, true, true}), text)
		for ok := true; ok; {
			_, ok = s.next()
		}
		if per := s.steps / len(text); per > 2*4*reach {
			t.Errorf("words, %q again and again: %d steps a byte", unit, per)
		}
		l := linkScan{text: text, bare: true, disguised: true}
		for ok := true; ok; {
			_, ok = l.next()
		}
		if per := l.steps / len(text); per > 8 {
			t.Errorf("links, %q again and again: %d steps a byte", unit, per)
		}
	}
}

// wordsOf makes words that a text of the same pieces nearly has, or has.
func wordsOf(r *rand.Rand, unit string) (terms []term) {
	for range 4 {
		p, _ := parseTerm(strings.Repeat(unit, 1+r.IntN(20)))
		p.letters = p.letters[:min(len(p.letters), maxLetters-1)]
		if r.IntN(2) == 0 {
			p.letters = append(p.letters, 'z')
		}
		p.openHead, p.openTail, p.wideHead, p.wideTail, p.allowed = r.IntN(2) == 0, r.IntN(2) == 0, r.IntN(3) == 0, r.IntN(3) == 0, r.IntN(4) == 0
		terms = append(terms, p)
	}
	return terms
}
