package auth

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// pointer is a parsed JSON pointer (RFC 6901) into the claims of a token.
type pointer []string

// parsePointer reads "/realm_access/roles". The empty pointer, which would be all
// of the claims, is refused: none of the mappings can use it.
func parsePointer(s string) (pointer, error) {
	if !strings.HasPrefix(s, "/") {
		return nil, fmt.Errorf("%q is no JSON pointer: it starts with a slash, as in %q", s, "/"+s)
	}
	steps := strings.Split(s[1:], "/")
	for i, step := range steps {
		plain, err := unescape(step)
		if err != nil {
			return nil, fmt.Errorf("%q is no JSON pointer: %w", s, err)
		}
		steps[i] = plain
	}
	return steps, nil
}

// unescape undoes ~1 and ~0, in this order (RFC 6901 section 4).
func unescape(step string) (string, error) {
	for i := 0; i < len(step); i++ {
		if step[i] == '~' && (i+1 == len(step) || (step[i+1] != '0' && step[i+1] != '1')) {
			return "", errors.New("~ is followed by 0 or 1 (RFC 6901)")
		}
	}
	return strings.ReplaceAll(strings.ReplaceAll(step, "~1", "/"), "~0", "~"), nil
}

// String is the form that parsePointer reads.
func (p pointer) String() string {
	var b strings.Builder
	for _, step := range p {
		b.WriteByte('/')
		b.WriteString(strings.ReplaceAll(strings.ReplaceAll(step, "~", "~0"), "/", "~1"))
	}
	return b.String()
}

// value finds what p points at; null counts as absent.
func (p pointer) value(doc any) (any, bool) {
	for _, step := range p {
		switch v := doc.(type) {
		case map[string]any:
			doc = v[step]
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i < 0 || i >= len(v) || strconv.Itoa(i) != step {
				return nil, false
			}
			doc = v[i]
		default:
			return nil, false
		}
	}
	return doc, doc != nil
}

// set puts value where p points, making the objects on the way.
func (p pointer) set(doc map[string]any, value any) error {
	for _, step := range p[:len(p)-1] {
		next, ok := doc[step].(map[string]any)
		if !ok {
			if doc[step] != nil {
				return fmt.Errorf("%s: %q is no object", p, step)
			}
			next = make(map[string]any)
			doc[step] = next
		}
		doc = next
	}
	doc[p[len(p)-1]] = value
	return nil
}
