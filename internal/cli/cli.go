// Package cli is relay's command line.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/wsrelay/relay/config"
)

// Exit statuses.
const (
	exitDone  = 0
	exitError = 1 // it was tried, and went wrong
	exitUsage = 2 // it was asked for wrongly
)

// Env is what a command sees of the process.
type Env struct {
	Args    []string
	In      io.Reader
	Out     io.Writer
	Err     io.Writer
	Environ []string // NAME=value, for the configuration
	Sample  []byte   // the annotated relay.yaml
}

// Run carries out a command line and returns the exit status. ctx ends when the
// process is asked to stop.
func Run(ctx context.Context, env Env) int {
	root := rootCommand(env)
	root.SetArgs(env.Args)
	root.SetIn(env.In)
	root.SetOut(env.Out)
	root.SetErr(env.Err)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	var quiet quietError
	var mistakes *config.Errors
	switch {
	case errors.As(err, &quiet):
	case errors.As(err, &mistakes): // each has its own line and says where it is
		fmt.Fprintln(env.Err, err)
	default:
		fmt.Fprintf(env.Err, "relay: %v\n", err)
	}
	var usage usageError
	if errors.As(err, &usage) {
		fmt.Fprintf(env.Err, "See `%s --help`.\n", usage.command)
		return exitUsage
	}
	return exitError
}

// usageError is a command line that makes no sense.
type usageError struct {
	error
	command string
}

func (e usageError) Unwrap() error { return e.error }

// quietError has told its story already.
type quietError struct{ error }

func rootCommand(env Env) *cobra.Command {
	serve := &serveCommand{env: env}
	root := &cobra.Command{
		Use:   "relay",
		Short: "WebSocket rooms from one binary and one YAML file",
		Long: `relay gives an application rooms, members and live messages over WebSockets.

Without a command it serves: with a relay.yaml in this folder from that, else in
dev mode, on loopback only, open to everyone who gets there, with a page to try it.`,
		Example: `  relay                          try it
  relay init                     write a relay.yaml
  relay check relay.yaml         find its mistakes
  relay serve -c relay.yaml      run it`,
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return serve.run(cmd.Context()) },
	}
	serve.flags(root)
	root.AddCommand(
		serve.command(), checkCommand(env), initCommand(env), schemaCommand(), tokenCommand(env), keyCommand(),
		pluginCommand(env), filtersCommand(env), sanctionsCommand(env), chatCommand(env), benchCommand(), doctorCommand(env), versionCommand(),
	)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usageError{err, cmd.CommandPath()} })
	checkArgs(root)
	return root
}

// checkArgs makes wrong arguments usage errors, in every command.
func checkArgs(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return usageError{err, cmd.CommandPath()}
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		checkArgs(sub)
	}
}
