package policy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/wsrelay/relay/auth"
)

func TestExpressionsSeeUserRoomEndpointAndClient(t *testing.T) {
	in := &Input{User: alice, RoomID: "support-billing-7", Members: 4, Endpoint: "/ws", ClientIP: "192.0.2.7"}
	for expr, want := range map[string]bool{
		"'agent' in user.roles":                                 true,
		"'admin' in user.roles":                                 false,
		"room.params.team in user.claims.teams":                 true,
		"room.params['team'] in user.claims.teams":              true,
		"user.claims.level >= 3":                                true,
		"user.claims.level == 3":                                true,
		"user.claims.level >= 3.5":                              false,
		"user.claims.admin":                                     true,
		"'chat' in user.claims.realm_access.roles":              true,
		"user.claims['https://app.example.com/tier'] == 'gold'": true,
		"user.id == 'alice' && user.name == 'Alice'":            true,
		"!user.guest && room.members < 5":                       true,
		"room.id.startsWith('support-') && endpoint == '/ws'":   true,
		"client.ip == '192.0.2.7'":                              true,
		"user.roles.exists(r, r.matches('^a.*t$'))":             true,
		"user.name.lowerAscii() == user.id":                     true,
		"room.id.split('-')[1] == 'billing'":                    true,
		"sets.intersects(user.roles, ['agent', 'admin'])":       true,
		"user.claims.teams.filter(t, t == 'sales').size() == 1": true,
		"has(user.claims.tenant) && user.claims.tenant == 'x'":  false,
		// An operand that fails does not matter where the other one decides.
		"user.claims.tenant == 'x' || true": true,
	} {
		p, params := compile(t, Spec{Match: "support-{team}-*", Join: expr}).Match(in.RoomID)
		in.Params = params
		if d := p.Allow(Join, in); d.Allowed != want || !strings.HasSuffix(d.Why, fmt.Sprintf(" is %v", want)) {
			t.Errorf("%s: %+v, want %v", expr, d, want)
		}
	}
}

// What fails denies, is counted by kind, and says why.
func TestFailuresDenyAndAreCounted(t *testing.T) {
	for _, c := range []struct {
		expr, why string
		counter   func(*Failures) int64
	}{
		{"user.claims.tenant == 'x'", "no such key: tenant", func(f *Failures) int64 { return f.Missing.Load() }},
		{"user.claims.a.b.c == 'x'", "no such key: a", func(f *Failures) int64 { return f.Missing.Load() }},
		{"user.claims['tenant'] == 'x'", "no such key: tenant", func(f *Failures) int64 { return f.Missing.Load() }},
		{"!(user.claims.banned)", "no such key: banned", func(f *Failures) int64 { return f.Missing.Load() }},
		{"room.params[user.id] == 'x'", "no such key: alice", func(f *Failures) int64 { return f.Missing.Load() }},
		{"user.claims.level > 'x'", "no such overload", func(f *Failures) int64 { return f.Other.Load() }},
		{"user.claims.level", "the expression gave double, not true or false", func(f *Failures) int64 { return f.Other.Load() }},
		{"user.roles[3] == 'x'", "index out of bounds: 3", func(f *Failures) int64 { return f.Other.Load() }},
		{"1 / room.members == 1", "division by zero", func(f *Failures) int64 { return f.Other.Load() }},
		{"int(user.id) == 1", "type conversion error", func(f *Failures) int64 { return f.Other.Load() }},
	} {
		set, p := one(t, c.expr)
		for range 2 {
			if d := p.Allow(Publish, &Input{User: alice}); d.Allowed || !strings.Contains(d.Why, c.why) {
				t.Errorf("%s: %+v, want %q", c.expr, d, c.why)
			}
		}
		f := set.Failures()
		if n := c.counter(f); n != 2 || f.Missing.Load()+f.Cost.Load()+f.Other.Load() != 2 {
			t.Errorf("%s: counted %d of its kind, and missing %d, cost %d, other %d", c.expr, n, f.Missing.Load(), f.Cost.Load(), f.Other.Load())
		}
	}
}

func TestGuestsWithoutClaimsAndNobodyAreNoSpecialCase(t *testing.T) {
	_, p := one(t, "user.guest && user.claims.size() == 0 && user.roles.size() == 0")
	for name, u := range map[string]*auth.Identity{"guest": guest, "no identity": nil} {
		if d := p.Allow(Publish, &Input{User: u}); !d.Allowed {
			t.Errorf("%s: %s", name, d.Why)
		}
	}
}

// nested is an expression around which a list is walked n times over.
func nested(n int, list string) string {
	expr := "a0 > 0"
	for i := range n {
		expr = fmt.Sprintf("%s.all(a%d, %s)", list, i, expr)
	}
	return expr
}

// Each of these would keep a core busy, most of them for longer than the
// universe has been there. They are cut by what they cost, not by a clock, and
// soon: the deadline is a thousand times what it takes.
func TestAnExpressionCannotBurnACore(t *testing.T) {
	hundred := "[" + strings.Repeat("1,", 99) + "1]"
	shared := "v40 == v40" // a tree of 2^40 leaves out of forty pairs
	for i := 40; i > 0; i-- {
		shared = fmt.Sprintf("[[v%d, v%d]].exists(v%d, %s)", i-1, i-1, i, shared)
	}
	for name, expr := range map[string]string{
		"nested walks":       nested(5, hundred),
		"nested claims":      nested(5, "user.claims.many"),
		"doubled text":       "[user.id]" + strings.Repeat(".map(a, a + a)", 40) + ".exists(a, a == '')",
		"doubled list":       "[[1, 1]]" + strings.Repeat(".map(a, a + a)", 40) + ".exists(a, 3 in a)",
		"doubled tree":       "[[1]]" + strings.Repeat(".map(a, [a, a])", 40) + ".exists(a, [a] != [a])",
		"shared tree":        "[[1]].exists(v0, " + shared + ")",
		"regular expression": "user.claims.long.matches('(a*)*(a|aa)+b')",
		"search":             "user.claims.long.contains(user.claims.long + 'b')",
		"huge claim":         "user.claims.long == user.claims.long + 'b'",
	} {
		many := make([]any, 100)
		for i := range many {
			many[i] = 1.0
		}
		in := &Input{User: &auth.Identity{ID: "mallory", Claims: map[string]any{"many": many, "long": strings.Repeat("a", 1<<20)}}}
		set, problems := Compile([]Spec{{Match: "*", Publish: expr}})
		if len(problems) > 0 {
			t.Errorf("%s: %+v", name, problems)
			continue
		}
		p, _ := set.Match("r")
		begin := time.Now()
		d := p.Allow(Publish, in)
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("%s: took %v", name, took)
		}
		if d.Allowed || !strings.HasPrefix(d.Why, "cost over 10000") && !strings.HasPrefix(d.Why, "size over 10000") {
			t.Errorf("%s: %+v", name, d)
		}
		if n := set.Failures().Cost.Load(); n != 1 {
			t.Errorf("%s: counted %d", name, n)
		}
	}
}

// What is known to be too much, or cannot be bounded, does not load.
func TestUnboundedExpressionsDoNotLoad(t *testing.T) {
	hundred := "[" + strings.Repeat("1,", 99) + "1]"
	for _, c := range []struct{ expr, want string }{
		{hundred + ".map(a, " + hundred + ".map(b, [a, b])).size() > 0", "and a rule may cost 10000"},
		{"user.id == '" + strings.Repeat("a", MaxExpression) + "'", "4096 is the most"},
		{"user.id.matches(user.name)", "must stand here as text"},
		{"matches(user.id, user.claims.pattern)", "must stand here as text"},
		{"user.id.replace('a', 'aaaa') == 'x'", "replace() is not for rules"},
		{"user.roles.join(',') == 'x'", "join() is not for rules"},
		{"'%s'.format([user.id]) == 'x'", "format() is not for rules"},
		{"strings.quote(user.id) == 'x'", "quote() is not for rules"},
		{"['aaaaaaaaaa']" + strings.Repeat(".map(a, a + a)", 40) + " == ['']", "and a rule may cost 10000"},
		{strings.Repeat("[", 2000) + strings.Repeat("]", 2000), "recursion"},
		{strings.Repeat("!(", 1000) + "user.guest" + strings.Repeat(")", 1000), "recursion"},
	} {
		set, problems := Compile([]Spec{{Match: "*", Join: c.expr}})
		if set != nil || len(problems) != 1 || !strings.Contains(problems[0].Message, c.want) {
			t.Errorf("%.60s: %+v, want %q", c.expr, problems, c.want)
		}
	}
}

// Ordinary claims are well inside the bounds.
func TestALargeTokenIsNotTooMuch(t *testing.T) {
	groups := make([]any, 500)
	for i := range groups {
		groups[i] = fmt.Sprintf("/company/department-%d/team", i)
	}
	deep := map[string]any{"leaf": true}
	for range 20 {
		deep = map[string]any{"d": deep}
	}
	u := &auth.Identity{ID: "alice", Claims: map[string]any{"groups": groups, "deep": deep}}
	for _, expr := range []string{
		"'/company/department-499/team' in user.claims.groups",
		"user.claims.groups.exists(g, g.startsWith('/company/department-499/'))",
		"has(user.claims.deep.d.d) && user.claims.size() == 2 && 'deep' in user.claims",
		"user.claims.exists(k, k == 'deep')",
	} {
		_, p := one(t, expr)
		if d := p.Allow(Publish, &Input{User: u}); !d.Allowed {
			t.Errorf("%s: %s", expr, d.Why)
		}
	}
}
