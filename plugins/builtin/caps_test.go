package builtin

import (
	"context"
	"testing"
	"unicode/utf8"

	"github.com/wsrelay/relay/plugins/filter"
)

func TestCaps(t *testing.T) {
	for _, c := range []struct{ name, config, text, want string }{
		{"shouting", `{}`, "WHY DOES NOBODY ANSWER", "why does nobody answer"},
		{"not shouting", `{}`, "Why does NOBODY answer", "ok"},
		{"a short text", `{}`, "OK LOL", "ok"},
		{"just enough letters", `{"min_letters":5}`, "HE LLO", "he llo"},
		{"just too few", `{"min_letters":6}`, "HE LLO", "ok"},
		{"at the bound", `{"max":50,"min_letters":4}`, "ABcd", "ok"},
		{"beyond it", `{"max":49,"min_letters":4}`, "ABcd", "abcd"},
		{"other scripts", `{}`, "ПОЧЕМУ НИКТО НЕ ОТВЕЧАЕТ ΓΙΑΤΊ", "почему никто не отвечает γιατί"},
		{"scripts without capitals", `{}`, "为什么没有人回答我的问题呢", "ok"},
		{"addresses and mentions stay", `{}`, "LOOK AT HTTPS://YOUTU.BE/AbC AND www.X.COM/Y @BOB AT ONCE", "look at HTTPS://YOUTU.BE/AbC and www.X.COM/Y @BOB at once"},
		{"addresses do not count", `{}`, "look at https://x.y/ABCDEFGHIJKLMNOPQRSTUVWXYZ", "ok"},
		{"invalid bytes stay", `{}`, "WHY DOES \xff NOBODY", "why does \ufffd nobody"}, // relay mends what filters return
		{"spaces stay", `{}`, "WHY  DOES\nNOBODY\tANSWER ", "why  does\nnobody\tanswer "},
		{"reject", `{"action":"reject"}`, "WHY DOES NOBODY ANSWER", "reject caps"},
		{"drop", `{"action":"drop"}`, "WHY DOES NOBODY ANSWER", "drop caps"},
		{"shadow", `{"action":"shadow"}`, "WHY DOES NOBODY ANSWER", "shadow caps"},
		{"flag", `{"action":"flag","code":"loud"}`, "WHY DOES NOBODY ANSWER", "ok +loud"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := told(t, build(t, "caps", c.config), chat(c.text)); got != c.want {
				t.Errorf("%q: %q, want %q", c.text, got, c.want)
			}
		})
	}
	if got, want := told(t, build(t, "caps", `{}`), chat("Fine as it is.", "WHY DOES NOBODY ANSWER")), "Fine as it is.|why does nobody answer"; got != want {
		t.Errorf("of two texts: %q, want %q", got, want)
	}
}

// Lower case has as many characters, and is no shouting.
func FuzzCaps(f *testing.F) {
	f.Add("WHY DOES NOBODY ANSWER")
	f.Add("İSTANBUL ǅ ẞ \xff HTTP://A.B")
	judge := build(f, "caps", `{"max":20,"min_letters":1}`)
	f.Fuzz(func(t *testing.T, text string) {
		m := &filter.Message{Event: filter.Chat, Texts: []filter.Text{{Text: text}}}
		v, err := judge(context.Background(), m)
		if err != nil || v.Action != filter.ActionModify {
			return
		}
		out := v.Texts[0]
		if have, want := utf8.RuneCountInString(out), utf8.RuneCountInString(text); have != want {
			t.Fatalf("%q has %d characters, %q has %d", out, have, text, want)
		}
		m.Texts = []filter.Text{{Text: out}}
		if again, _ := judge(context.Background(), m); again.Action != filter.ActionAllow {
			t.Fatalf("%q became %q, which shouts still", text, out)
		}
	})
}
