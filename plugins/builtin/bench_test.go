package builtin

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/wsrelay/relay/plugins/filter"
)

// The table of costs in docs/filters.md: what a message costs that passes.
func BenchmarkPass(b *testing.B) {
	const (
		plain = "Could you send me the report by Friday? I need it for work.  "
		signs = "Hi @bob! That is $15 for 2 tickets, right? See you at 11, ok?"
		link  = "See https://github.com/wsrelay/relay for the rest of it, Bob."
		other = "Привет! Пришли мне отчёт к пятнице, пожалуйста."
	)
	list := func(n int, more string) string {
		raw, _ := json.Marshal(manyWords(n))
		return `{"words":` + string(raw) + more + `}`
	}
	for _, c := range []struct{ title, name, config, text string }{
		{"words/10", "words", list(10, ""), plain},
		{"words/10000", "words", list(10_000, ""), plain},
		{"words/10000,signs", "words", list(10_000, ""), signs},
		{"words/10000,Cyrillic", "words", list(10_000, ""), other},
		{"words/10000,anywhere", "words", list(10_000, `,"match":"anywhere"`), plain},
		{"regex/literal", "regex", `{"rules":[{"pattern":"buy now"}]}`, plain},
		{"regex/case,space", "regex", `{"rules":[{"pattern":"(?i)buy\\s+now"}]}`, plain},
		{"links/none", "links", `{"allow":["github.com"]}`, plain},
		{"links/allowed", "links", `{"allow":["github.com"]}`, link},
		{"caps", "caps", `{}`, plain},
		{"length", "length", `{"min":1,"max":500,"lines":10,"marks":3,"repeats":20}`, plain},
	} {
		b.Run(c.title, func(b *testing.B) {
			judge, m := build(b, c.name, c.config), chat(c.text)
			b.ReportAllocs()
			for b.Loop() {
				if v, _ := judge(context.Background(), m); v.Action != filter.ActionAllow {
					b.Fatal(v)
				}
			}
		})
	}
	b.Run("repeats", func(b *testing.B) {
		judge := build(b, "repeats", `{}`)
		list := make([]*filter.Message, 4096)
		for i := range list {
			list[i] = by(fmt.Sprintf("user %d", i%100), "lobby", fmt.Sprintf("Could you send me report %06d? I need it for work today, Bob.", i*7919%1_000_000))
		}
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			_, _ = judge(context.Background(), list[i%len(list)])
			i++
		}
	})
}

// manyWords makes up words that share beginnings with ordinary ones.
func manyWords(n int) []string {
	r := rand.New(rand.NewPCG(1, 2))
	list := make([]string, n)
	for i := range list {
		var w []byte
		for range 2 + r.IntN(3) {
			w = append(w, "bcdfghklmnprstvwz"[r.IntN(17)], "aeiou"[r.IntN(5)])
		}
		list[i] = string(w) + "x"
	}
	return list
}
