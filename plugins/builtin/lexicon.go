package builtin

import (
	"cmp"
	"math/bits"
	"slices"
	"sync"
	"unicode"
	"unicode/utf8"
)

// evasions are the ways of hiding a word that a lexicon sees through.
type evasions struct {
	lookalikes bool // letters of other scripts
	leet       bool // digits and signs for letters
	spacing    bool // f.u.c.k and f u c k
	repeats    bool // fuuuck
}

// lexicon is a list of words in the form that scanning a text for them wants: a
// trie over folded letters. In the trie a letter that is repeated counts once:
// "ass" is under a, s. How often each stands is checked at the end of a word.
//
// It does not change once it is made, and is used by many goroutines.
type lexicon struct {
	evasions
	anyStart bool   // a word may begin inside another
	white    uint16 // class of the space inside of phrases
	el       uint16 // of the letter l

	ascii [utf8.RuneSelf]cell
	pages [pageCount]*[256]cell // by the character's upper bits; shared where no word has a letter of the page
	many  [][]cell              // what a character of kind several stands for

	nodes []node
	far   map[edge]int32 // children by classes that a node's bits have no room for
	words []word
}

// cell is what a character is to a lexicon.
type cell struct {
	base  rune   // see glyph; of several: the index in many
	class uint16 // of the letter that it reads as; 0: no word has it
	kind  kind
}

// near is how many classes a node has room for. Classes go by how many words
// have the letter, so the rest is rare.
const near = 64

// node is a place in the trie. The children by near classes stand side by side.
type node struct {
	bits  uint64 // near classes that have a child
	first int32  // the child of the lowest
	out   int32  // the first word that ends here; 0: none
	far   bool   // some children are in lexicon.far
}

type edge struct {
	from  int32
	class uint16
}

// word is one of the list, as it is compared when all its letters were found.
type word struct {
	runs     []uint8 // how often each letter stands
	exact    []rune  // the digit or sign that the list has for each letter, else 0; nil: none
	letters  int     // the sum of runs
	allowed  bool    // an exception rather than something to find
	openHead bool    // may begin, or end, inside a longer word
	openTail bool
	wideHead bool // what is found goes from the beginning, or to the end, of that word
	wideTail bool
	last     bool // of the words that end at this node
}

// mixed, in word.exact, says that a run has digits or signs among other
// characters that read the same.
const mixed = -1

// step walks from a node along a letter; 0 where no word goes on so.
func (l *lexicon) step(at int32, class uint16) int32 {
	n := &l.nodes[at]
	if class < near {
		if n.bits>>class&1 == 0 {
			return 0
		}
		return n.first + int32(bits.OnesCount64(n.bits&(1<<class-1)))
	}
	if !n.far {
		return 0
	}
	return l.far[edge{at, class}]
}

// cell of a character that is not ASCII.
func (l *lexicon) cell(r rune) cell {
	if p := l.pages[r>>8]; p != nil {
		return p[r&255]
	}
	return cell{base: r, kind: plain(r).kind}
}

// pageCount is how many pages of 256 characters Unicode has.
const pageCount = (unicode.MaxRune + 1) >> 8

// blank are the pages of characters that no word has. It is made once and never
// changed.
var blank = sync.OnceValue(func() *[pageCount]*[256]cell {
	var pages [pageCount]*[256]cell
	fill := func(from, to rune) {
		for r := from; r <= to; r++ {
			if pages[r>>8] == nil {
				pages[r>>8] = new([256]cell)
			}
			g, ok := folds()[r]
			if !ok {
				g = plain(r)
			}
			pages[r>>8][r&255] = cell{base: g.base, kind: g.kind}
		}
	}
	fill(0, 0xffff)
	for _, span := range foldSpans {
		fill(span[0]&^255, span[1]|255)
	}
	fill(0x1f000, 0x1ffff) // emoji
	return &pages
})

// term is one of the words to make a lexicon of.
type term struct {
	letters  []rune // as the list has them, without * at the ends
	allowed  bool
	openHead bool
	openTail bool
	wideHead bool
	wideTail bool
}

// spelling is a term on its way into the trie.
type spelling struct {
	path []uint16
	word word
}

// newLexicon makes a lexicon. Terms have a letter, digit or symbol each, and at
// most maxLetters of them.
func newLexicon(terms []term, e evasions) *lexicon {
	l := &lexicon{evasions: e, pages: *blank(), far: map[edge]int32{}}
	classes := l.classes(terms)
	l.table(classes)
	l.white, l.el = classes[' '], classes['l']
	var list []spelling
	for _, t := range terms {
		list = append(list, l.spell(&t, true, classes))
		if slices.Contains(t.letters, ' ') {
			list = append(list, l.spell(&t, false, classes))
		}
		l.anyStart = l.anyStart || t.openHead
	}
	slices.SortStableFunc(list, func(a, b spelling) int { return slices.Compare(a.path, b.path) })
	l.plant(list)
	return l
}

// reading is the letter that a lexicon with these evasions takes g for.
func (e *evasions) reading(g glyph) rune {
	switch g.kind {
	case digit, sign:
		if e.leet {
			return g.folded
		}
	case letter:
		if e.lookalikes {
			return g.folded
		}
	}
	return g.base
}

// classes numbers the letters of all terms, the most frequent first, from 1. The
// space inside of phrases is one of them.
func (l *lexicon) classes(terms []term) map[rune]uint16 {
	count := map[rune]int{}
	for _, t := range terms {
		for _, r := range t.letters {
			count[l.reading(listed(r))]++
		}
	}
	letters := make([]rune, 0, len(count))
	for r := range count {
		letters = append(letters, r)
	}
	slices.SortFunc(letters, func(a, b rune) int { return cmp.Or(count[b]-count[a], int(a-b)) })
	classes := make(map[rune]uint16, len(letters))
	for i, r := range letters {
		classes[r] = uint16(i + 1)
	}
	return classes
}

// listed is what a character of a word is, where that is more than it would be
// in a text: a symbol that the list asks for is a letter.
func listed(r rune) glyph {
	g := glyphOf(r)
	if g.kind == gap && !unicode.IsPunct(r) {
		g.kind = solid
	}
	return g
}

// table fills in what each character is.
func (l *lexicon) table(classes map[rune]uint16) {
	fill := func(r rune, g glyph) cell {
		c := cell{base: g.base, kind: g.kind}
		switch g.kind {
		case letter, solid, digit, sign:
			c.class = classes[l.reading(g)]
		case several:
			c.base = rune(len(l.many))
			l.many = append(l.many, l.spelledOut(g.many, classes))
		}
		if g.kind == sign && !l.leet {
			c.kind = gap
		}
		return c
	}
	for r := range l.ascii {
		l.ascii[r] = fill(rune(r), glyphOf(rune(r)))
	}
	own := map[*[256]cell]bool{}
	set := func(r rune, g glyph) {
		c, p := fill(r, g), l.pages[r>>8]
		if p != nil && p[r&255] == c {
			return
		}
		if !own[p] {
			fresh := new([256]cell)
			for i := range fresh {
				if p != nil {
					fresh[i] = p[i]
				} else {
					fresh[i] = cell{base: r&^255 | rune(i), kind: plain(r&^255 | rune(i)).kind}
				}
			}
			p, own[fresh], l.pages[r>>8] = fresh, true, fresh
		}
		p[r&255] = c
	}
	for r, g := range folds() {
		set(r, g)
	}
	for r := range classes {
		switch g := listed(r); {
		case r >= utf8.RuneSelf:
			set(r, g)
		case g.kind == solid || g.kind == sign:
			l.ascii[r] = fill(r, g)
			l.ascii[r].kind = g.kind
		}
	}
}

func (l *lexicon) spelledOut(s string, classes map[rune]uint16) (cells []cell) {
	for _, r := range s {
		g := glyphOf(r)
		cells = append(cells, cell{base: g.base, class: classes[l.reading(g)], kind: letter})
	}
	return cells
}

// spell turns a term into its path through the trie, with its spaces or without.
func (l *lexicon) spell(t *term, spaces bool, classes map[rune]uint16) spelling {
	s := spelling{word: word{
		allowed:  t.allowed,
		openHead: t.openHead, openTail: t.openTail, wideHead: t.wideHead, wideTail: t.wideTail,
	}}
	w := &s.word
	previous := rune(-1)
	literal := false
	for _, r := range t.letters {
		if r == ' ' && !spaces {
			continue
		}
		g := listed(r)
		read, exact := l.reading(g), rune(0)
		if g.kind == digit || g.kind == sign {
			exact, literal = g.base, true
		}
		last := len(w.runs) - 1
		if last >= 0 && read == previous && r != ' ' {
			w.runs[last]++
			if w.exact[last] != exact {
				w.exact[last] = mixed
			}
		} else {
			s.path = append(s.path, classes[read])
			w.runs, w.exact = append(w.runs, 1), append(w.exact, exact)
		}
		w.letters++
		previous = read
	}
	if !literal {
		w.exact = nil
	}
	return s
}

// plant makes the trie of a sorted list: breadth first, so that the children of
// a node stand side by side.
func (l *lexicon) plant(list []spelling) {
	type job struct {
		at    int32
		depth int
		list  []spelling
	}
	l.nodes = []node{{}}
	l.words = []word{{}} // so that 0 means none
	for queue := []job{{0, 0, list}}; len(queue) > 0; queue = queue[1:] {
		j := queue[0]
		ends := 0
		for ends < len(j.list) && len(j.list[ends].path) == j.depth {
			ends++
		}
		if ends > 0 {
			l.nodes[j.at].out = int32(len(l.words))
			for _, s := range j.list[:ends] {
				l.words = append(l.words, s.word)
			}
			l.words[len(l.words)-1].last = true
		}
		rest := j.list[ends:]
		l.nodes[j.at].first = int32(len(l.nodes))
		for len(rest) > 0 {
			class, n := rest[0].path[j.depth], 1
			for n < len(rest) && rest[n].path[j.depth] == class {
				n++
			}
			child := int32(len(l.nodes))
			l.nodes = append(l.nodes, node{})
			if class < near {
				l.nodes[j.at].bits |= 1 << class
			} else {
				l.nodes[j.at].far = true
				l.far[edge{j.at, class}] = child
			}
			queue = append(queue, job{child, j.depth + 1, rest[:n]})
			rest = rest[n:]
		}
	}
}
