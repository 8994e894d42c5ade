package filtertest

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/wsrelay/relay/plugins/filter"
)

// InProcess makes a plugin ready to judge within the test, and ends it with it.
// config is a JSON object, or empty.
func InProcess(t testing.TB, p filter.Plugin, config string) *Subject {
	t.Helper()
	return Start(t, Spec{Plugin: &p, Config: json.RawMessage(config)})
}

// Start opens a filter, and ends it with the test.
func Start(t testing.TB, spec Spec) *Subject {
	t.Helper()
	s, err := Open(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return s
}

// MustJudge asks about one message, and fails the test where there is no verdict.
func (s *Subject) MustJudge(t testing.TB, m Message) Answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	a, err := s.Judge(ctx, m)
	if err != nil {
		t.Fatal(err)
	}
	if a.Failure != "" {
		t.Fatalf("no verdict on %q: %s: %v", m.Text, a.Failure, a.Err)
	}
	return a
}

// RunTable runs the cases of a file, each as a test of its own.
func RunTable(t *testing.T, s *Subject, file string) {
	t.Helper()
	table, err := ReadTable(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range table.Cases {
		t.Run(c.Title(), func(t *testing.T) {
			differs, err := c.Run(t.Context(), s)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range differs {
				t.Error(d)
			}
		})
	}
}

// Conform runs Checks, each as a test of its own.
func Conform(t *testing.T, s Spec) {
	t.Helper()
	for _, c := range Checks(t.Context(), s) {
		t.Run(c.Name, func(t *testing.T) {
			if c.Err != nil {
				t.Error(c.Err)
			}
		})
	}
}
