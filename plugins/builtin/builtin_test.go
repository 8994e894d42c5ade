package builtin

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/wsrelay/relay/plugins/filter"
)

func TestNames(t *testing.T) {
	if got, want := Names(), []string{"caps", "length", "links", "regex", "repeats", "words"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	for _, name := range Names() {
		p, ok := Lookup(name)
		if !ok || p.Name != name {
			t.Errorf("Lookup(%q) is %q, %v", name, p.Name, ok)
		}
		if _, err := p.Describe(); err != nil {
			t.Error(err)
		}
	}
	if _, ok := Lookup("builtin/words"); ok {
		t.Error("there is a filter builtin/words")
	}
}

// A configuration that makes each filter find something in "NO ass evil.com".
var bad = map[string]string{
	"words": `{"words":["ass"]`, "regex": `{"rules":[{"pattern":"a(ss)+"}]`, "links": `{"bare":true`,
	"repeats": `{"max":1`, "caps": `{"max":1,"min_letters":5`, "length": `{"max":3`,
}

func TestMistakesHaveTheirPlace(t *testing.T) {
	for _, c := range []struct{ name, config, want string }{
		{"words", `{}`, `it finds nothing: give it words or a file`},
		{"words", `{"words":["ok","--",""]}`, `/words/1: "--" has neither a letter nor a digit nor a symbol; /words/2: "" has neither a letter nor a digit nor a symbol`},
		{"words", `{"words":["` + strings.Repeat("ab", 33) + `"]}`, `/words/0: "` + strings.Repeat("ab", 33) + `" has 66 letters, 64 go`},
		{"words", `{"words":["a"],"allow":["*"]}`, `/allow/0: "" has neither a letter nor a digit nor a symbol`},
		{"words", `{"words":["a"],"match":"some","action":"ban","mask":"ab","evasions":["leet","magic"]}`, `/action: "ban" is none of mask, reject, drop, shadow, flag; /match: "some" is none of word, anywhere; /mask: "ab" is not one character that is neither a letter nor a digit nor a space; /evasions/1: "magic" is none of lookalikes, leet, spacing, repeats`},
		{"words", `{"words":["a"],"mask":"x"}`, `/mask: "x" is not one character that is neither a letter nor a digit nor a space`},
		{"words", `{"words":["a"],"code":"Not a code"}`, `/code: "Not a code" is no code: 1 to 64 of a-z, 0-9, _, . and -`},
		{"words", `{"words":["a"],"reason":"` + strings.Repeat("x", 513) + `"}`, `/reason: 513 bytes are too long, 512 go`},
		{"words", `{"file":"testdata/none.txt"}`, `/file: stat testdata/none.txt: no such file or directory`},
		{"words", `{"file":"."}`, `/file: . is no file of at most 8388608 bytes`},
		{"words", `{"file":"testdata/bad.txt"}`, `/file: testdata/bad.txt:3: "..." has neither a letter nor a digit nor a symbol`},
		{"words", `{"words":"a"}`, `/words: wants []string, got string`},
		{"words", `{"word":["a"]}`, `/word: unknown key`},
		{"regex", `{}`, `/rules: there are none`},
		{"regex", `{"rules":[{"pattern":"a"},{"pattern":"(","action":"mask"}]}`, "/rules/1/pattern: missing closing ): `(`"},
		{"regex", `{"rules":[{"action":"ban","code":"X"}]}`, `/rules/0/code: "X" is no code: 1 to 64 of a-z, 0-9, _, . and -; /rules/0/action: "ban" is none of reject, mask, flag, drop, shadow; /rules/0/pattern: empty`},
		{"regex", `{"rules":[{"pattern":"` + strings.Repeat("a", 4097) + `"}]}`, `/rules/0/pattern: 4097 bytes are too long, 4096 go`},
		{"links", `{"default":"allow"}`, `it refuses nothing: default is allow and deny is empty`},
		{"links", `{"allow":["https://example.com","","ex ample.com"],"deny":["a.com","A.COM"]}`, `/deny/1: "A.COM" is listed twice; /allow/0: "https://example.com" is no domain: it is written like example.com or *.example.com; /allow/1: "" is no domain: it is written like example.com or *.example.com; /allow/2: "ex ample.com" is no domain: it is written like example.com or *.example.com`},
		{"links", `{"allow":["a.com"],"deny":["a.com"]}`, `/allow/0: "a.com" is listed twice`},
		{"repeats", `{"window":"30","max":0,"users":0}`, `/max: 0 is not from 1 to 63; /users: 0 is not from 1 to 10000000; /window: "30" is no length of time, such as 30s or 5m`},
		{"repeats", `{"window":30}`, `/window: wants string, got number`},
		{"repeats", `{"max":8}`, `/remember: 8 messages do not tell whether there were more than max, 8`},
		{"repeats", `{"mute":"soon","scope":"world"}`, `/scope: "world" is none of room, user; /mute: "soon" is no length of time, such as 30s or 5m`},
		{"caps", `{"max":100,"min_letters":0,"action":"mask"}`, `/action: "mask" is none of lower, reject, drop, shadow, flag; /max: 100 is not from 0 to 99; /min_letters: 0 is less than 1`},
		{"length", `{}`, `it bounds nothing: set one of min, max, lines, marks and repeats`},
		{"length", `{"min":5,"max":4,"marks":-1}`, `/marks: -1 is less than 0; /min: 5 is more than max, 4`},
	} {
		p, _ := Lookup(c.name)
		judge, problems := p.Build([]byte(c.config))
		list := make([]string, len(problems))
		for i, pr := range problems {
			list[i] = pr.Error()
		}
		if got := strings.Join(list, "; "); got != c.want || judge != nil {
			t.Errorf("%s %s:\n got %s\nwant %s", c.name, c.config, got, c.want)
		}
	}
	p, _ := Lookup("regex")
	if judge, problems := p.Build([]byte(`{"rules":[{"pattern":"a*"}]}`)); judge == nil || len(problems) != 1 || !problems[0].Warning || problems[0].Path != "/rules/0/pattern" {
		t.Errorf("a pattern that finds the empty text: %v", problems)
	}
}

// What a message may be beside a chat with one text.
func TestEveryFilterTakesEveryMessage(t *testing.T) {
	for name, config := range bad {
		judge := build(t, name, config+"}")
		for _, m := range []*filter.Message{
			{Event: filter.Chat, Body: []byte(`42`)}, {Event: filter.Signal, Body: []byte(`{}`)}, {Event: filter.Join}, chat(""), chat(),
		} {
			if got := told(t, judge, m); got != "ok" {
				t.Errorf("%s of a %v without a text: %s", name, m.Event, got)
			}
		}
		if name == "repeats" {
			continue
		}
		for _, action := range []string{"", `,"action":"flag"`} {
			if name == "regex" && action != "" {
				continue
			}
			judge := build(t, name, config+action+"}")
			for user, want := range map[*filter.User]bool{
				{ID: "1", Name: "NO ass evil.com"}:                    true,
				{ID: "NO ass evil.com", Name: "x"}:                    false,
				{ID: "guest:NO ass evil.com", Name: "x", Guest: true}: true,
				{ID: "2", Name: "Ann"}:                                false,
				{ID: "3"}:                                             false,
			} {
				m := &filter.Message{Event: filter.Join, User: *user}
				v, err := judge(context.Background(), m)
				found := v.Action == filter.ActionReject && v.Code != "" || action != "" && len(v.Flags) == 1
				if err != nil || found != want || v.Action != filter.ActionAllow && v.Action != filter.ActionReject {
					t.Errorf("%s%s of %+v who joins: %+v, %v", name, action, user, v, err)
				}
			}
		}
	}
}

// A message in which nothing is found costs no memory.
func TestNothingFoundNothingAllocated(t *testing.T) {
	for name, config := range map[string]string{
		"words": `{"words":["fuck*","ass","kill yourself","傻逼"]}`, "regex": `{"rules":[{"pattern":"(?i)buy now"},{"pattern":"b+c","action":"mask"}]}`,
		"links": `{"allow":["example.com"]}`, "repeats": `{"max":60,"remember":61}`, "caps": `{}`, "length": `{"min":1,"max":500,"lines":10,"marks":3,"repeats":20}`,
	} {
		if racing && name == "regex" {
			continue
		}
		judge := build(t, name, config)
		for _, text := range []string{
			"Could you send me the report by Friday? I need it for work.", "That's $15 for 2, @bob! See https://example.com/x or example.com",
			"Привет, пришли мне отчёт к пятнице", "好的，明天见 😀",
		} {
			m := chat(text)
			judge(context.Background(), m) //nolint:errcheck // only to have it known
			var v filter.Verdict
			n := testing.AllocsPerRun(20, func() { v, _ = judge(context.Background(), m) })
			if n != 0 || v.Action != filter.ActionAllow {
				t.Errorf("%s %q: %v allocations, %+v", name, text, n, v)
			}
		}
	}
}
