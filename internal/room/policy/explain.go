package policy

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"cel.dev/cel-go/common"
)

// macros are what CEL expands before it looks for functions.
var macros = map[string]bool{"has": true, "all": true, "exists": true, "exists_one": true, "map": true, "filter": true}

// explain turns CEL's errors into problems: one line each, that says what to
// write instead. After a syntax error the rest is guesswork, so it stands alone.
func (c *compiler) explain(expr string, errs []*common.Error) []Problem {
	runes := []rune(expr)
	var problems []Problem
	for _, e := range errs {
		at := min(offset(runes, e.Location), len(runes))
		text := strings.Join(strings.Fields(e.Message), " ")
		if msg, ok := strings.CutPrefix(text, "Syntax error: "); ok {
			msg, at = syntax(msg, runes, at)
			return []Problem{{Offset: at, Message: msg}}
		}
		msg, at := c.mistake(text, runes, at)
		if p := (Problem{Offset: at, Message: msg}); !slices.Contains(problems, p) {
			problems = append(problems, p)
		}
	}
	return problems
}

// offset is the place of a line and column, both as CEL counts: lines from 1,
// columns from 0.
func offset(runes []rune, l common.Location) int {
	at := 0
	for line := 1; line < l.Line() && at < len(runes); at++ {
		if runes[at] == '\n' {
			line++
		}
	}
	return at + max(l.Column(), 0)
}

var (
	badToken   = regexp.MustCompile(`^token recognition error at: '(.+)'`)
	unexpected = regexp.MustCompile(`^(?:mismatched|extraneous) input '(.*?)' expecting`)
	missing    = regexp.MustCompile(`^missing '(.)' at`)
	undeclared = regexp.MustCompile(`^undeclared reference to '([^']*)'`)
	noField    = regexp.MustCompile(`^undefined field '([^']*)'`)
	noOverload = regexp.MustCompile(`^found no matching overload for '([^']*)' applied to '(.*)'$`)
	wrongType  = regexp.MustCompile(`^expected type '(.*)' but found '(.*)'$`)
	noSelect   = regexp.MustCompile(`^type '(.*)' does not support field selection$`)
)

// syntax says in plain words what CEL's grammar stumbled over.
func syntax(msg string, runes []rune, at int) (string, int) {
	if m := missing.FindStringSubmatch(msg); m != nil {
		return fmt.Sprintf("a %s is missing", m[1]), at
	}
	if m := badToken.FindStringSubmatch(msg); m != nil {
		switch r, _ := utf8.DecodeRuneInString(m[1]); r {
		case '=':
			if at > 1 && runes[at-1] == '=' {
				return "write == to compare", at - 2
			}
			return "write == to compare", at
		case '\'', '"':
			return fmt.Sprintf("the text that starts here has no closing %c", r), at
		case '‘', '’', '“', '”':
			return fmt.Sprintf("%c does not quote text: write ' instead", r), at
		case '&', '|':
			return fmt.Sprintf("write %c%c", r, r), at
		default:
			return fmt.Sprintf("%c means nothing here", r), at
		}
	}
	m := unexpected.FindStringSubmatch(msg)
	switch {
	case m == nil:
		return "CEL says: " + msg, at
	case m[1] == "" || m[1] == "<EOF>":
		return "the expression ends where something should follow", at
	}
	// A word that is an operator elsewhere may be the culprit, or the one before.
	for _, w := range []struct{ word, cel string }{{"and", "&&"}, {"or", "||"}, {"not", "!"}, {"is", "=="}} {
		if m[1] == w.word {
			return fmt.Sprintf("write %s instead of %s", w.cel, w.word), at
		}
		if before := strings.TrimRight(string(runes[:at]), " "); before == w.word || strings.HasSuffix(before, " "+w.word) {
			return fmt.Sprintf("write %s instead of %s", w.cel, w.word), utf8.RuneCountInString(before) - len(w.word)
		}
	}
	switch m[1][:1] {
	case ")", "]", "}":
		return fmt.Sprintf("a %s too many", m[1]), at
	case "`":
		return "` does not quote text: write ' instead", at
	}
	return fmt.Sprintf("did not expect %s here: an operator such as &&, ||, == or in may be missing", m[1]), at
}

// mistake says what is wrong with an expression that parses, and where.
func (c *compiler) mistake(msg string, runes []rune, at int) (string, int) {
	if m := undeclared.FindStringSubmatch(msg); m != nil {
		at = locate(runes, at, m[1])
		if rest := string(runes[at:]); strings.HasPrefix(rest, m[1]+"(") {
			return fmt.Sprintf("there is no function %s()%s", m[1], didYouMean(m[1], c.functions)), at
		}
		if near := didYouMean(m[1], variableNames); near != "" {
			return fmt.Sprintf("there is no %q%s", m[1], near), at
		}
		return fmt.Sprintf("there is no %q: write '%s' if it is text; there are %s", m[1], m[1], strings.Join(variableNames, ", ")), at
	}
	if m := noField.FindStringSubmatch(msg); m != nil {
		at = locate(runes, at, m[1])
		of := owner(string(runes[:at]))
		fields := variables[of]
		return fmt.Sprintf("%s has no field %q%s: it has %s", of, m[1], didYouMean(m[1], fields), strings.Join(fields, ", ")), at
	}
	if m := noOverload.FindStringSubmatch(msg); m != nil {
		return overload(m[1], typeName(m[2])), at
	}
	if m := wrongType.FindStringSubmatch(msg); m != nil {
		return fmt.Sprintf("this is %s, where %s is needed", typeName(m[2]), typeName(m[1])), at
	}
	if m := noSelect.FindStringSubmatch(msg); m != nil {
		return fmt.Sprintf("%s has no fields", typeName(m[1])), at
	}
	return typeName(msg), at
}

var variableNames = slices.Sorted(maps.Keys(variables))

// locate finds the start of a name near the place that CEL reports, which is
// the dot before a field and the parenthesis behind a function.
func locate(runes []rune, at int, name string) int {
	if strings.HasSuffix(string(runes[:at]), name) {
		return at - utf8.RuneCountInString(name)
	}
	if i := strings.Index(string(runes[at:]), name); i >= 0 {
		return at + utf8.RuneCountInString(string(runes[at:])[:i])
	}
	return at
}

// owner is the variable that a field at the end of before is selected from. Only
// the variables have fields that can be undefined.
func owner(before string) string {
	before = strings.TrimRight(before, " .?\n")
	for _, v := range variableNames {
		if strings.HasSuffix(before, v) {
			return v
		}
	}
	return "this"
}

// overload says which operator or function does not take which types, args
// being "(a, b)" or "target.(a)".
func overload(name, args string) string {
	target, list, isMethod := strings.Cut(args, ".(")
	if isMethod {
		hint := ""
		if name == "contains" && strings.HasPrefix(target, "list") {
			hint = ": write 'x' in … to look into a list"
		}
		return fmt.Sprintf("%s has no %s(%s%s", target, name, list, hint)
	}
	types := strings.TrimSuffix(strings.TrimPrefix(args, "("), ")")
	left, right, two := strings.Cut(types, ", ")
	op := strings.Trim(name, "_@")
	switch {
	case name == "@in":
		return fmt.Sprintf("in needs a list or a map on its right: this is %s in %s", left, right)
	case name == "_[_]":
		return fmt.Sprintf("%s cannot be indexed with %s", left, right)
	case two && strings.HasPrefix(name, "_"):
		return fmt.Sprintf("%s %s %s: the two do not go together", left, op, right)
	case strings.HasSuffix(name, "_"):
		return fmt.Sprintf("%s does not go with %s", op, types)
	default:
		return fmt.Sprintf("there is no %s(%s)", name, types)
	}
}

// typeName replaces the names of our Go types, which mean nothing to those who
// write rules.
func typeName(s string) string { return goTypes.Replace(s) }

var goTypes = strings.NewReplacer("policy.celUser", "user", "policy.celRoom", "room", "policy.celClient", "client")
