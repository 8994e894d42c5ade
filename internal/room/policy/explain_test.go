package policy

import (
	"strings"
	"testing"
)

// The mark ‸ stands where the problem should point.
func TestMistakesSayWhatToWrite(t *testing.T) {
	for _, c := range []struct{ expr, want string }{
		// Keywords.
		{"‸anyome", `no keyword "anyome" (did you mean "anyone"?): a bare word is one of anyone, authenticated, members, nobody, anything else is a CEL expression`},
		{"  ‸Authenticated", `no keyword "Authenticated" (did you mean "authenticated"?): a bare word is one of anyone, authenticated, members, nobody, anything else is a CEL expression`},
		{"‸admins", `no keyword "admins": a bare word is one of anyone, authenticated, members, nobody, anything else is a CEL expression`},
		{"‸members", `members cannot decide who may join: nobody is one yet; authenticated is the usual word here`},
		{"‸true", `is true, which is no keyword: write anyone`},
		{"‸false", `is false, which is no keyword: write nobody`},
		// Names.
		{"‸usr.id == 'x'", `there is no "usr" (did you mean "user"?)`},
		{"user.‸nmae == 'x'", `user has no field "nmae" (did you mean "name"?): it has id, name, roles, claims, guest`},
		{"has(user.‸nmae)", `user has no field "nmae" (did you mean "name"?): it has id, name, roles, claims, guest`},
		{"user.id == 'ü' && room.‸member > 3", `room has no field "member" (did you mean "members"?): it has id, params, members`},
		{"user.guest\n  && ‸rom.id == 'x'", `there is no "rom" (did you mean "room"?)`},
		{"‸agent in user.roles", `there is no "agent": write 'agent' if it is text; there are client, endpoint, room, user`},
		{"user.id.‸startswith('x')", `there is no function startswith() (did you mean "startsWith"?)`},
		{"‸isAdmin(user)", `there is no function isAdmin()`},
		{"endpoint‸.id == 'x'", `string has no fields`},
		{"room.params‸.taem == 'x'", `room.params.taem: the match captures no {taem} (did you mean "team"?)`},
		{"room.params‸['x'] == 'y'", `room.params.x: the match captures no {x}`},
		{"endpoint == ‸'/w'", `there is no endpoint "/w" (did you mean "/ws"?)`},
		{"endpoint in ['/ws', ‸'/admin']", `there is no endpoint "/admin"`},
		{"user.roles.exists‸(room, room == 'x')", `room is taken: give the elements another name`},
		// Types.
		{"‸user.id.size()", `gives int, and must give true or false`},
		{"user.id ‸== 3", `string == int: the two do not go together`},
		{"user.roles ‸== 'x'", `list(string) == string: the two do not go together`},
		{"client ‸== '192.0.2.1'", `client == string: the two do not go together`},
		{"‸!user.id", `! does not go with string`},
		{"user.guest && user‸.id", `this is string, where bool is needed`},
		{"'x' ‸in user.id", `in needs a list or a map on its right: this is string in string`},
		{"user.roles.contains‸('x')", `list(string) has no contains(string): write 'x' in … to look into a list`},
		{"user‸['id'] == 'x'", `user cannot be indexed with string`},
		{"size‸(user) > 1", `there is no size(user)`},
		{"policy.celUser‸{id: 'x'}.guest", `an expression cannot make a user`},
		{"‸user.id.matches('(')", "error parsing regexp: missing closing ): `(`"},
		// Syntax, and what people write who know other languages.
		{"user.id ‸= 'x'", `write == to compare`},
		{"user.id ‸=== 'x'", `write == to compare`},
		{"user.guest ‸and user.id == 'x'", `write && instead of and`},
		{"user.guest ‸or user.id == 'x'", `write || instead of or`},
		{"user.guest ‸& user.guest", `write &&`},
		{"‸not user.guest", `write ! instead of not`},
		{"user.guest && ‸not user.guest", `write ! instead of not`},
		{"user.id ‸is 'x'", `write == instead of is`},
		{"‸“x” in user.roles", `“ does not quote text: write ' instead`},
		{"user.id == ‸`x`", "` does not quote text: write ' instead"},
		{"user.id == ‸'x", `the text that starts here has no closing '`},
		{"'x' in user.roles &&‸", `the expression ends where something should follow`},
		{"(user.guest‸", `a ) is missing`},
		{"user.guest‸)", `a ) too many`},
		{"user.roles ‸has 'x'", `did not expect has here: an operator such as &&, ||, == or in may be missing`},
		{"‸$x == 1", `$ means nothing here`},
	} {
		before, after, marked := strings.Cut(c.expr, "‸")
		_, problems := Compile([]Spec{{Match: "lobby"}, {Match: "a-{team}", Join: before + after}}, "/ws")
		want := Problem{Index: 1, Field: "join", Offset: len([]rune(before)), Message: c.want}
		if !marked || len(problems) != 1 || problems[0] != want {
			t.Errorf("%s:\n got %+v\nwant %+v", c.expr, problems, want)
		}
	}
}

func TestMatchMistakesSayWhatToWrite(t *testing.T) {
	for _, c := range []struct{ match, want string }{
		{"‸", `is empty; * matches every room`},
		{"a‸{team", `a { without its }`},
		{"ü-a‸}", `a } without its {`},
		{"a-‸{}", `{}: a name is letters, digits and _, and starts with no digit`},
		{"a-‸{2nd}", `{2nd}: a name is letters, digits and _, and starts with no digit`},
		{"a-{b}-‸{b}", `{b} stands here twice`},
		{"{a}‸{b}", `{a} needs a literal after it, such as -`},
		{"{a}‸*", `{a} needs a literal after it, such as -`},
		{"*‸{a}", `{a} needs a literal before it, such as -`},
		{"{a}-{b}-{c}-{d}-{e}-{f}-{g}-{h}-‸{i}", `has more than 8 captures`},
		{strings.Repeat("a", maxGlob) + "‸a", `is longer than 256 bytes`},
		{"a‸\x00b", `has a control character, which no room id has`},
		{"‸a\xffb", `is not UTF-8, as all room ids are`},
	} {
		before, after, marked := strings.Cut(c.match, "‸")
		set, problems := Compile([]Spec{{Match: before + after}})
		want := Problem{Field: "match", Offset: len([]rune(before)), Message: c.want}
		if !marked || set != nil || len(problems) != 1 || problems[0] != want {
			t.Errorf("%q:\n got %+v\nwant %+v", c.match, problems, want)
		}
	}
}

func TestEveryProblemAtOnce(t *testing.T) {
	set, problems := Compile([]Spec{
		{Match: "a-{x}-{x}-{y}*", Join: "room.params.z == 'x'"}, // what it captures is not known, so z is not held against it
		{Match: "ok"},
		{Match: "b", Create: "members", Join: "usr.id == rom.id", Publish: "nope", Moderate: "1 +"},
	})
	var got []string
	for _, p := range problems {
		got = append(got, strings.Join([]string{string(rune('0' + p.Index)), p.Field}, " "))
	}
	want := "0 match,0 match,2 create,2 join,2 join,2 publish,2 moderate"
	if set != nil || strings.Join(got, ",") != want {
		t.Errorf("%s\nwant %s\n%+v", strings.Join(got, ","), want, problems)
	}
}

// FuzzExpression: whatever stands in a rule, it loads or is refused with places
// that exist and one line each; and what loads answers.
func FuzzExpression(f *testing.F) {
	for _, s := range []string{
		"anyome", "'agent' in user.roles", "user.nmae == 'x'", "user.id = 'x", "usr.foo(1) &&\n rom", "“x”", "not user.guest",
		"[[1]].map(a, [a, a]).exists(b, b == b)", "user.claims.a.b > 3u", "has(room.params.x)", "\xff == 1", "\r\n ü", "a.b{c: 1}",
		"user.id.matches('[')", "(((", "timestamp(user.id) > duration('1s')", "`x`",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, expr string) {
		set, problems := Compile([]Spec{{Match: "{team}", Join: expr}}, "/ws")
		for _, p := range problems {
			if p.Field != "join" || p.Offset < 0 || p.Offset > len([]rune(expr)) {
				t.Errorf("%q: a problem in a place that is not there: %+v", expr, p)
			}
			if strings.TrimSpace(p.Message) == "" || strings.ContainsAny(p.Message, "\n") {
				t.Errorf("%q: not one line: %q", expr, p.Message)
			}
		}
		if (set == nil) != (len(problems) > 0) {
			t.Fatalf("%q: neither a set nor problems, or both", expr)
		}
		if set != nil {
			p, params := set.Match("sales")
			if d := p.Allow(Join, &Input{User: alice, Params: params}); d.Why == "" {
				t.Errorf("%q: no reason: %+v", expr, d)
			}
		}
	})
}
