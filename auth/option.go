package auth

import (
	"errors"
	"fmt"
	"strings"
)

// OptionError is a problem with one option of an authenticator. Field is its path
// in relay.yaml below the authenticator's own key ("audience", "algorithms[1]",
// "keys.billing.hash"), so that whoever read the file can add the line.
type OptionError struct {
	Field string
	Err   error
}

// Error names the field and the problem.
func (e *OptionError) Error() string { return e.Field + ": " + e.Err.Error() }

// Unwrap returns the problem without the field.
func (e *OptionError) Unwrap() error { return e.Err }

// OptionErrors is every problem of an authenticator's options in one go; New…
// functions return nothing else. Find it with errors.As.
type OptionErrors []*OptionError

// Error lists the problems, one a line.
func (l OptionErrors) Error() string {
	lines := make([]string, len(l))
	for i, e := range l {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.Is and errors.As look at each.
func (l OptionErrors) Unwrap() []error {
	list := make([]error, len(l))
	for i, e := range l {
		list[i] = e
	}
	return list
}

func (l *OptionErrors) add(field, format string, args ...any) {
	*l = append(*l, &OptionError{Field: field, Err: fmt.Errorf(format, args...)})
}

// adopt takes over err, which may be nil, an OptionErrors or a plain error.
func (l *OptionErrors) adopt(field string, err error) {
	var list OptionErrors
	switch {
	case err == nil:
	case errors.As(err, &list):
		*l = append(*l, list...)
	default:
		*l = append(*l, &OptionError{Field: field, Err: err})
	}
}

// err is nil when there was no problem: a typed nil would not be.
func (l OptionErrors) err() error {
	if len(l) == 0 {
		return nil
	}
	return l
}

// Secret is an option's value that must not be seen: every way of formatting it
// prints [redacted].
type Secret string

const redacted = "[redacted]"

// String implements fmt.Stringer.
func (Secret) String() string { return redacted }

// GoString implements fmt.GoStringer.
func (Secret) GoString() string { return redacted }

// MarshalText keeps it out of JSON and of slog's handlers.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
