package builtin

import (
	"sync"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// kind is what a character is to a reader who looks for words.
type kind uint8

const (
	gap     kind = iota // punctuation and all else that is no part of a word
	space               // white space
	hidden              // combining marks, zero-width characters: to be looked through
	letter              // of a script that puts spaces between words
	solid               // of a script that does not: every place is a word's boundary
	digit               // 0 to 9: some stand for letters
	sign                // punctuation that some write for a letter: $ @ ! | + €
	several             // one character that reads as several letters: ß, ﬁ
)

// glyph is what a character reads as.
type glyph struct {
	base   rune // without case, marks and font: what is left of Á, ａ, 𝕬 and ⓐ is a
	folded rune // and what it looks like: of the Cyrillic а, of 4 and of @ that is a, too
	kind   kind
	many   string // of several: the letters
}

// glyphOf tells what a character reads as.
func glyphOf(r rune) glyph {
	if r < utf8.RuneSelf {
		return ascii()[r]
	}
	if g, ok := folds()[r]; ok {
		return g
	}
	return plain(r)
}

// ascii and folds are made once and never changed.
var (
	ascii = sync.OnceValue(func() *[utf8.RuneSelf]glyph {
		var t [utf8.RuneSelf]glyph
		for r := range t {
			t[r] = fold(rune(r))
		}
		return &t
	})
	folds = sync.OnceValue(func() map[rune]glyph {
		t := map[rune]glyph{}
		for _, span := range foldSpans {
			for r := span[0]; r <= span[1]; r++ {
				if g := fold(r); g != plain(r) {
					t[r] = g
				}
			}
		}
		return t
	})
)

// warm makes the tables, so that no message has to wait for them.
func warm() {
	ascii()
	folds()
	topLevel()
	ambiguous()
}

// foldSpans are where characters are that read as something else than
// themselves. The many Han characters and Hangul syllables do not.
var foldSpans = [...][2]rune{
	{0x80, 0x33ff},
	{0xa000, 0xabff},
	{0xf900, 0xffff},
	{0x10000, 0x10fff},
	{0x1d400, 0x1d7ff},
	{0x1e900, 0x1e943},
	{0x1f100, 0x1f1ff},
	{0x2f800, 0x2fa1f},
	{0x1f3fb, 0x1f3ff},
	{0xe0000, 0xe01ef},
}

// plain is a character that reads as itself.
func plain(r rune) glyph {
	g := glyph{base: r, folded: r}
	switch {
	case r >= 0x20000 && r <= 0x323af: // rare Han, in thousands
		g.kind = solid
	case unicode.IsSpace(r):
		g.kind = space
	case r == utf8.RuneError:
		g.kind = gap
	case unicode.In(r, unspaced...):
		g.kind = solid
	case unicode.IsLetter(r), unicode.IsMark(r):
		g.kind = letter
	case unicode.Is(unicode.Cf, r):
		g.kind = hidden
	}
	return g
}

// unspaced are the scripts that write without spaces between words.
var unspaced = []*unicode.RangeTable{
	unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Bopomofo,
	unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar, unicode.Tibetan,
}

// looked through: marks that only decorate. Vowel signs of Indic scripts are
// marks too, but letters to who reads them.
var decoration = &unicode.RangeTable{
	R16: []unicode.Range16{
		{0x00ad, 0x00ad, 1},
		{0x0300, 0x036f, 1},
		{0x0483, 0x0489, 1},
		{0x0591, 0x05bd, 1},
		{0x05bf, 0x05c7, 1},
		{0x0610, 0x061a, 1},
		{0x0640, 0x0640, 1},
		{0x064b, 0x065f, 1},
		{0x0670, 0x0670, 1},
		{0x06d6, 0x06dc, 1},
		{0x115f, 0x1160, 1},
		{0x17b4, 0x17b5, 1},
		{0x180b, 0x180f, 1},
		{0x1ab0, 0x1aff, 1},
		{0x1dc0, 0x1dff, 1},
		{0x20d0, 0x20ff, 1},
		{0x3164, 0x3164, 1},
		{0xfe00, 0xfe0f, 1},
		{0xfe20, 0xfe2f, 1},
		{0xffa0, 0xffa0, 1},
	},
	R32: []unicode.Range32{{0x1f3fb, 0x1f3ff, 1}, {0xe0000, 0xe0fff, 1}},
}

// fold works out what a character reads as.
func fold(r rune) glyph {
	switch {
	case unicode.Is(decoration, r), r < utf8.RuneSelf && unicode.IsControl(r) && !unicode.IsSpace(r):
		return glyph{base: r, folded: r, kind: hidden}
	case r >= '0' && r <= '9':
		return glyph{base: r, folded: rune("oizeasgtbg"[r-'0']), kind: digit}
	}
	if l, ok := signs[r]; ok {
		return glyph{base: r, folded: l, kind: sign}
	}
	if many, ok := ligatures[unicode.ToLower(r)]; ok {
		return glyph{base: r, folded: r, kind: several, many: many}
	}
	if l, ok := enclosed(r); ok {
		return plain(l)
	}
	if l, ok := lookalikes[r]; ok {
		return glyph{base: bare(r), folded: l, kind: letter}
	}
	b := bare(r)
	if b < 0 {
		return spelledOut(r)
	}
	if b != r {
		g := fold(b)
		if g.kind == gap || g.kind == space {
			g.base, g.folded = r, r
		}
		return g
	}
	return plain(r)
}

// bare is the one character that is left of r without case, marks and font; -1
// where several are.
func bare(r rune) rune {
	b := rune(0)
	for _, c := range norm.NFKD.String(string(r)) {
		switch {
		case unicode.Is(decoration, c):
		case b != 0:
			return -1
		default:
			b = unicode.ToLower(unicode.ToUpper(c))
		}
	}
	if b == 0 {
		return r
	}
	return b
}

// spelledOut is a character that NFKD makes several of: the letters among them
// count, so of ⒜ that is a.
func spelledOut(r rune) glyph {
	var many []rune
	only := glyph{base: r, folded: r, kind: gap}
	for _, c := range norm.NFKD.String(string(r)) {
		if unicode.Is(decoration, c) {
			continue
		}
		if g := fold(unicode.ToLower(c)); g.kind == letter || g.kind == solid || g.kind == digit {
			many = append(many, g.base)
			only = g
		}
	}
	if len(many) <= 1 {
		return only
	}
	for _, c := range many {
		if !unicode.IsLetter(c) {
			return glyph{base: r, folded: r, kind: gap}
		}
	}
	return glyph{base: r, folded: r, kind: several, many: string(many)}
}

// enclosed are the letters in boxes and of flags, which NFKD leaves alone.
func enclosed(r rune) (rune, bool) {
	for _, first := range [...]rune{0x1f150, 0x1f170, 0x1f1e6} {
		if r >= first && r < first+26 {
			return 'a' + r - first, true
		}
	}
	return 0, false
}
