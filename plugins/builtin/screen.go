package builtin

import (
	"context"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/wsrelay/relay/plugins/filter"
)

// What a configuration may say under action.
const (
	actReject   = "reject"   // refuse the message, and tell its sender why
	actDrop     = "drop"     // acknowledge it, and show it to nobody
	actShadow   = "shadow"   // show it to its sender alone
	actFlag     = "flag"     // let it pass, marked for people to look at
	actMask     = "mask"     // let it pass with what was found covered
	actLower    = "lower"    // let it pass in lower case
	actTruncate = "truncate" // let it pass, cut
)

// screen looks at texts one by one.
type screen struct {
	action, code, reason string

	// hit reports whether a text is not all right. It is what ordinary messages
	// cost.
	hit func(text string) bool

	// mend makes a text all right, where the action says that the message is to
	// pass changed. False: it cannot, and the message is refused.
	mend func(text string) (string, bool)
}

// judge is a filter.Judge.
func (s *screen) judge(_ context.Context, m *filter.Message) (filter.Verdict, error) {
	if m.Event == filter.Join {
		return s.join(&m.User), nil
	}
	for i := range m.Texts {
		if s.hit(m.Texts[i].Text) {
			return s.verdict(m), nil
		}
	}
	return filter.Allow(), nil
}

// verdict is on a message with a text that was hit.
func (s *screen) verdict(m *filter.Message) filter.Verdict {
	switch s.action {
	case actDrop:
		return filter.Drop(s.code)
	case actShadow:
		return filter.Shadow(s.code)
	case actFlag:
		return filter.Allow().Flag(s.code, 1)
	case actMask, actLower, actTruncate:
		mended := true
		content := m.MapText(func(text string) string {
			if !s.hit(text) {
				return text
			}
			out, ok := s.mend(text)
			mended = mended && ok
			return out
		})
		if mended {
			return filter.Modify(content)
		}
	}
	return filter.Reject(s.code, s.reason)
}

// join judges who wants to come in by what the others would see of them.
func (s *screen) join(u *filter.User) filter.Verdict {
	if !s.hit(u.Name) && (!u.Guest || !s.hit(strings.TrimPrefix(u.ID, "guest:"))) {
		return filter.Allow()
	}
	return s.refuse()
}

// refuse is the verdict on a name.
func (s *screen) refuse() filter.Verdict {
	if s.action == actFlag {
		return filter.Allow().Flag(s.code, 1)
	}
	return filter.Reject(s.code, s.reason)
}

// oneOf checks a word of a configuration.
func oneOf(pointer, value string, words ...string) error {
	for _, w := range words {
		if value == w {
			return nil
		}
	}
	return filter.At(pointer, fmt.Sprintf("%q is none of %s", value, strings.Join(words, ", ")))
}

// said checks what a verdict tells the sender. at is the pointer of the object
// that has the keys code and reason.
func said(at, code, reason string) []error {
	var errs []error
	if !isCode(code) {
		errs = append(errs, filter.At(at+"/code", fmt.Sprintf("%q is no code: 1 to 64 of a-z, 0-9, _, . and -", code)))
	}
	if len(reason) > 512 {
		errs = append(errs, filter.At(at+"/reason", fmt.Sprintf("%d bytes are too long, 512 go", len(reason))))
	}
	return errs
}

func isCode(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' && c != '.' && c != '-' {
			return false
		}
	}
	return len(s) >= 1 && len(s) <= 64
}

// masking reads a configuration's mask.
func masking(pointer, s string) (rune, error) {
	r, n := utf8.DecodeRuneInString(s)
	if n == 0 || n != len(s) || r == utf8.RuneError || glyphOf(r).kind != gap {
		return 0, filter.At(pointer, fmt.Sprintf("%q is not one character that is neither a letter nor a digit nor a space", s))
	}
	return r, nil
}

// cover puts mask in the place of every character of s but spaces, and appends
// that to out: as many characters as before.
func cover(out []byte, s string, mask rune) []byte {
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if glyphOf(r).kind == space {
			out = append(out, s[i:i+n]...)
		} else {
			out = utf8.AppendRune(out, mask)
		}
		i += n
	}
	return out
}
