package policy

import (
	"maps"
	"regexp"
	"strings"
	"testing"
)

func mustGlob(t testing.TB, s string) *glob {
	t.Helper()
	g, flaws := parseGlob(s)
	if len(flaws) > 0 {
		t.Fatalf("%q: %+v", s, flaws)
	}
	return g
}

func TestCaptures(t *testing.T) {
	for _, c := range []struct {
		glob, room string
		want       string // a=…,b=…; "no" when it should not fit
	}{
		{"support-{a}-*", "support-billing-7", "billing"},
		{"support-{a}-*", "support-billing-eu-7", "billing"},
		{"support-{a}-*", "support-billing-", "billing"},
		{"support-{a}-*", "support--7", "no"},
		{"support-{a}-*", "support-billing", "no"},
		{"support-{a}-*", "Support-billing-7", "no"},
		{"support-{a}", "support-a-b", "no"},
		{"support-{a}", "support-a.b", "no"},
		{"{a}", "x/y", "no"},
		{"{a}", "*", "*"},
		{"*-{a}", "x-y-z", "z"},
		{"{a}v2", "chatv2", "chat"},
		{"{a}v2", "chatv2v2", "chatv2"},
		{"{a}v2", "v2", "no"},
		{"{a}v2", "v2v2", "v2"},
		{"t:{a}/x", "t:ü/x", "ü"},
		{"*:{a}:*", "x:y:z:w", "y"},
		{"dm_{a}_{b}", "dm_x_y", "x,y"},
		{"dm_{a}_{b}", "dm_x_y_z", "x,y_z"},
		{"dm_{a}_{b}", "dm_x", "no"},
		{"*-{a}-{b}", "0-1-2-3", "2,3"},
	} {
		params, ok := mustGlob(t, c.glob).match(c.room)
		got := "no"
		if ok {
			got = strings.TrimSuffix(params["a"]+","+params["b"], ",")
		}
		if got != c.want {
			t.Errorf("%s on %s: %s, want %s", c.glob, c.room, got, c.want)
		}
	}
}

// Rooms that almost fit must not take time that grows with anything but the
// lengths: a naive matcher would not come back from these.
func TestMatchingIsNotExponential(t *testing.T) {
	for _, c := range []struct{ glob, room string }{
		{strings.Repeat("*a", 100) + "b*c", strings.Repeat("a", 128) + "c"},
		{"*a*a*a*b", strings.Repeat("a", 1<<16)},
		{"{a}a{b}a{c}a{d}a{e}a{f}a{g}a{h}b-c", strings.Repeat("a", 1<<12) + "-c"},
		{"*a" + strings.Repeat("*a", 50) + "{x}a{y}a{z}b-c", strings.Repeat("a", 1<<12) + "-c"},
	} {
		if _, ok := mustGlob(t, c.glob).match(c.room); ok {
			t.Errorf("%s matched", c.glob)
		}
	}
}

func TestHostileRoomIDs(t *testing.T) {
	set := compile(t, Spec{Match: "support-{team}-*"}, Spec{Match: "*-private"})
	for room, want := range map[string]int{
		"":                               -1,
		"support-":                       -1,
		"support-{team}-*":               0, // nothing in a room id is special
		"support-*-x":                    0,
		"support-\x00-x":                 0, // the gateway refuses it earlier; here it is a byte
		"support-\xff\xfe-":              0,
		"support-../../x-y":              -1,
		"SUPPORT-a-b":                    -1,
		"ѕupport-a-b":                    -1, // a Cyrillic s
		"support-a-private":              0,
		"x\n-private":                    1,
		"-private":                       1,
		strings.Repeat("-private", 9000): 1,
	} {
		p, _ := set.Match(room)
		if got := index(p); got != want {
			t.Errorf("%.40q: policy %d, want %d", room, got, want)
		}
	}
}

func index(p *Policy) int {
	if p == nil {
		return -1
	}
	return p.Index
}

func TestAccessList(t *testing.T) {
	l, errs := CompileList([]string{"support-*", "lobby"})
	if errs != nil {
		t.Fatal(errs)
	}
	for room, want := range map[string]bool{"support-": true, "support-a-b": true, "lobby": true, "lobby2": false, "": false, "Lobby": false} {
		if l.Allows(room) != want {
			t.Errorf("%q: %v", room, !want)
		}
	}
	l, errs = CompileList([]string{"a", "t-{x}", ""})
	if l != nil || len(errs) != 3 || errs[0] != nil ||
		errs[1].Error() != `"t-{x}": captures are for rooms[].match; write * instead of {x}` ||
		errs[2].Error() != `"": is empty; * matches every room` {
		t.Errorf("%v", errs)
	}
	empty, errs := CompileList(nil)
	if errs != nil || !empty.Allows("any") || !(*AccessList)(nil).Allows("any") {
		t.Error("no list is all rooms")
	}
}

// FuzzMatch compares with a regular expression: which room ids fit, and what is
// captured.
func FuzzMatch(f *testing.F) {
	f.Add("a*b*c", "aXbYc")
	f.Add("*", "")
	f.Add("**x", "xx")
	f.Add("support-{team}-*", "support-billing-7")
	f.Add("dm_{a}_{b}", "dm_x_y_z")
	f.Add("*a{x}aa{y}-*", "aaaaaaa-a-")
	f.Add("{a}a{b}a{c}*", "aaaaaaaaa")
	f.Add("*/{a}é{b}", "x/é/ééé")
	f.Fuzz(func(t *testing.T, s, room string) {
		g, flaws := parseGlob(s)
		if len(flaws) > 0 || len(room) > 128 {
			return
		}
		got, ok := g.match(room)
		m := reference(g).FindStringSubmatch(latin1(room))
		if ok != (m != nil) {
			t.Fatalf("%q on %q: %v", s, room, ok)
		}
		if !ok || len(g.names) == 0 {
			return
		}
		want := Params{}
		for i, name := range g.names {
			want[name] = m[i+1]
		}
		for name, v := range got {
			got[name] = latin1(v)
		}
		if !maps.Equal(got, want) {
			t.Fatalf("%q on %q: %q, want %q", s, room, got, want)
		}
	})
}

// reference is a glob as a regular expression over Latin-1, so that it takes
// bytes for what they are.
func reference(g *glob) *regexp.Regexp {
	expr := "(?s)^"
	for _, p := range g.parts {
		switch p.kind {
		case literal:
			expr += regexp.QuoteMeta(latin1(p.lit))
		case run:
			expr += ".*?"
		case capture:
			expr += "([^-.:/]+?)"
		}
	}
	return regexp.MustCompile(expr + "$")
}

func latin1(s string) string {
	r := make([]rune, len(s))
	for i := range len(s) {
		r[i] = rune(s[i])
	}
	return string(r)
}
