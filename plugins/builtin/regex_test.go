package builtin

import (
	"context"
	"testing"
)

func TestRegex(t *testing.T) {
	for _, c := range []struct{ name, rules, text, want string }{
		{"found", `{"pattern":"(?i)buy\\s+now"}`, "BUY  now!", "reject pattern"},
		{"not found", `{"pattern":"buy now"}`, "buy  now", "ok"},
		{"anchored", `{"pattern":"^!\\w+"}`, "say !help", "ok"},
		{"mask", `{"pattern":"\\d{4} ?\\d{4}","action":"mask"}`, "call 1234 5678 or 12345678", "call **** **** or ********"},
		{"another mask", `{"pattern":"[äöü]+","action":"mask","mask":"#"}`, "hä üüb", "h# ##b"},
		{"drop", `{"pattern":"a","action":"drop","code":"x"}`, "a", "drop x"},
		{"shadow", `{"pattern":"a","action":"shadow"}`, "a", "shadow pattern"},
		{"flag", `{"pattern":"a","action":"flag","code":"has-a"}`, "a", "ok +has-a"},
		{"flags add up", `{"pattern":"a","action":"flag","code":"has-a"},{"pattern":"b","action":"flag","code":"has-b"}`, "ab", "ok +has-a +has-b"},
		{"and go with a mask", `{"pattern":"a","action":"flag","code":"has-a"},{"pattern":"b","action":"mask"}`, "ab", "a* +has-a"},
		{"and with a refusal", `{"pattern":"a","action":"flag","code":"has-a"},{"pattern":"b"}`, "ab", "reject pattern +has-a"},
		{"what is masked is not found after", `{"pattern":"ab","action":"mask"},{"pattern":"a"}`, "ab", "**"},
		{"masks add up", `{"pattern":"a","action":"mask"},{"pattern":"b","action":"mask"}`, "abc", "**c"},
		{"the first that ends it counts", `{"pattern":"a","action":"mask"},{"pattern":"b","code":"one"},{"pattern":"b","code":"two"}`, "ab", "reject one"},
		{"an empty find is masked as it is", `{"pattern":"x*","action":"mask"}`, "axxb", "a**b"},
		{"invalid UTF-8", `{"pattern":"b+","action":"mask"}`, "\xffbb\xfe", "\ufffd**\ufffd"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, _ := Lookup("regex")
			judge, problems := p.Build([]byte(`{"rules":[` + c.rules + `]}`))
			if judge == nil {
				t.Fatal(problems)
			}
			if got := told(t, judge, chat(c.text)); got != c.want {
				t.Errorf("%q: %q, want %q", c.text, got, c.want)
			}
		})
	}
	judge := build(t, "regex", `{"rules":[{"pattern":"a","action":"mask"},{"pattern":"b","action":"mask"}]}`)
	m := chat("a", "c", "b")
	if got := told(t, judge, m); got != "*|c|*" {
		t.Errorf("of several texts: %q", got)
	}
	if v, _ := build(t, "regex", `{"rules":[{"pattern":"a","reason":"No."}]}`)(context.Background(), chat("a")); v.Reason != "No." {
		t.Errorf("the reason is %q", v.Reason)
	}
}

// A mask that the pattern cannot find leaves nothing to find.
func FuzzRegex(f *testing.F) {
	f.Add("call 1234 5678\xff")
	f.Add("aab äÖ")
	judge := build(f, "regex", `{"rules":[{"pattern":"[0-9]{2,}","action":"mask"},{"pattern":"(?i)a|ö","action":"mask"}]}`)
	f.Fuzz(func(t *testing.T, text string) { masked(t, judge, text) })
}
