package policy

import (
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wsrelay/relay/auth"
)

func compile(t testing.TB, specs ...Spec) *Set {
	t.Helper()
	set, problems := Compile(specs)
	if len(problems) > 0 {
		t.Fatalf("Compile: %+v", problems)
	}
	return set
}

// one is a policy for all rooms with one rule for everything but create.
func one(t testing.TB, rule string) (*Set, *Policy) {
	t.Helper()
	set := compile(t, Spec{Match: "*", Publish: rule, Moderate: rule})
	p, _ := set.Match("r")
	return set, p
}

var (
	guest = &auth.Identity{ID: "guest:1", Guest: true}
	alice = &auth.Identity{ID: "alice", Name: "Alice", Roles: []string{"agent"}, Claims: map[string]any{
		"teams": []any{"billing", "sales"}, "level": 3.0, "admin": true,
		"realm_access": map[string]any{"roles": []any{"chat"}}, "https://app.example.com/tier": "gold",
	}}
)

// Every keyword for everyone it can tell apart. "No identity" is a socket that
// has not yet said who it is.
func TestKeywords(t *testing.T) {
	who := []struct {
		name string
		in   Input
	}{
		{"no identity", Input{}},
		{"guest", Input{User: guest}},
		{"guest, member", Input{User: guest, Member: true}},
		{"user", Input{User: alice}},
		{"user, member", Input{User: alice, Member: true}},
	}
	for keyword, want := range map[string][5]bool{
		"anyone":        {true, true, true, true, true},
		"authenticated": {false, false, false, true, true},
		"members":       {false, false, true, false, true},
		"nobody":        {},
	} {
		_, p := one(t, keyword)
		for i, w := range who {
			if d := p.Allow(Publish, &w.in); d.Allowed != want[i] || d.Why == "" || d.Rule != "rooms[0].publish" || d.Expr != keyword {
				t.Errorf("%s for %s: %+v, want allowed %v", keyword, w.name, d, want[i])
			}
		}
	}
}

func TestDefaults(t *testing.T) {
	p, _ := compile(t, Spec{Match: "*"}).Match("r")
	for act, want := range [actions]struct {
		expr                string
		guest, user, member bool
	}{
		Create:   {"authenticated", false, true, true},
		Join:     {"authenticated", false, true, true},
		Publish:  {"members", false, false, true},
		Moderate: {"nobody", false, false, false},
	} {
		a := Action(act)
		for _, c := range []struct {
			in   Input
			want bool
		}{
			{Input{User: guest}, want.guest},
			{Input{User: alice}, want.user},
			{Input{User: alice, Member: true}, want.member},
		} {
			if d := p.Allow(a, &c.in); d.Allowed != c.want || d.Expr != want.expr {
				t.Errorf("%s by default, for %+v: %+v", a, c.in, d)
			}
		}
	}
}

func TestSettingsGoThroughUntouched(t *testing.T) {
	s := Settings{
		MembersMax: 200, Presence: true, Announce: true, Grace: 10 * time.Second, MaxMessage: 4096, Rate: 5, Burst: 10,
		Echo: true, Text: []string{"", "/text"}, History: &History{Keep: 200, For: 24 * time.Hour}, Idle: 24 * time.Hour,
	}
	p, _ := compile(t, Spec{Match: "*", Settings: s}).Match("r")
	if !reflect.DeepEqual(p.Settings, s) {
		t.Errorf("%+v, want %+v", p.Settings, s)
	}
}

func TestTheFirstMatchWins(t *testing.T) {
	set := compile(t, Spec{Match: "a-b"}, Spec{Match: "a-*"}, Spec{Match: "{x}-c"})
	for room, want := range map[string]int{"a-b": 0, "a-bb": 1, "a-": 1, "z-c": 2, "a-c": 1} {
		if p, _ := set.Match(room); p == nil || p.Index != want {
			t.Errorf("%s: %+v, want %d", room, p, want)
		}
	}
	for _, room := range []string{"z", "", "A-b", "x-y-c"} {
		if p, _ := set.Match(room); p != nil {
			t.Errorf("%s matched %d, and should be forbidden", room, p.Index)
		}
	}
}

func TestADecisionNamesItsRule(t *testing.T) {
	set := compile(t, Spec{Match: "lobby"}, Spec{Match: "support-{team}-*", Join: " room.params.team in\n user.claims.teams "})
	p, params := set.Match("support-legal-7")
	d := p.Allow(Join, &Input{User: alice, RoomID: "support-legal-7", Params: params})
	want := Decision{
		Rule: "rooms[1].join", Expr: "room.params.team in\n user.claims.teams",
		Why: "room.params.team in user.claims.teams is false",
	}
	if d != want {
		t.Errorf("%+v\nwant %+v", d, want)
	}
}

func TestStaticRulesDoNotLookAtTheMembers(t *testing.T) {
	for expr, want := range map[string]bool{
		"members":                                  true,
		"nobody":                                   true,
		"'a' in user.roles":                        true,
		"room.params.x == user.id":                 true,
		"room.id == 'r' && 'x' in room.params":     true,
		"room.params.exists(k, k == user.id)":      true,
		"room.members < 3":                         false,
		"user.guest && room.members < 3":           false,
		"[1, 2].exists(n, room.members == n)":      false,
		"[room].exists(r, r.members < 3)":          false,
		"room == room":                             false,
		"has(room.members)":                        false,
		"dyn(room).members < 3 || room.id == 'xy'": false,
	} {
		p, _ := compile(t, Spec{Match: "{x}", Publish: expr}).Match("r")
		if p.Static(Publish) != want {
			t.Errorf("%s: static %v", expr, !want)
		}
	}
}

func TestRulesAreSafeForConcurrentUse(t *testing.T) {
	set := compile(t, Spec{Match: "{team}", Join: "room.params.team in user.claims.teams && user.id.matches('^a')"})
	var wg sync.WaitGroup
	for i := range 8 {
		room, want := "sales", true
		if i%2 == 1 {
			room, want = "legal", false
		}
		wg.Go(func() {
			for range 200 {
				p, params := set.Match(room)
				if got := p.Allow(Join, &Input{User: alice, Params: params}).Allowed; got != want {
					t.Errorf("%s: %v", room, got)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestKeywordsDoNotAllocate(t *testing.T) {
	p, _ := compile(t, Spec{Match: "*", Moderate: "anyone"}).Match("r")
	in := &Input{User: alice, Member: true}
	for a := range actions {
		if n := testing.AllocsPerRun(100, func() { p.Allow(a, in) }); n > 0 {
			t.Errorf("%s allocates %v times", a, n)
		}
	}
}

func BenchmarkKeyword(b *testing.B) {
	_, p := one(b, "members")
	in := &Input{User: alice, Member: true}
	b.ReportAllocs()
	for b.Loop() {
		p.Allow(Publish, in)
	}
}

func BenchmarkExpression(b *testing.B) {
	for _, c := range []struct{ name, expr string }{
		{"role", "'agent' in user.roles"},
		{"claim", "room.params.team in user.claims.teams"},
		{"several", "!user.guest && endpoint == '/ws' && room.members < 10 && user.claims.level >= 3 && 'agent' in user.roles"},
	} {
		b.Run(c.name, func(b *testing.B) {
			p, params := compile(b, Spec{Match: "{team}", Join: c.expr}).Match("sales")
			in := &Input{User: alice, Params: params, Endpoint: "/ws"}
			b.ReportAllocs()
			for b.Loop() {
				if !p.Allow(Join, in).Allowed {
					b.Fatal("denied")
				}
			}
		})
	}
}

func BenchmarkMatchTheLastOfFifty(b *testing.B) {
	var specs []Spec
	for i := range 49 {
		specs = append(specs, Spec{Match: "team-" + string(rune('A'+i)) + "-{x}-*"})
	}
	set := compile(b, append(specs, Spec{Match: "support-{team}-*"})...)
	b.ReportAllocs()
	for b.Loop() {
		if p, _ := set.Match("support-billing-" + strings.Repeat("7", 64)); p == nil {
			b.Fatal("no match")
		}
	}
}
