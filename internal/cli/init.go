package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/wsrelay/relay/config"
	"github.com/wsrelay/relay/internal/app"
)

func initCommand(env Env) *cobra.Command {
	a := answers{}
	var out string
	var force bool
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Write a relay.yaml to start from",
		Long: `Write a relay.yaml to start from, with comments.

On a terminal it asks for what no flag says; otherwise it takes the flags, and
defaults for the rest. What it writes has been checked.`,
		Example: `  relay init --issuer https://id.example.com --audience chat --redis redis://localhost:6379/0`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f, ok := env.In.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
				if err := a.ask(cmd.InOrStdin(), cmd.OutOrStdout(), cmd.Flags().Changed); err != nil {
					return err
				}
			}
			text := a.yaml()
			cfg, src, err := config.Parse(out, []byte(text), env.Environ)
			if err == nil {
				err = app.Check(cmd.Context(), cfg, src)
			}
			if err != nil {
				return fmt.Errorf("what you gave makes no valid configuration:\n%w", err)
			}
			return write(cmd.OutOrStdout(), out, text, force)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&out, "output", "o", defaultFile, "file to write; - for standard output")
	f.BoolVar(&force, "force", false, "write over a file that is there")
	f.StringVar(&a.issuer, "issuer", "", "URL of your token issuer (OIDC); none: guests only")
	f.StringVar(&a.audience, "audience", "", "audience of your tokens; default: relay")
	f.BoolVar(&a.guests, "guests", false, "let guests in beside users")
	f.StringVar(&a.redis, "redis", "", "URL of Redis; none: one instance, in memory")
	f.StringVar(&a.origin, "origin", "", "page that may connect, such as https://app.example.com; default: the same host")
	f.StringVar(&a.listen, "listen", "127.0.0.1:5000", "address that clients connect to")
	return cmd
}

// answers are what init needs to know.
type answers struct {
	issuer, audience, redis, origin, listen string
	guests                                  bool
}

func (a *answers) ask(in io.Reader, out io.Writer, given func(string) bool) error {
	r := bufio.NewReader(in)
	question := func(flag, text string, into *string) error {
		if given(flag) {
			return nil
		}
		fmt.Fprintf(out, "%s [%s]: ", text, *into)
		line, err := r.ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("reading your answer: %w", err)
		}
		if s := strings.TrimSpace(line); s != "" {
			*into = s
		}
		return nil
	}
	err := errors.Join(
		question("listen", "Address that clients connect to", &a.listen),
		question("issuer", "URL of your token issuer, empty for guests only", &a.issuer),
	)
	if err == nil && a.issuer != "" {
		err = question("audience", "Audience of its tokens", &a.audience)
	}
	return errors.Join(err,
		question("redis", "URL of Redis, empty for one instance in memory", &a.redis),
		question("origin", "Page that may connect, empty for the same host", &a.origin),
	)
}

// yaml writes the configuration. Texts are quoted as YAML's double-quoted
// style, which has Go's escapes.
func (a *answers) yaml() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# Made by relay init. Every key: docs/config.md. Check changes with: relay check relay.yaml")
	line("")
	line("listen: %q", a.listen)
	line("")
	if a.redis != "" {
		line("# Where instances meet.")
		a.writeRedis(line)
	} else {
		line("# One instance, in memory. With Redis, any number of instances are one relay:")
		line("# redis: {url: \"redis://localhost:6379/0\"}")
	}
	line("")
	line("endpoints:")
	line("  - path: /ws")
	line("    auth: [%s]", strings.Join(a.auths(), ", "))
	if a.origin != "" {
		line("    origins: [%q]", a.origin)
	} else {
		line("    # origins: [\"https://app.example.com\"]   # pages that may connect; default: the same host")
	}
	line("")
	line("auth:")
	if a.issuer != "" {
		audience := a.audience
		if audience == "" {
			audience = "relay"
		}
		line("  # Your users. The issuer's keys are found by OIDC discovery.")
		line("  users: {type: jwt, issuer: %q, audience: %q}", a.issuer, audience)
	}
	if a.issuer == "" || a.guests {
		line("  # Everyone, under the name they give themselves.")
		line("  guests: {type: anonymous}")
	}
	who := "authenticated"
	if a.issuer == "" || a.guests {
		who = "anyone"
	}
	line("")
	line("# The first match wins; a room that none matches is forbidden.")
	line("rooms:")
	line("  - match: \"*\"")
	line("    create: %s           # anyone | authenticated | nobody, or an expression", who)
	line("    join: %s", who)
	line("    messages: {max_size: 16KiB, rate: 10/s, burst: 20}")
	line("    history: {keep: 200, for: 24h}    # leave out for plain pub/sub")
	return b.String()
}

// writeRedis keeps a password out of the file.
func (a *answers) writeRedis(line func(string, ...any)) {
	u, err := url.Parse(a.redis)
	if err != nil || u.User == nil {
		line("redis: {url: %q}", a.redis)
		return
	}
	if _, has := u.User.Password(); !has {
		line("redis: {url: %q}", a.redis)
		return
	}
	user := u.User.Username()
	u.User = nil
	line("redis:")
	line("  url: %q", u.String())
	if user != "" {
		line("  user: %q", user)
	}
	line("  password: \"${REDIS_PASSWORD:-}\"    # the one you gave is not written down: set the variable")
}

func (a *answers) auths() []string {
	switch {
	case a.issuer == "":
		return []string{"guests"}
	case a.guests:
		return []string{"users", "guests"}
	default:
		return []string{"users"}
	}
}

func write(out io.Writer, file, text string, force bool) error {
	if file == "-" {
		_, err := io.WriteString(out, text)
		return err
	}
	flags := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if force {
		flags = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	}
	f, err := os.OpenFile(file, flags, 0o644)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%s is there already: use --force to write over it, or -o for another name", file)
	}
	if err != nil {
		return err
	}
	if _, err := io.WriteString(f, text); err != nil {
		_ = f.Close() // the write's error says more
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	fmt.Fprintf(out, "wrote %s; now: relay serve -c %s\n", file, file)
	return nil
}
