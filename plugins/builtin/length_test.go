package builtin

import (
	"context"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/wsrelay/relay/plugins/filter"
)

func TestLength(t *testing.T) {
	zalgo := "z" + strings.Repeat("\u0350", 6) + "a\u0301\u0302lgo"
	for _, c := range []struct{ name, config, text, want string }{
		{"long enough", `{"min":3}`, "abc", "ok"},
		{"too short", `{"min":3}`, " a\u200b b\u0301 ", "reject too_short"},
		{"too short cannot be cut", `{"min":3,"action":"truncate"}`, "ab", "reject too_short"},
		{"not too long, in bytes", `{"max":3}`, "äöü", "ok"},
		{"too long", `{"max":3}`, "äöüß", "reject too_long"},
		{"cut", `{"max":5,"action":"truncate"}`, "äöüßäöü", "äöüß…"},
		{"cut at a space", `{"max":5,"action":"truncate"}`, "abc def", "abc…"},
		{"cut to nothing", `{"max":1,"action":"truncate"}`, "abc", "…"},
		{"just long enough not to be cut", `{"max":5,"action":"truncate"}`, "abcde", "ok"},
		{"lines", `{"lines":2}`, "a\nb", "ok"},
		{"too many lines", `{"lines":2}`, "a\nb\n", "reject too_many_lines"},
		{"all ends of lines", `{"lines":4,"action":"truncate"}`, "a\r\nb\rc\u2028d\r\ne", "a\r\nb\rc\u2028d"},
		{"marks", `{"marks":2}`, "a\u0301\u0302b\u0301\u0302", "ok"},
		{"Vietnamese and Hebrew and Thai", `{"marks":3}`, "tiếng Việt, בְּרֵאשִׁ֖ית, ที่นี่", "ok"},
		{"zalgo", `{"marks":2}`, zalgo, "reject too_many_marks"},
		{"zalgo cut", `{"marks":2,"action":"truncate"}`, zalgo, "z\u0350\u0350a\u0301\u0302lgo"},
		{"repeats", `{"repeats":4}`, "loool !!!!", "ok"},
		{"too many repeats", `{"repeats":4}`, "looooool", "reject too_repeated"},
		{"repeats cut", `{"repeats":2,"action":"truncate"}`, "looooool!!!! e\u0301e\u0301e\u0301e\u0301", "lool!! e\u0301e\u0301"},
		{"several bounds", `{"repeats":2,"marks":1,"max":4,"lines":1,"action":"truncate"}`, "aaaab\u0301\u0301cccc\nd", "aab…"},
		{"drop", `{"max":3,"action":"drop"}`, "abcd", "drop too_long"},
		{"drop what is too short", `{"min":3,"action":"drop"}`, "a", "drop too_short"},
		{"shadow", `{"max":3,"action":"shadow"}`, "abcd", "shadow too_long"},
		{"flag", `{"max":3,"action":"flag"}`, "abcd", "ok +too_long"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := told(t, build(t, "length", c.config), chat(c.text)); got != c.want {
				t.Errorf("%q: %q, want %q", c.text, got, c.want)
			}
		})
	}
	judge := build(t, "length", `{"min":4,"max":5,"action":"truncate"}`)
	if got, want := told(t, judge, chat("ab", "cdefgh")), "ab|cdef…"; got != want {
		t.Errorf("of two texts: %q, want %q", got, want)
	}
	if v, _ := build(t, "length", `{"max":3}`)(context.Background(), chat("abcd")); v.Reason != "A message may have at most 3 characters." {
		t.Errorf("the reason is %q", v.Reason)
	}
}

// What was cut is within the bounds, and is the text without something.
func FuzzLength(f *testing.F) {
	for _, s := range []string{"aaaaaaaaaaaaaaaaaaaaaaaaa", "a\u0301\u0301\u0301a\u0301\u0301", "a\r\r\n\n\nb", "…………………", "\xff\xff\xff\xff", "a \u0301 b   \u0085\u2029", "e\u0301e\u0301e\u0301e\u0301"} {
		f.Add(s)
	}
	var judges []filter.Judge
	for _, config := range []string{`"max":7`, `"lines":2`, `"marks":1`, `"repeats":2`, `"max":9,"lines":3,"marks":2,"repeats":1`} {
		judges = append(judges, build(f, "length", `{"action":"truncate",`+config+`}`))
	}
	f.Fuzz(func(t *testing.T, text string) {
		for i, judge := range judges {
			m := &filter.Message{Event: filter.Chat, Texts: []filter.Text{{Text: text}}}
			v, err := judge(context.Background(), m)
			if err != nil || v.Action != filter.ActionModify {
				continue
			}
			out := v.Texts[0]
			if utf8.RuneCountInString(out) > utf8.RuneCountInString(text) || out == text {
				t.Fatalf("%d: %q was cut to %q", i, text, out)
			}
			m.Texts = []filter.Text{{Text: out}}
			if again, _ := judge(context.Background(), m); again.Action != filter.ActionAllow {
				t.Fatalf("%d: %q was cut to %q, which is beyond a bound still: %q", i, text, out, again.Texts)
			}
		}
	})
}
