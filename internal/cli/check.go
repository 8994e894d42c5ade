package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/wsrelay/relay/auth"
	"github.com/wsrelay/relay/config"
	"github.com/wsrelay/relay/internal/app"
	"github.com/wsrelay/relay/internal/room/policy"
)

func checkCommand(env Env) *cobra.Command {
	var as string
	var member bool
	cmd := &cobra.Command{
		Use:   "check FILE [create|join|publish|moderate ROOM]",
		Short: "Find the mistakes in a configuration, or who may do what under it",
		Long: `Find the mistakes in a configuration: all of them, each with its line.

With an action and a room, tell whether somebody may do that, and which line
decided. --as names a file with the claims of a token (or a user as
{"id", "roles", "claims", "guest"}); without it, a guest asks.`,
		Example: `  relay check relay.yaml
  relay check relay.yaml --as claims.json join support-42`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 && len(args) != 3 {
				return fmt.Errorf("wants FILE, or FILE ACTION ROOM; got %d arguments", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, src, err := load(env, args[0])
			if err != nil {
				return err
			}
			if err := app.Check(cmd.Context(), cfg, src); err != nil {
				return err
			}
			if len(args) == 1 {
				fmt.Fprintf(cmd.OutOrStdout(), "%s: ok: %d endpoints, %d auth, %d room policies\n", args[0], len(cfg.Endpoints), len(cfg.Auth), len(cfg.Rooms))
				return nil
			}
			q := question{cfg: cfg, src: src, action: args[1], room: args[2], as: as, member: member}
			return q.answer(cmd)
		},
	}
	cmd.Flags().StringVar(&as, "as", "", "file with claims, as JSON")
	cmd.Flags().BoolVar(&member, "member", false, "the user is in the room already")
	return cmd
}

// question is whether somebody may do something.
type question struct {
	cfg          *config.Config
	src          *config.Source
	action, room string
	as           string
	member       bool
}

var actions = map[string]policy.Action{"create": policy.Create, "join": policy.Join, "publish": policy.Publish, "moderate": policy.Moderate}

func (q *question) answer(cmd *cobra.Command) error {
	act, ok := actions[q.action]
	if !ok {
		return usageError{fmt.Errorf("no action %q: create, join, publish or moderate", q.action), cmd.CommandPath()}
	}
	user, err := q.user()
	if err != nil {
		return err
	}
	set, err := app.Policies(q.cfg, q.src)
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	p, params := set.Match(q.room)
	if p == nil {
		fmt.Fprintf(out, "denied: no entry of rooms matches %q, and what none matches is forbidden\n", q.room)
		return quietError{fmt.Errorf("denied")}
	}
	d := p.Allow(act, &policy.Input{
		User: user, RoomID: q.room, Params: params, Member: q.member, Endpoint: q.cfg.Endpoints[0].Path, ClientIP: "127.0.0.1",
	})
	at := q.src.Problem(d.Rule, fmt.Sprintf("%s: %s", d.Expr, d.Why))
	if !d.Allowed {
		fmt.Fprintf(out, "denied: %s may not %s %s\n  %s\n", user.ID, q.action, q.room, at)
		return quietError{fmt.Errorf("denied")}
	}
	fmt.Fprintf(out, "allowed: %s may %s %s\n  %s\n", user.ID, q.action, q.room, at)
	return nil
}

// user makes an identity of the claims file: through the claim pointers of the
// first jwt authenticator, as a token with these claims would be, or as it is
// if it looks like a user.
func (q *question) user() (*auth.Identity, error) {
	if q.as == "" {
		return &auth.Identity{ID: auth.GuestPrefix + "somebody", Guest: true}, nil
	}
	b, err := os.ReadFile(q.as)
	if err != nil {
		return nil, fmt.Errorf("reading claims: %w", err)
	}
	var u struct {
		ID     string         `json:"id"`
		Name   string         `json:"name"`
		Roles  []string       `json:"roles"`
		Claims map[string]any `json:"claims"`
		Guest  bool           `json:"guest"`
	}
	var claims map[string]any
	if err := json.Unmarshal(b, &claims); err != nil {
		return nil, fmt.Errorf("reading claims: %s: must be a JSON object: %w", q.as, err)
	}
	if _, isUser := claims["id"]; isUser {
		if err := json.Unmarshal(b, &u); err != nil {
			return nil, fmt.Errorf("reading claims: %s: %w", q.as, err)
		}
		return &auth.Identity{ID: u.ID, Name: u.Name, Roles: u.Roles, Claims: u.Claims, Guest: u.Guest}, nil
	}
	pointers := config.Auth{}.User
	pointers.ID, pointers.Name = "/sub", "/name"
	for _, a := range q.cfg.Auth {
		if a.Type == config.AuthJWT {
			pointers = a.User
		}
	}
	id := &auth.Identity{Claims: claims}
	id.ID, _ = at(claims, pointers.ID).(string)
	id.Name, _ = at(claims, pointers.Name).(string)
	switch r := at(claims, pointers.Roles).(type) {
	case string:
		id.Roles = strings.Fields(r)
	case []any:
		for _, x := range r {
			if s, ok := x.(string); ok {
				id.Roles = append(id.Roles, s)
			}
		}
	}
	return id, nil
}

// at follows a JSON pointer (RFC 6901) through objects.
func at(claims map[string]any, pointer string) any {
	var v any = claims
	for part := range strings.SplitSeq(strings.TrimPrefix(pointer, "/"), "/") {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[strings.NewReplacer("~1", "/", "~0", "~").Replace(part)]
	}
	return v
}

func schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of relay.yaml, for editors",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := cmd.OutOrStdout().Write(config.Schema())
			return err
		},
	}
}
