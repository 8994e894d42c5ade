package builtin

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"unicode"

	"github.com/wsrelay/relay/plugins/filter"
)

// WordsConfig is the configuration of the filter words.
type WordsConfig struct {
	Words    []string `json:"words,omitempty" jsonschema_description:"Words and phrases to find. A * at an end stands for the rest of a longer word: fuck* finds fucking, too. Case, accents and punctuation do not matter."`
	File     string   `json:"file,omitempty" jsonschema_description:"File with more of them, one a line. Empty lines and lines that begin with # do not count. Read when the configuration is loaded."`
	Allow    []string `json:"allow,omitempty" jsonschema_description:"Words and phrases to leave alone, with what is found inside of them."`
	Match    string   `json:"match" jsonschema:"enum=word,enum=anywhere" jsonschema_description:"word finds whole words alone, so that ass is not found in class. anywhere finds them inside of others, too."`
	Evasions []string `json:"evasions" jsonschema_description:"Ways of hiding a word to see through: lookalikes (letters of other scripts, as the Cyrillic а), leet (sh1t, @$$), spacing (f.u.c.k and f u c k) and repeats (fuuuck). Invisible characters, accents and fonts are always seen through."`
	Action   string   `json:"action" jsonschema:"enum=mask,enum=reject,enum=drop,enum=shadow,enum=flag" jsonschema_description:"What happens to a message with such a word: mask (it passes with the word covered), reject, drop, shadow or flag."`
	Mask     string   `json:"mask" jsonschema_description:"The character that covers, as often as the word has characters."`
	Code     string   `json:"code" jsonschema_description:"A word for programs: told to the sender of a refused message, and the label of a flag."`
	Reason   string   `json:"reason" jsonschema_description:"A sentence for people, told to the sender of a refused message."`
}

func defaultWords() WordsConfig {
	return WordsConfig{
		Match: "word", Evasions: []string{"lookalikes", "leet", "spacing", "repeats"},
		Action: actMask, Mask: "*", Code: "words", Reason: "Please mind your language.",
	}
}

// The bounds of a list.
const (
	maxWords    = 100_000
	maxLetters  = 64
	maxAlphabet = 1<<16 - 2
	maxListFile = 8 << 20 // bytes
)

// words is the filter at work.
type words struct {
	lexicon *lexicon
	mask    rune
}

func newWords(c WordsConfig) (filter.Judge, error) {
	warm()
	errs := said("", c.Code, c.Reason)
	errs = append(errs,
		oneOf("/action", c.Action, actMask, actReject, actDrop, actShadow, actFlag),
		oneOf("/match", c.Match, "word", "anywhere"))
	w := &words{}
	var err error
	if w.mask, err = masking("/mask", c.Mask); err != nil {
		errs = append(errs, err)
	}
	var e evasions
	for i, name := range c.Evasions {
		known := map[string]*bool{"lookalikes": &e.lookalikes, "leet": &e.leet, "spacing": &e.spacing, "repeats": &e.repeats}
		if on := known[name]; on != nil {
			*on = true
			continue
		}
		errs = append(errs, oneOf(fmt.Sprintf("/evasions/%d", i), name, "lookalikes", "leet", "spacing", "repeats"))
	}
	terms, bad := c.terms()
	errs = append(errs, bad...)
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	w.lexicon = newLexicon(terms, e)
	s := &screen{action: c.Action, code: c.Code, reason: c.Reason, hit: w.hit, mend: w.cover}
	return s.judge, nil
}

// terms reads all lists.
func (c *WordsConfig) terms() (terms []term, errs []error) {
	anywhere := c.Match == "anywhere"
	alphabet := map[rune]bool{}
	add := func(at, text string, allowed bool) {
		t, problem := parseTerm(text)
		if problem != "" {
			errs = append(errs, filter.At(at, problem))
			return
		}
		t.allowed = allowed
		t.openHead, t.openTail = t.openHead || anywhere, t.openTail || anywhere
		terms = append(terms, t)
		for _, r := range t.letters {
			alphabet[r] = true
		}
	}
	for i, text := range c.Words {
		add(fmt.Sprintf("/words/%d", i), text, false)
	}
	lines, err := readList(c.File)
	if err != nil {
		errs = append(errs, filter.At("/file", err.Error()))
	}
	for _, l := range lines {
		if errsBefore := len(errs); errsBefore < 20 {
			add("/file", l.text, false)
			if len(errs) > errsBefore {
				errs[errsBefore] = filter.At("/file", fmt.Sprintf("%s:%d: %s", c.File, l.number, errs[errsBefore].(filter.Problem).Message))
			}
		}
	}
	if len(terms) == 0 && len(errs) == 0 {
		errs = append(errs, filter.At("", "it finds nothing: give it words or a file"))
	}
	for i, text := range c.Allow {
		add(fmt.Sprintf("/allow/%d", i), text, true)
	}
	switch {
	case len(terms) > maxWords:
		errs = append(errs, filter.At("", fmt.Sprintf("%d words are too many, %d go", len(terms), maxWords)))
	case len(alphabet) > maxAlphabet:
		errs = append(errs, filter.At("", fmt.Sprintf("%d different characters in the words are too many, %d go", len(alphabet), maxAlphabet)))
	}
	return terms, errs
}

// line is one of a file.
type line struct {
	number int
	text   string
}

// readList reads a file of words; none for an empty name.
func readList(name string) ([]line, error) {
	if name == "" {
		return nil, nil
	}
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxListFile {
		return nil, fmt.Errorf("%s is no file of at most %d bytes", name, maxListFile)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var list []line
	for i, text := range strings.Split(strings.TrimPrefix(string(data), "\ufeff"), "\n") {
		text = strings.TrimSpace(text)
		if text != "" && text[0] != '#' {
			list = append(list, line{i + 1, text})
		}
	}
	return list, nil
}

// parseTerm reads one word or phrase as the list has it.
func parseTerm(text string) (t term, problem string) {
	text = strings.TrimSpace(text)
	if rest, ok := strings.CutPrefix(text, "*"); ok {
		text, t.openHead, t.wideHead = rest, true, true
	}
	if rest, ok := strings.CutSuffix(text, "*"); ok {
		text, t.openTail, t.wideTail = rest, true, true
	}
	readable := false
	for _, r := range text {
		switch g := listed(r); g.kind {
		case letter, solid, digit, sign:
			t.letters = append(t.letters, g.base)
			readable = readable || g.kind != sign
		case several:
			t.letters = append(t.letters, []rune(g.many)...)
			readable = true
		case space:
			if n := len(t.letters); n > 0 && t.letters[n-1] != ' ' {
				t.letters = append(t.letters, ' ')
			}
		}
	}
	if n := len(t.letters); n > 0 && t.letters[n-1] == ' ' {
		t.letters = t.letters[:n-1]
	}
	switch {
	case !readable:
		return t, fmt.Sprintf("%q has neither a letter nor a digit nor a symbol", text)
	case len(t.letters) > maxLetters:
		return t, fmt.Sprintf("%q has %d letters, %d go", text, len(t.letters), maxLetters)
	case slices.Contains(t.letters, unicode.ReplacementChar):
		return t, fmt.Sprintf("%q is not UTF-8", text)
	}
	return t, ""
}

// hit reports whether a text has one of the words.
func (w *words) hit(text string) bool {
	s := newScan(w.lexicon, text)
	_, ok := s.next()
	return ok
}

// rounds is how often a text is masked over again, because what is left could be
// read as a word across the mask. One is enough for all but the contrived.
const rounds = 4

// cover masks the words of a text. False: there would always be more.
func (w *words) cover(text string) (string, bool) {
	for range rounds {
		text = w.coverOnce(text)
		if !w.hit(text) {
			return text, true
		}
	}
	return text, false
}

// coverOnce masks what one scan finds.
func (w *words) coverOnce(text string) string {
	s := newScan(w.lexicon, text)
	var out []byte
	done := 0
	for {
		f, ok := s.next()
		if !ok {
			break
		}
		out = append(out, text[done:f.from]...)
		out = cover(out, text[f.from:f.to], w.mask)
		done = f.to
	}
	return string(append(out, text[done:]...))
}
