package policy

import (
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing wrong with a spec.
type Problem struct {
	Index   int    // of the spec
	Field   string // match, create, join, publish or moderate
	Offset  int    // characters into the value, where it is known
	Message string
}

// Compile compiles all specs, and reports every problem at once. Without
// problems the set is complete; with problems it is nil.
func Compile(specs []Spec) (*Set, []Problem) {
	c, err := newCompiler()
	if err != nil {
		return nil, []Problem{{Message: err.Error()}} // the environment is ours: a test keeps this from happening
	}
	set := &Set{failures: c.failures}
	var problems []Problem
	for i, s := range specs {
		p := &Policy{Settings: s.Settings, Index: i, Match: s.Match}
		if p.pattern, err = compilePattern(s.Match); err != nil {
			problems = append(problems, Problem{Index: i, Field: "match", Message: err.Error()})
			p.pattern = &pattern{}
		}
		for act, expr := range [actions]string{s.Create, s.Join, s.Publish, s.Moderate} {
			a := Action(act)
			r, prob := c.rule(a, expr)
			if prob != nil {
				prob.Index, prob.Field = i, a.String()
				problems = append(problems, *prob)
				continue
			}
			r.path = fmt.Sprintf("rooms[%d].%s", i, a)
			if r.prog != nil {
				if prob := r.prog.checkParams(p.pattern.names); prob != nil {
					prob.Index, prob.Field = i, a.String()
					problems = append(problems, *prob)
				}
			}
			p.rules[a] = *r
		}
		set.policies = append(set.policies, p)
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return set, nil
}

func (c *compiler) rule(a Action, expr string) (*rule, *Problem) {
	expr = strings.TrimSpace(expr)
	if expr == "" {
		expr = defaults[a]
	}
	if word(expr) && expr != "true" && expr != "false" {
		k, ok := keywords[expr]
		switch {
		case !ok:
			return nil, &Problem{Message: fmt.Sprintf("no keyword %q: a bare word is anyone, authenticated, members or nobody%s; anything else is a CEL expression", expr, didYouMean(expr, keywordNames()))}
		case k == members && (a == Create || a == Join):
			return nil, &Problem{Message: fmt.Sprintf("%q makes no sense here: nobody is a member before they join", expr)}
		}
		return &rule{expr: expr, keyword: k}, nil
	}
	prog, prob := c.compile(expr)
	if prob != nil {
		return nil, prob
	}
	return &rule{expr: expr, prog: prog}, nil
}

func keywordNames() []string {
	var names []string
	for k := range keywords {
		names = append(names, k)
	}
	slices.Sort(names)
	return names
}

func word(s string) bool {
	for _, r := range s {
		if r != '_' && r != '-' && (r < '0' || r > '9') && (r|0x20 < 'a' || r|0x20 > 'z') {
			return false
		}
	}
	return true
}

// didYouMean suggests the nearest name, if one is near.
func didYouMean(s string, names []string) string {
	best, at := "", 3 // three edits and more are another word
	for _, n := range names {
		if d := distance(s, n); d < at && d < len(n) {
			best, at = n, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %q?)", best)
}

// distance is the Levenshtein distance of two short words.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diag := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			diag, row[j] = row[j], min(row[j]+1, row[j-1]+1, diag+cost)
		}
	}
	return row[len(b)]
}
