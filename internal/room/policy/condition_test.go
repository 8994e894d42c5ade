package policy

import (
	"testing"

	"github.com/wsrelay/relay/auth"
)

func TestConditions(t *testing.T) {
	c, problems := CompileCondition("'moderator' in user.roles || user.claims.trusted")
	if problems != nil {
		t.Fatal(problems)
	}
	for _, x := range []struct {
		user *auth.Identity
		want bool
	}{
		{&auth.Identity{ID: "a", Roles: []string{"moderator"}}, true},
		{&auth.Identity{ID: "b", Claims: map[string]any{"trusted": true}}, true},
		{&auth.Identity{ID: "c", Claims: map[string]any{"trusted": "yes"}}, false},
		{&auth.Identity{ID: "d"}, false},
		{nil, false},
	} {
		if got := c.Holds(&Input{User: x.user, RoomID: "r"}); got != x.want {
			t.Errorf("%+v: %v", x.user, got)
		}
	}
	if c.Failures().Missing.Load() == 0 {
		t.Error("a missing claim was not counted")
	}
	for _, bad := range []string{"", "anyone", "user.nmae == 'x'", "1 + 1"} {
		if _, problems := CompileCondition(bad); problems == nil {
			t.Errorf("%q compiles", bad)
		}
	}
}
