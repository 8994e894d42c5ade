package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/wsrelay/relay/auth"
	"github.com/wsrelay/relay/internal/app"
	"github.com/wsrelay/relay/internal/room"
	"github.com/wsrelay/relay/plugins"
	"github.com/wsrelay/relay/plugins/filter"
)

func filtersCommand(env Env) *cobra.Command {
	cmd := &cobra.Command{Use: "filters", Short: "Try the filters of a configuration"}
	cmd.AddCommand(tryCommand(env))
	return cmd
}

func tryCommand(env Env) *cobra.Command {
	var (
		file, roomID, id string
		roles            []string
		asJSON           bool
	)
	cmd := &cobra.Command{
		Use:   "try TEXT",
		Short: "Ask all filters of a room about a message",
		Long: `Ask all filters of a room about a message: each verdict, the time it took, and
what becomes of the message. Nothing is published, and sanctions have no effect.
The exit status is 1 where the message would not go through.`,
		Example: `  relay filters try -c relay.yaml --room lobby "buy cheap pills"
  relay filters try --room lobby --json '{"text": "hello", "reply_to": 7}'`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			body, err := bodyOf(args[0], asJSON)
			if err != nil {
				return usageError{err, cmd.CommandPath()}
			}
			cfg, src, err := load(env, file)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), time.Minute)
			defer cancel()
			t, err := app.NewTrial(ctx, cfg, src, roomID, slog.New(slog.DiscardHandler))
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, t.Close(ctx)) }()
			user := &auth.Identity{ID: id, Roles: roles}
			ruling, steps, err := t.Try(ctx, user, body)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			tellSteps(out, steps)
			return tellRuling(out, ruling)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&file, "config", "c", defaultFile, "configuration file")
	f.StringVar(&roomID, "room", "lobby", "room that the message is for")
	f.StringVar(&id, "user", "ann", "id of the user")
	f.StringSliceVar(&roles, "role", nil, "role of the user; may be given several times")
	f.BoolVar(&asJSON, "json", false, "TEXT is the message as JSON, not a text")
	return cmd
}

// bodyOf is a message as clients send it.
func bodyOf(arg string, asJSON bool) (json.RawMessage, error) {
	if !asJSON {
		return json.Marshal(arg)
	}
	if !json.Valid([]byte(arg)) {
		return nil, errors.New("--json: the message is not JSON")
	}
	return json.RawMessage(arg), nil
}

// tellSteps prints what each filter said.
func tellSteps(out io.Writer, steps []plugins.Tried) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "FILTER\tMODE\tVERDICT\tTIME\t")
	for _, s := range steps {
		if s.Skipped != "" {
			fmt.Fprintf(w, "%s\t%s\tnot asked (%s)\t\t\n", s.Filter, s.Mode, s.Skipped)
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%v\t\n", s.Filter, s.Mode, verdictOf(s), s.Took.Round(time.Microsecond))
	}
	_ = w.Flush() // out has failed before, if it does
}

// verdictOf puts a verdict in a line.
func verdictOf(s plugins.Tried) string {
	if s.Failure != "" {
		if s.Err != nil {
			return fmt.Sprintf("%s: %v", s.Failure, s.Err)
		}
		return s.Failure
	}
	v := s.Verdict
	parts := []string{v.Action.String()}
	if v.Code != "" {
		parts = append(parts, v.Code)
	}
	if v.Reason != "" {
		parts = append(parts, fmt.Sprintf("%q", v.Reason))
	}
	for _, f := range v.Flags {
		parts = append(parts, fmt.Sprintf("+%s=%.2g", f.Label, f.Score))
	}
	for _, k := range v.Sanctions {
		parts = append(parts, fmt.Sprintf("!%s", k.Kind))
	}
	return strings.Join(parts, " ")
}

// tellRuling prints what becomes of the message.
func tellRuling(out io.Writer, r *room.Ruling) error {
	switch {
	case r.Unavailable:
		fmt.Fprintf(out, "\nrefused: %s has no verdict, and its on_error says reject\n", r.Filter)
	case r.Action == filter.ActionReject:
		fmt.Fprintf(out, "\nrefused by %s: %s\n", r.Filter, strings.TrimSpace(r.Code+" "+r.Reason))
	case r.Action == filter.ActionDrop:
		fmt.Fprintf(out, "\ndropped by %s, without a word to the sender\n", r.Filter)
	case r.Action == filter.ActionShadow:
		fmt.Fprintf(out, "\nshown to the sender alone, by %s\n", r.Filter)
	case r.Action == filter.ActionModify:
		fmt.Fprintf(out, "\npublished as %s\n", r.Body)
		return nil
	default:
		fmt.Fprintln(out, "\npublished as it is")
		return nil
	}
	return quietError{errors.New("the message does not go through")}
}
