package policy

import (
	"regexp"
	"strings"
	"sync"
	"testing"

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

var (
	guest = &auth.Identity{ID: "guest:1", Guest: true}
	alice = &auth.Identity{ID: "alice", Name: "Alice", Roles: []string{"agent"}, Claims: map[string]any{
		"teams": []any{"billing", "sales"}, "level": 3.0,
	}}
)

func TestKeywords(t *testing.T) {
	for _, c := range []struct {
		rule                  string
		guest, user, memberOK bool
	}{
		{"anyone", true, true, true},
		{"authenticated", false, true, true},
		{"members", false, false, true},
		{"nobody", false, false, false},
	} {
		p, _ := compile(t, Spec{Match: "*", Publish: c.rule}).Match("r")
		for _, in := range []struct {
			name string
			in   *Input
			want bool
		}{
			{"guest", &Input{User: guest}, c.guest},
			{"user", &Input{User: alice}, c.user},
			{"member", &Input{User: alice, Member: true}, c.memberOK},
		} {
			if d := p.Allow(Publish, in.in); d.Allowed != in.want || d.Why == "" || d.Rule != "rooms[0].publish" {
				t.Errorf("%s for a %s: %+v, want allowed %v", c.rule, in.name, d, in.want)
			}
		}
	}
}

func TestDefaults(t *testing.T) {
	p, _ := compile(t, Spec{Match: "*"}).Match("r")
	for act, want := range map[Action]bool{Create: true, Join: true, Publish: false, Moderate: false} {
		if got := p.Allow(act, &Input{User: alice}).Allowed; got != want {
			t.Errorf("%s by a user: %v, want %v", act, got, want)
		}
	}
	if p.Allow(Join, &Input{User: guest}).Allowed {
		t.Error("a guest may join by default")
	}
}

func TestExpressionsSeeUserRoomEndpointAndClient(t *testing.T) {
	in := &Input{
		User: alice, RoomID: "support-billing-7", Params: Params{"team": "billing"}, Members: 4, Endpoint: "/ws", ClientIP: "192.0.2.7",
	}
	for expr, want := range map[string]bool{
		"'agent' in user.roles":                               true,
		"'admin' in user.roles":                               false,
		"room.params.team in user.claims.teams":               true,
		"room.params['team'] in user.claims.teams":            true,
		"user.claims.level >= 3":                              true,
		"user.claims.level >= 3.5":                            false,
		"user.id == 'alice' && user.name == 'Alice'":          true,
		"!user.guest && room.members < 5":                     true,
		"room.id.startsWith('support-') && endpoint == '/ws'": true,
		"client.ip == '192.0.2.7'":                            true,
		"true":                                                true,
	} {
		p, _ := compile(t, Spec{Match: "support-{team}-*", Join: expr}).Match(in.RoomID)
		if d := p.Allow(Join, in); d.Allowed != want {
			t.Errorf("%s: %+v, want %v", expr, d, want)
		}
	}
}

func TestAMissingClaimDeniesAndIsCounted(t *testing.T) {
	set := compile(t, Spec{Match: "*", Join: "user.claims.tenant == 'x'"})
	p, _ := set.Match("r")
	if d := p.Allow(Join, &Input{User: alice}); d.Allowed || !strings.Contains(d.Why, "tenant") {
		t.Errorf("%+v", d)
	}
	if p.Allow(Join, &Input{User: guest}).Allowed {
		t.Error("a guest without claims may join")
	}
	if n := set.Failures().Missing.Load(); n != 2 {
		t.Errorf("counted %d", n)
	}
}

// A rule that would keep a core busy is cut off by what it costs.
func TestAnExpressionCannotBurnACore(t *testing.T) {
	list := "[" + strings.Repeat("1,", 199) + "1]"
	expr := list + ".all(a, " + list + ".all(b, " + list + ".all(c, " + list + ".all(d, a+b+c+d > 0))))"
	set, problems := Compile([]Spec{{Match: "*", Join: expr}})
	if len(problems) > 0 {
		return // refused at load is as good
	}
	p, _ := set.Match("r")
	if d := p.Allow(Join, &Input{User: alice}); d.Allowed || !strings.Contains(d.Why, "cost over") {
		t.Errorf("%.200s", d.Why)
	}
	if set.Failures().Cost.Load() != 1 {
		t.Error("not counted")
	}
	long := &Input{User: &auth.Identity{ID: strings.Repeat("a", 128), Claims: map[string]any{"s": strings.Repeat("a", 1<<20)}}}
	p, _ = compile(t, Spec{Match: "*", Join: "user.claims.s.matches('(a*)*b')"}).Match("r")
	if d := p.Allow(Join, long); d.Allowed {
		t.Errorf("%+v", d)
	}
}

func TestProblemsSayWhatToWrite(t *testing.T) {
	for _, c := range []struct{ field, expr, want string }{
		{"join", "anyome", `did you mean "anyone"`},
		{"join", "members", "makes no sense here"},
		{"create", "members", "makes no sense here"},
		{"join", "usr.id == 'x'", `there is no "usr" here (did you mean "user"?)`},
		{"join", "user.nmae == 'x'", `there is no field "nmae" (did you mean "name"?)`},
		{"join", "user.id", "must be true or false"},
		{"join", "agent in user.roles", `there is no "agent" here`},
		{"join", "'x' in user.roles &&", "Syntax error"},
		{"join", "room.params.taem == 'x'", `the match captures no {taem} (did you mean "team"?)`},
		{"publish", "user.id == 3", "no matching overload"},
	} {
		s := Spec{Match: "a-{team}"}
		switch c.field {
		case "join":
			s.Join = c.expr
		case "create":
			s.Create = c.expr
		case "publish":
			s.Publish = c.expr
		}
		set, problems := Compile([]Spec{{Match: "ok"}, s})
		if set != nil || len(problems) != 1 {
			t.Errorf("%s: %+v", c.expr, problems)
			continue
		}
		if p := problems[0]; p.Index != 1 || p.Field != c.field || !strings.Contains(p.Message, c.want) || strings.Contains(p.Message, "\n") {
			t.Errorf("%s: %+v, want %q", c.expr, p, c.want)
		}
	}
}

func TestEveryProblemAtOnce(t *testing.T) {
	_, problems := Compile([]Spec{{Match: "", Join: "x y"}, {Match: "a{", Publish: "nope", Moderate: "1"}})
	if len(problems) != 5 {
		t.Errorf("%d problems: %+v", len(problems), problems)
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
			t.Errorf("%s matched %d", room, p.Index)
		}
	}
}

func TestCaptures(t *testing.T) {
	for _, c := range []struct {
		match, room string
		ok          bool
		want        string
	}{
		{"support-{team}-*", "support-billing-7", true, "billing"},
		{"support-{team}-*", "support-billing-", true, "billing"},
		{"support-{team}-*", "support--7", false, ""},
		{"support-{team}", "support-a-b", false, ""},
		{"*-{team}", "a-b-c", true, "c"},
		{"{team}v2", "chatv2", true, "chat"},
		{"{team}v2", "v2", false, ""},
		{"t:{team}/x", "t:ü/x", true, "ü"},
		{"*:{team}:*", "a:b:c:d", true, "b"},
	} {
		p, err := compilePattern(c.match)
		if err != nil {
			t.Fatal(err)
		}
		params, ok := p.match(c.room)
		if ok != c.ok || params["team"] != c.want {
			t.Errorf("%s on %s: %v %v", c.match, c.room, params, ok)
		}
	}
}

// Many stars against a room that almost fits must not explode.
func TestMatchingIsNotExponential(t *testing.T) {
	p, err := compilePattern(strings.Repeat("*a", 60) + "b")
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := p.match(strings.Repeat("a", 128)); ok {
		t.Error("matched")
	}
}

func TestAccessList(t *testing.T) {
	l, errs := CompileList([]string{"support-*", "lobby"})
	if errs != nil {
		t.Fatal(errs)
	}
	for room, want := range map[string]bool{"support-": true, "lobby": true, "lobby2": false, "": false} {
		if l.Allows(room) != want {
			t.Errorf("%q: %v", room, !want)
		}
	}
	if _, errs := CompileList([]string{"a", "{x}", ""}); errs == nil || errs[0] != nil || errs[1] == nil || errs[2] == nil {
		t.Errorf("%v", errs)
	}
	if !(*AccessList)(nil).Allows("any") {
		t.Error("no list is all rooms")
	}
}

func TestStaticRulesDoNotLookAtTheRoom(t *testing.T) {
	for expr, want := range map[string]bool{
		"members": true, "'a' in user.roles": true, "room.members < 3": false, "room.params.x == user.id": true,
	} {
		p, _ := compile(t, Spec{Match: "{x}", Publish: expr}).Match("r")
		if p.Static(Publish) != want {
			t.Errorf("%s: static %v", expr, !want)
		}
	}
}

func TestRulesAreSafeForConcurrentUse(t *testing.T) {
	p, _ := compile(t, Spec{Match: "{team}", Join: "room.params.team in user.claims.teams"}).Match("sales")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				if !p.Allow(Join, &Input{User: alice, Params: Params{"team": "sales"}}).Allowed {
					t.Error("denied")
					return
				}
			}
		})
	}
	wg.Wait()
}

// FuzzMatch compares globs without captures with a regular expression.
func FuzzMatch(f *testing.F) {
	f.Add("a*b*c", "aXbYc")
	f.Add("*", "")
	f.Add("**x", "xx")
	f.Fuzz(func(t *testing.T, glob, room string) {
		if strings.ContainsAny(glob, "{}") || glob == "" || len(glob) > 64 || len(room) > 128 {
			return
		}
		p, err := compilePattern(glob)
		if err != nil {
			t.Fatalf("%q: %v", glob, err)
		}
		// Byte by byte, as room ids are compared: (?s) and Latin-1 keep the
		// reference from decoding UTF-8.
		parts := strings.Split(glob, "*")
		for i := range parts {
			parts[i] = regexp.QuoteMeta(latin1(parts[i]))
		}
		want := regexp.MustCompile(`(?s)^` + strings.Join(parts, ".*") + `$`).MatchString(latin1(room))
		if _, got := p.match(room); got != want {
			t.Errorf("%q on %q: %v, want %v", glob, room, got, want)
		}
	})
}

func latin1(s string) string {
	r := make([]rune, len(s))
	for i := range len(s) {
		r[i] = rune(s[i])
	}
	return string(r)
}

func BenchmarkKeyword(b *testing.B) {
	p, _ := compile(b, Spec{Match: "*"}).Match("r")
	in := &Input{User: alice, Member: true}
	b.ReportAllocs()
	for b.Loop() {
		p.Allow(Publish, in)
	}
}

func BenchmarkExpression(b *testing.B) {
	p, _ := compile(b, Spec{Match: "{team}", Join: "room.params.team in user.claims.teams"}).Match("sales")
	in := &Input{User: alice, Params: Params{"team": "sales"}}
	b.ReportAllocs()
	for b.Loop() {
		p.Allow(Join, in)
	}
}

func BenchmarkMatchFiftyPolicies(b *testing.B) {
	var specs []Spec
	for i := range 50 {
		specs = append(specs, Spec{Match: "team-" + string(rune('A'+i)) + "-{x}-*"})
	}
	set := compile(b, specs...)
	for b.Loop() {
		set.Match("team-zz-a-b")
	}
}
