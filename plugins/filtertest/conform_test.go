package filtertest_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/wsrelay/relay/plugins/filter"
	"github.com/wsrelay/relay/plugins/filtertest"
)

// failing are the names of the checks that a judge does not pass.
func failing(t *testing.T, judge filter.Judge) (list []string) {
	t.Helper()
	for _, c := range filtertest.Checks(t.Context(), filtertest.Spec{Plugin: &filter.Plugin{Judge: judge}}) {
		if c.Err != nil {
			list = append(list, c.Name)
		}
	}
	return list
}

func TestChecksPassAGoodFilterAndTellABadOne(t *testing.T) {
	allow := filter.Allow()
	for _, c := range []struct {
		name  string
		judge filter.Judge
		fails string // part of a check's name; empty: none
	}{
		{"good", func(context.Context, *filter.Message) (filter.Verdict, error) { return allow, nil }, ""},
		{"oversteps", func(_ context.Context, m *filter.Message) (filter.Verdict, error) {
			if strings.HasPrefix(m.Text(), "https:") {
				return filter.Shadow("link"), nil // not among the default actions
			}
			return allow, nil
		}, "says nothing that its description does not allow"},
		{"dislikes large bodies", func(_ context.Context, m *filter.Message) (filter.Verdict, error) {
			if len(m.Body) > 1<<20-16 {
				return allow, errors.New("too large for me")
			}
			return allow, nil
		}, "1 MiB"},
		{"panics without a text", func(_ context.Context, m *filter.Message) (filter.Verdict, error) {
			_ = m.Texts[0]
			return allow, nil
		}, "bodies of any JSON"},
		{"errs on empty texts", func(_ context.Context, m *filter.Message) (filter.Verdict, error) {
			if len(m.Texts) == 1 && m.Text() == "" {
				return allow, errors.New("nothing there")
			}
			return allow, nil
		}, "empty text"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := failing(t, c.judge)
			if c.fails == "" && len(got) > 0 || c.fails != "" && !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, c.fails) }) {
				t.Errorf("failing checks: %q, want one with %q", got, c.fails)
			}
			if len(got) > 1 {
				t.Errorf("failing checks: %q, want no others", got)
			}
		})
	}
}
