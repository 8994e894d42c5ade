package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one mistake. Line and Col count from 1 and are 0 where the mistake
// stands in the environment or nowhere in particular.
type Problem struct {
	File    string
	Line    int
	Col     int
	Env     string // name of the variable that holds the mistake
	Path    string // such as endpoints[0].auth
	Message string
}

// String is one line, such as
//
//	relay.yaml:12:7: endpoints[0].auth: no auth named "jwtt" (did you mean "jwt"?)
func (p Problem) String() string {
	var b strings.Builder
	switch {
	case p.Env != "":
		fmt.Fprintf(&b, "environment %s: ", p.Env)
	case p.Line > 0:
		fmt.Fprintf(&b, "%s:%d:%d: ", p.File, p.Line, p.Col)
	case p.File != "":
		fmt.Fprintf(&b, "%s: ", p.File)
	}
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	b.WriteString(p.Message)
	return b.String()
}

// Errors is everything wrong with a configuration, in the order of the file.
type Errors struct{ Problems []Problem }

// NewErrors sorts problems into an error; nil for none.
func NewErrors(problems []Problem) error {
	if len(problems) == 0 {
		return nil
	}
	list := slices.Clone(problems)
	slices.SortStableFunc(list, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col), cmp.Compare(a.Path, b.Path))
	})
	return &Errors{slices.Compact(list)}
}

// Error has one line per problem.
func (e *Errors) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
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

// distance counts the edits between two short words: letters put in, taken out,
// changed, or swapped with the next (optimal string alignment).
func distance(a, b string) int {
	if len(a) > 64 {
		return len(a)
	}
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			d := min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d = min(d, rows[i-2][j-2]+1)
			}
			rows[i][j] = d
		}
	}
	return rows[len(a)][len(b)]
}
