package builtin

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/wsrelay/relay/plugins/filter"
)

// LengthConfig is the configuration of the filter length.
type LengthConfig struct {
	Min     int    `json:"min" jsonschema:"minimum=0" jsonschema_description:"Characters that a message must have, spaces and invisible ones not counted, all its texts together. A message without any text passes."`
	Max     int    `json:"max" jsonschema:"minimum=0" jsonschema_description:"Characters (Unicode code points) that a text may have. 0: no bound."`
	Lines   int    `json:"lines" jsonschema:"minimum=0" jsonschema_description:"Lines that a text may have. 0: no bound."`
	Marks   int    `json:"marks" jsonschema:"minimum=0" jsonschema_description:"Combining marks that one character may carry: more is text that spills over the lines around it (zalgo). Languages need up to 3. 0: no bound."`
	Repeats int    `json:"repeats" jsonschema:"minimum=0" jsonschema_description:"Times that one character may stand in a row. 0: no bound."`
	Action  string `json:"action" jsonschema:"enum=reject,enum=truncate,enum=drop,enum=shadow,enum=flag" jsonschema_description:"What happens to a message beyond a bound. truncate cuts what is too much; a message that is too short is rejected all the same."`
}

func defaultLength() LengthConfig { return LengthConfig{Action: actReject} }

// The codes of the filter length, which are also the labels of its flags.
const (
	tooShort    = "too_short"
	tooLong     = "too_long"
	tooManyRows = "too_many_lines"
	tooMarked   = "too_many_marks"
	tooRepeated = "too_repeated"
)

func newLength(c LengthConfig) (filter.Judge, error) {
	warm()
	errs := []error{oneOf("/action", c.Action, actReject, actTruncate, actDrop, actShadow, actFlag)}
	for _, k := range []struct {
		key   string
		value int
	}{{"min", c.Min}, {"max", c.Max}, {"lines", c.Lines}, {"marks", c.Marks}, {"repeats", c.Repeats}} {
		if k.value < 0 {
			errs = append(errs, filter.At("/"+k.key, fmt.Sprintf("%d is less than 0", k.value)))
		}
	}
	switch {
	case c.Max > 0 && c.Min > c.Max:
		errs = append(errs, filter.At("/min", fmt.Sprintf("%d is more than max, %d", c.Min, c.Max)))
	case c == LengthConfig{Action: c.Action}:
		errs = append(errs, filter.At("", "it bounds nothing: set one of min, max, lines, marks and repeats"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	f := &length{LengthConfig: c, screens: map[string]*screen{}}
	for _, code := range []string{tooShort, tooLong, tooManyRows, tooMarked, tooRepeated} {
		f.screens[code] = &screen{
			action: c.Action, code: code, reason: c.why(code),
			hit:  func(text string) bool { return c.beyond(text) != "" },
			mend: func(text string) (string, bool) { return c.cut(text), true },
		}
	}
	if c.Action == actTruncate {
		f.screens[tooShort].action = actReject
	}
	return f.judge, nil
}

// length is the filter at work.
type length struct {
	LengthConfig
	screens map[string]*screen // by code
}

// judge is a filter.Judge.
func (f *length) judge(_ context.Context, m *filter.Message) (filter.Verdict, error) {
	if m.Event == filter.Join {
		return f.join(&m.User), nil
	}
	if f.Min > 0 && f.short(m) {
		return f.screens[tooShort].verdict(m), nil
	}
	for i := range m.Texts {
		if code := f.beyond(m.Texts[i].Text); code != "" {
			return f.screens[code].verdict(m), nil
		}
	}
	return filter.Allow(), nil
}

// join bounds the names of those who want to come in. A user without a name has
// none that is too short.
func (f *length) join(u *filter.User) filter.Verdict {
	names := []string{u.Name}
	if u.Guest {
		names = append(names, strings.TrimPrefix(u.ID, "guest:"))
	}
	for _, name := range names {
		code := f.beyond(name)
		if name != "" && visible(name, f.Min) < f.Min {
			code = tooShort
		}
		if code != "" {
			return f.screens[code].refuse()
		}
	}
	return filter.Allow()
}

// short counts what people see of all texts together.
func (c *LengthConfig) short(m *filter.Message) bool {
	n := 0
	for i := range m.Texts {
		n += visible(m.Texts[i].Text, c.Min-n)
		if n >= c.Min {
			return false
		}
	}
	return len(m.Texts) > 0
}

// visible counts characters that are to be seen, up to enough.
func visible(s string, enough int) (n int) {
	for _, r := range s {
		if n >= enough {
			break
		}
		if k := glyphOf(r).kind; k != space && k != hidden {
			n++
		}
	}
	return n
}

// beyond tells which bound a text breaks, "" for none.
func (c *LengthConfig) beyond(text string) string {
	if c.Max > 0 && len(text) > c.Max && utf8.RuneCountInString(text) > c.Max {
		return tooLong
	}
	if c.Lines == 0 && c.Marks == 0 && c.Repeats == 0 {
		return ""
	}
	var w walker
	for i, r := range text {
		w.step(r, text[i:])
		switch {
		case c.Lines > 0 && w.lines >= c.Lines:
			return tooManyRows
		case c.Marks > 0 && w.marks > c.Marks:
			return tooMarked
		case c.Repeats > 0 && w.run > c.Repeats:
			return tooRepeated
		}
	}
	return ""
}

// walker counts along a text.
type walker struct {
	lines int  // that ended
	marks int  // on the character so far
	run   int  // of the same character, marks aside
	last  rune // which it is
}

// step goes over the character r, at which rest begins.
func (w *walker) step(r rune, rest string) {
	switch {
	case r < utf8.RuneSelf: // the ordinary case first
	case unicode.In(r, unicode.Mn, unicode.Me):
		w.marks++
		return
	}
	w.marks = 0
	if r == '\n' || r == '\u0085' || r == '\u2028' || r == '\u2029' || r == '\r' && !strings.HasPrefix(rest, "\r\n") {
		w.lines++
	}
	if r != w.last {
		w.last, w.run = r, 0
	}
	w.run++
}

// why is the sentence for people.
func (c *LengthConfig) why(code string) string {
	switch code {
	case tooShort:
		return fmt.Sprintf("A message must have at least %d characters.", c.Min)
	case tooLong:
		return fmt.Sprintf("A message may have at most %d characters.", c.Max)
	case tooManyRows:
		return fmt.Sprintf("A message may have at most %d lines.", c.Lines)
	case tooMarked:
		return fmt.Sprintf("A character may carry at most %d marks.", c.Marks)
	}
	return fmt.Sprintf("A character may be repeated at most %d times.", c.Repeats)
}

// cut leaves of a text what the bounds allow. Where max ends it, it ends with an
// ellipsis, which counts.
func (c *LengthConfig) cut(text string) string {
	var w walker
	out := make([]byte, 0, len(text))
	n, room := 0, 0   // characters in out; how long out was when one more of max was left
	skipping := false // a character was too much, so its marks are
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		w.step(r, text[i:])
		from := i
		i += size
		if c.Lines > 0 && w.lines >= c.Lines {
			return strings.TrimRight(string(out), "\r")
		}
		if w.marks == 0 {
			skipping = c.Repeats > 0 && w.run > c.Repeats
		}
		if skipping || c.Marks > 0 && w.marks > c.Marks {
			continue
		}
		if n == c.Max-1 {
			room = len(out)
		}
		if c.Max > 0 && n == c.Max {
			return strings.TrimRight(string(out[:room]), "… \t\r\n") + "…"
		}
		out = append(out, text[from:i]...)
		n++
	}
	return string(out)
}
