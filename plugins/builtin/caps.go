package builtin

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/wsrelay/relay/plugins/filter"
)

// CapsConfig is the configuration of the filter caps.
type CapsConfig struct {
	Max        int    `json:"max" jsonschema:"minimum=0,maximum=99" jsonschema_description:"Percentage of a text's letters that may be capitals. Letters of scripts without capitals do not count, nor do addresses (://) and @mentions."`
	MinLetters int    `json:"min_letters" jsonschema:"minimum=1" jsonschema_description:"Texts with fewer letters that could be capitals pass."`
	Action     string `json:"action" jsonschema:"enum=lower,enum=reject,enum=drop,enum=shadow,enum=flag" jsonschema_description:"What happens to a message with too many: lower (it passes in lower case, addresses and mentions left alone), reject, drop, shadow or flag."`
	Code       string `json:"code" jsonschema_description:"A word for programs, told to the sender of a refused message."`
	Reason     string `json:"reason" jsonschema_description:"A sentence for people, likewise."`
}

func defaultCaps() CapsConfig {
	return CapsConfig{Max: 70, MinLetters: 10, Action: actLower, Code: "caps", Reason: "Please do not write in capitals."}
}

func newCaps(c CapsConfig) (filter.Judge, error) {
	errs := said("", c.Code, c.Reason)
	errs = append(errs, oneOf("/action", c.Action, actLower, actReject, actDrop, actShadow, actFlag))
	if c.Max < 0 || c.Max > 99 {
		errs = append(errs, filter.At("/max", fmt.Sprintf("%d is not from 0 to 99", c.Max)))
	}
	if c.MinLetters < 1 {
		errs = append(errs, filter.At("/min_letters", fmt.Sprintf("%d is less than 1", c.MinLetters)))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	s := &screen{action: c.Action, code: c.Code, reason: c.Reason, hit: c.shouts, mend: func(text string) (string, bool) { return lower(text), true }}
	return s.judge, nil
}

// shouts reports whether a text has too many capitals.
func (c *CapsConfig) shouts(text string) bool {
	capitals, letters := 0, 0
	for len(text) > 0 {
		n, verbatim := token(text)
		if !verbatim {
			u, l := count(text[:n])
			capitals, letters = capitals+u, letters+u+l
		}
		text = text[n:]
	}
	return letters >= c.MinLetters && capitals*100 > c.Max*letters
}

// token measures what stands before the next space, that included, and tells
// whether its capitals mean something.
func token(text string) (n int, verbatim bool) {
	n = strings.IndexAny(text, " \t\r\n") + 1
	if n == 0 {
		n = len(text)
	}
	t := text[:n]
	return n, t[0] == '@' || strings.Contains(t, "://") || len(t) > 4 && strings.EqualFold(t[:4], "www.")
}

// count counts the letters that have two cases.
func count(s string) (upper, lower int) {
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z':
			lower++
		case c >= 'A' && c <= 'Z':
			upper++
		case c >= utf8.RuneSelf:
			r, n := utf8.DecodeRuneInString(s[i:])
			i += n - 1
			if unicode.ToLower(r) != r {
				upper++
			} else if unicode.ToUpper(r) != r {
				lower++
			}
		}
	}
	return upper, lower
}

// lower is the text in lower case but for what must stay as it is. It has as
// many characters as before, and invalid bytes stay.
func lower(text string) string {
	out := make([]byte, 0, len(text))
	for len(text) > 0 {
		n, verbatim := token(text)
		if verbatim {
			out = append(out, text[:n]...)
		} else {
			out = appendLower(out, text[:n])
		}
		text = text[n:]
	}
	return string(out)
}

func appendLower(out []byte, s string) []byte {
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if l := unicode.ToLower(r); l != r {
			out = utf8.AppendRune(out, l)
		} else {
			out = append(out, s[i:i+n]...)
		}
		i += n
	}
	return out
}
