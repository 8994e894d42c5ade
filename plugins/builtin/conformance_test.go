package builtin_test

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/wsrelay/relay/plugins/builtin"
	"github.com/wsrelay/relay/plugins/filter"
	"github.com/wsrelay/relay/plugins/filtertest"
)

// asked for, the test binary is a plugin: one of the filters, as a process.
const asPlugin = "BUILTIN_AS_PLUGIN"

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if name := os.Getenv(asPlugin); name != "" {
		p, ok := builtin.Lookup(name)
		if !ok {
			return 1
		}
		p.Serve()
		return 0
	}
	return m.Run()
}

var configs = map[string]string{
	"words": `{"words":["fuck*","ass"]}`, "regex": `{"rules":[{"pattern":"a+b","action":"mask"}]}`, "links": `{"action":"mask"}`,
	"repeats": `{"max":1,"min_length":1}`, "caps": `{}`, "length": `{"max":100,"marks":2,"repeats":5,"action":"truncate"}`,
}

// The filters keep what docs/plugins.md asks of every plugin.
func TestConformance(t *testing.T) {
	for _, name := range builtin.Names() {
		t.Run(name, func(t *testing.T) {
			p, _ := builtin.Lookup(name)
			spec := filtertest.Spec{Plugin: &p, Config: json.RawMessage(configs[name])}
			for _, c := range filtertest.Checks(t.Context(), spec) {
				if c.Err != nil {
					t.Errorf("%s: %v", c.Name, c.Err)
				}
			}
		})
	}
}

// A filter says the same of the same messages in relay and in a process.
func TestInProcessAsInAProcess(t *testing.T) {
	for _, name := range builtin.Names() {
		t.Run(name, func(t *testing.T) {
			p, _ := builtin.Lookup(name)
			here := filtertest.InProcess(t, p, configs[name])
			there := filtertest.Start(t, filtertest.Spec{
				Command: []string{os.Args[0]}, Env: map[string]string{asPlugin: name}, Config: json.RawMessage(configs[name]),
			})
			modified := 0
			for _, text := range []string{"an ass, f.u.c.k!", "aab", "see evil.com/x", "see evil.com/x", "WHY DOES NOBODY ANSWER", "looooooool", "a\u0301\u0301\u0301", "fine", ""} {
				m := filtertest.Message{Text: text}
				a, b := here.MustJudge(t, m), there.MustJudge(t, m)
				if a.Action != b.Action || a.Code != b.Code || a.Reason != b.Reason || string(a.Body) != string(b.Body) {
					t.Errorf("%q: %v %q %s here, %v %q %s in a process", text, a.Action, a.Code, a.Body, b.Action, b.Code, b.Body)
				}
				if a.Action != filter.ActionAllow {
					modified++
				}
			}
			if modified == 0 {
				t.Error("it let everything pass: this compares nothing")
			}
		})
	}
}
