package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/wsrelay/relay/auth"
	"github.com/wsrelay/relay/config"
	"github.com/wsrelay/relay/telemetry"
)

func keyCommand() *cobra.Command {
	var roles []string
	cmd := &cobra.Command{
		Use:   "key NAME",
		Short: "Make an API key for a server",
		Long: `Make an API key for a server.

The key itself is printed once, for the server to keep; relay.yaml gets its hash
only, from which the key cannot be found.`,
		Example: "  relay key billing --role service",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			key, hash := auth.NewAPIKey()
			list, err := json.Marshal(append([]string{}, roles...))
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			fmt.Fprintf(out, "key for %s, shown only now: %s\n\n", args[0], key)
			fmt.Fprintf(out, "# relay.yaml, under auth:\nservers:\n  type: apikey\n  keys:\n    %s: {hash: %q, roles: %s}\n", args[0], hash, list)
			return nil
		},
	}
	cmd.Flags().StringSliceVar(&roles, "role", nil, "role that the key brings; may be given several times")
	return cmd
}

func tokenCommand(env Env) *cobra.Command {
	var (
		file, name, id, display string
		roles                   []string
		claims                  string
		ttl                     time.Duration
		debug                   bool
	)
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Make a development token for an authenticator with a shared secret",
		Long: `Make a development token for an authenticator with a shared secret.

It is signed with the secret in relay.yaml (HS256), so that it is accepted like
one of your issuer's. Authenticators with public keys need their issuer.

With --debug, make a debug token instead, signed with admin.key: a connection
that brings it in its Relay-Debug header has all its messages traced, down to
the write to each receiver.`,
		Example: `  relay token -c relay.yaml --user ann --claims '{"teams":["billing"]}'
  relay chat URL --debug "$(relay token -c relay.yaml --debug --ttl 10m)"`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, _, err := load(env, file)
			if err != nil {
				return err
			}
			if debug {
				return debugToken(cmd.OutOrStdout(), cfg, ttl)
			}
			t := tokenRequest{auth: name, user: id, name: display, roles: roles, ttl: ttl}
			if claims != "" {
				if err := json.Unmarshal([]byte(claims), &t.claims); err != nil {
					return usageError{fmt.Errorf("--claims: must be a JSON object: %w", err), cmd.CommandPath()}
				}
			}
			token, err := t.sign(cfg)
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), token)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVarP(&file, "config", "c", "relay.yaml", "configuration file")
	f.StringVar(&name, "auth", "", "authenticator; default: the only one with a secret")
	f.StringVar(&id, "user", "dev", "user id")
	f.StringVar(&display, "name", "", "user name")
	f.StringSliceVar(&roles, "role", nil, "role; may be given several times")
	f.StringVar(&claims, "claims", "", "further claims, a JSON object")
	f.DurationVar(&ttl, "ttl", time.Hour, "how long the token is good for")
	f.BoolVar(&debug, "debug", false, "make a debug token, which lets messages be traced")
	return cmd
}

func debugToken(out io.Writer, cfg *config.Config, ttl time.Duration) error {
	key, err := telemetry.NewDebugKey(cfg.Admin.Key.Reveal())
	if err != nil {
		return err
	}
	now := time.Now()
	token, err := key.Sign(now, now.Add(ttl))
	if err != nil {
		return err
	}
	fmt.Fprintln(out, token)
	return nil
}
