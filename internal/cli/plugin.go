package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/wsrelay/relay/plugins"
	"github.com/wsrelay/relay/plugins/filtertest"
)

func pluginCommand(env Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "plugin",
		Short: "Write, test and pin moderation plugins",
		Long: `Write, test and pin moderation plugins. PLUGIN is a program, a .py or .js file, or
a folder with a Go program, which is built first.`,
	}
	cmd.AddCommand(pluginNewCommand(), pluginCheckCommand(env), pluginTestCommand(env), pluginBenchCommand(env), pluginPinCommand(), pluginReplayCommand(env))
	return cmd
}

// pluginArg is a plugin on the command line.
type pluginArg struct {
	config  string
	verbose bool
}

func (p *pluginArg) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.config, "set", "", "configuration of the plugin, a JSON object, or @FILE with one")
	cmd.Flags().BoolVarP(&p.verbose, "verbose", "v", false, "show what the plugin prints")
}

// spec is how the plugin is run. done removes what was built.
func (p *pluginArg) spec(ctx context.Context, env Env, path string) (spec filtertest.Spec, done func(), err error) {
	command, plain, done, err := runnable(ctx, path)
	if err != nil {
		return spec, done, err
	}
	spec = filtertest.Spec{Command: command, Plain: plain}
	if p.verbose {
		spec.Log = slog.New(slog.NewTextHandler(env.Err, nil))
	}
	raw := p.config
	if file, ok := strings.CutPrefix(raw, "@"); ok {
		b, err := os.ReadFile(file)
		if err != nil {
			return spec, done, fmt.Errorf("--set: %w", err)
		}
		raw = string(b)
	}
	if raw != "" && !json.Valid([]byte(raw)) {
		return spec, done, errors.New("--set: must be a JSON object")
	}
	spec.Config = json.RawMessage(raw)
	return spec, done, nil
}

// runnable is the command of a plugin on the command line.
func runnable(ctx context.Context, path string) (command []string, plain bool, done func(), err error) {
	d, err := newDevFilters([]string{path})
	if err != nil {
		return nil, false, func() {}, err
	}
	f := d.list[0]
	if f.goDir {
		if err := d.compile(ctx, f); err != nil {
			d.close()
			return nil, false, func() {}, err
		}
	}
	return f.run, f.mtls == "off", d.close, nil
}

// closing ends a subject within a bound, whatever became of the command.
func closing(s *filtertest.Subject, err *error) {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	*err = errors.Join(*err, s.Close(ctx))
}

func pluginCheckCommand(env Env) *cobra.Command {
	var p pluginArg
	cmd := &cobra.Command{
		Use:     "check PLUGIN",
		Short:   "Tell what a plugin is, and hold it to the contract",
		Example: "  relay plugin check ./profanity --set '{\"words\": [\"darn\"]}'",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			spec, done, err := p.spec(cmd.Context(), env, args[0])
			defer done()
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if err := describePlugin(cmd.Context(), out, spec); err != nil {
				return err
			}
			failed := 0
			for _, c := range filtertest.Checks(cmd.Context(), spec) {
				if c.Err == nil {
					fmt.Fprintf(out, "ok    %s\n", c.Name)
					continue
				}
				failed++
				fmt.Fprintf(out, "FAIL  %s\n      %s\n", c.Name, strings.ReplaceAll(c.Err.Error(), "\n", "\n      "))
			}
			if failed > 0 {
				return quietError{fmt.Errorf("%d checks failed", failed)}
			}
			return nil
		},
	}
	p.flags(cmd)
	return cmd
}

// describePlugin prints what a plugin says of itself.
func describePlugin(ctx context.Context, out io.Writer, spec filtertest.Spec) (err error) {
	s, err := filtertest.Open(ctx, spec)
	if err != nil {
		return err
	}
	defer closing(s, &err)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "plugin\t%s %s\n", s.Name, s.Version)
	fmt.Fprintf(w, "judges\t%s\n", words(s.Events))
	most := words(s.Actions)
	if len(s.Sanctions) > 0 {
		most += ", " + words(s.Sanctions)
	}
	fmt.Fprintf(w, "may\t%s\n", most)
	fmt.Fprintf(w, "asked again after a crash\t%v\n", s.Stateless)
	if len(s.Schema) > 0 {
		fmt.Fprintf(w, "configuration\t%s\n", s.Schema)
	}
	fmt.Fprintln(w)
	return w.Flush()
}

func words[T fmt.Stringer](list []T) string {
	s := make([]string, len(list))
	for i, x := range list {
		s[i] = x.String()
	}
	return strings.Join(s, ", ")
}

func pluginTestCommand(env Env) *cobra.Command {
	var p pluginArg
	cmd := &cobra.Command{
		Use:     "test PLUGIN TABLE.yaml",
		Short:   "Run a table of messages and expected verdicts",
		Example: "  relay plugin test ./profanity table.yaml",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			spec, done, err := p.spec(cmd.Context(), env, args[0])
			defer done()
			if err != nil {
				return err
			}
			table, err := filtertest.ReadTable(args[1])
			if err != nil {
				return err
			}
			if len(spec.Config) == 0 {
				if spec.Config, err = table.ConfigJSON(); err != nil {
					return err
				}
			}
			s, err := filtertest.Open(cmd.Context(), spec)
			if err != nil {
				return err
			}
			defer closing(s, &err)
			out, failed := cmd.OutOrStdout(), 0
			for _, c := range table.Cases {
				differs, err := c.Run(cmd.Context(), s)
				if err != nil {
					return fmt.Errorf("%s: %w", c.Title(), err)
				}
				if len(differs) == 0 {
					fmt.Fprintf(out, "ok    %s\n", c.Title())
					continue
				}
				failed++
				fmt.Fprintf(out, "FAIL  %s\n      %s\n", c.Title(), strings.Join(differs, "\n      "))
			}
			fmt.Fprintf(out, "\n%d of %d as wanted\n", len(table.Cases)-failed, len(table.Cases))
			if failed > 0 {
				return quietError{fmt.Errorf("%d cases failed", failed)}
			}
			return nil
		},
	}
	p.flags(cmd)
	return cmd
}

func pluginBenchCommand(env Env) *cobra.Command {
	var (
		p       pluginArg
		senders []int
		length  time.Duration
		text    string
	)
	cmd := &cobra.Command{
		Use:     "bench PLUGIN",
		Short:   "Measure how fast a plugin judges",
		Example: "  relay plugin bench ./profanity --senders 1,64",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			spec, done, err := p.spec(cmd.Context(), env, args[0])
			defer done()
			if err != nil {
				return err
			}
			s, err := filtertest.Open(cmd.Context(), spec)
			if err != nil {
				return err
			}
			defer closing(s, &err)
			for _, n := range senders {
				speed, err := filtertest.Bench(cmd.Context(), s, filtertest.Load{Senders: n, For: length, Message: filtertest.Message{Text: text}})
				if err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%4d senders: %s\n", n, speed)
			}
			return nil
		},
	}
	p.flags(cmd)
	cmd.Flags().IntSliceVar(&senders, "senders", []int{1, 8, 64, 512}, "how many wait for a verdict at a time")
	cmd.Flags().DurationVar(&length, "for", 3*time.Second, "time for each")
	cmd.Flags().StringVar(&text, "text", "a message of ordinary length, as people write them all day", "the message")
	return cmd
}

func pluginPinCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "pin FILE...",
		Short: "Print the lines of relay.yaml that pin files to their contents",
		Long: `Print the lines of relay.yaml that pin files to their contents: the program, and
whatever else decides what it does, such as the scripts of an interpreter.`,
		Example: "  relay plugin pin ./filters/profanity",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var b strings.Builder
			b.WriteString("sha256:\n")
			for _, file := range args {
				sum, err := plugins.Sum(file)
				if err != nil {
					return err
				}
				name, err := json.Marshal(file)
				if err != nil {
					return err
				}
				fmt.Fprintf(&b, "  %s: [%q]\n", name, sum)
			}
			_, err := io.WriteString(cmd.OutOrStdout(), b.String())
			return err
		},
	}
}
