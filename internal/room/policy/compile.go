package policy

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Problem is one thing wrong with a spec.
type Problem struct {
	Index   int    // of the spec
	Field   string // match, create, join, publish or moderate
	Offset  int    // characters (not bytes) into the field's value
	Message string // one line, to be read after the field's name
}

// Compile compiles all specs, and reports every problem at once. Without
// problems the set is complete; with problems it is nil.
//
// endpoints are the values that `endpoint` can have. When they are given, a rule
// that compares it with anything else is a problem, as that is never true.
func Compile(specs []Spec, endpoints ...string) (*Set, []Problem) {
	c, err := newCompiler(endpoints)
	if err != nil {
		return nil, []Problem{{Message: err.Error()}} // the environment is ours: every test keeps this from happening
	}
	set := &Set{failures: c.failures}
	var problems []Problem
	for i, s := range specs {
		p := &Policy{Settings: s.Settings, Index: i, Match: s.Match}
		g, flaws := parseGlob(s.Match)
		for _, f := range flaws {
			problems = append(problems, Problem{Index: i, Field: "match", Offset: utf8.RuneCountInString(s.Match[:f.at]), Message: f.msg})
		}
		p.glob, c.params = g, nil
		if g != nil {
			c.params = append([]string{}, g.names...)
		}
		for act, value := range [actions]string{s.Create, s.Join, s.Publish, s.Moderate} {
			r, found := c.rule(Action(act), value)
			for _, f := range found {
				f.Index, f.Field = i, Action(act).String()
				problems = append(problems, f)
			}
			r.path = fmt.Sprintf("rooms[%d].%s", i, Action(act))
			p.rules[act] = r
		}
		set.policies = append(set.policies, p)
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return set, nil
}

// rule compiles the value of one action's key.
func (c *compiler) rule(a Action, value string) (rule, []Problem) {
	expr := strings.TrimSpace(value)
	if expr == "" {
		expr = defaults[a]
	}
	if !bareWord(expr) {
		prog, problems := c.program(value)
		return rule{expr: expr, prog: prog}, problems
	}
	k, ok := keywords[expr]
	var msg string
	switch {
	case expr == "true" || expr == "false":
		msg = fmt.Sprintf("is %s, which is no keyword: write %s", expr, map[string]string{"true": "anyone", "false": "nobody"}[expr])
	case !ok:
		msg = fmt.Sprintf("no keyword %q%s: a bare word is one of %s, anything else is a CEL expression",
			expr, didYouMean(strings.ToLower(expr), keywordNames), strings.Join(keywordNames, ", "))
	case k == members && (a == Create || a == Join):
		msg = fmt.Sprintf("members cannot decide who may %s: nobody is one yet; authenticated is the usual word here", a)
	default:
		return rule{expr: expr, keyword: k}, nil
	}
	return rule{}, []Problem{{Offset: leading(value), Message: msg}}
}

// leading is the number of characters of white space that value starts with.
func leading(value string) int {
	return utf8.RuneCountInString(value) - utf8.RuneCountInString(strings.TrimLeftFunc(value, unicode.IsSpace))
}

// bareWord reports whether s can only be meant as a keyword.
func bareWord(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		return r != '_' && r != '-' && !unicode.IsLetter(r) && !unicode.IsDigit(r)
	})
}

var keywordNames = []string{"anyone", "authenticated", "members", "nobody"}

// lacks reports whether names are known and this is none of them.
func lacks(names []string, name string) bool { return names != nil && !slices.Contains(names, name) }
