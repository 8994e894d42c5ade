package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/wsrelay/relay/auth"
	"github.com/wsrelay/relay/config"
	"github.com/wsrelay/relay/internal/app"
	"github.com/wsrelay/relay/internal/bus"
	"github.com/wsrelay/relay/plugins"
	"github.com/wsrelay/relay/plugins/filter"
	"github.com/wsrelay/relay/plugins/filtertest"
)

func pluginReplayCommand(env Env) *cobra.Command {
	var (
		p      pluginArg
		file   string
		roomID string
		since  time.Duration
		all    bool
	)
	cmd := &cobra.Command{
		Use:   "replay PLUGIN",
		Short: "Show what a plugin would have said of a room's history",
		Long: `Show what a plugin would have said of the messages that a room's history holds,
beside what the filters of the configuration say of them today. Nothing changes in
the room. Roles and claims of senders are not stored, so the plugin sees none.`,
		Example: "  relay plugin replay ./profanity --room lobby --since 24h -c relay.yaml",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			cfg, src, err := load(env, file)
			if err != nil {
				return err
			}
			events, err := stored(cmd.Context(), cfg, roomID, since)
			if err != nil {
				return err
			}
			spec, done, err := p.spec(cmd.Context(), env, args[0])
			defer done()
			if err != nil {
				return err
			}
			spec.Events = []filter.Event{filter.Chat}
			s, err := filtertest.Open(cmd.Context(), spec)
			if err != nil {
				return err
			}
			defer closing(s, &err)
			r := &replay{out: cmd.OutOrStdout(), subject: s, all: all}
			r.today, err = app.NewTrial(cmd.Context(), cfg, src, roomID, slog.New(slog.DiscardHandler))
			if err != nil && !errors.Is(err, app.ErrNoFilters) {
				return err
			}
			if r.today != nil {
				defer func() { err = errors.Join(err, r.today.Close(cmd.Context())) }()
			}
			return r.run(cmd.Context(), roomID, events)
		},
	}
	p.flags(cmd)
	f := cmd.Flags()
	f.StringVarP(&file, "config", "c", defaultFile, "configuration file")
	f.StringVar(&roomID, "room", "", "room whose history is judged")
	f.DurationVar(&since, "since", 24*time.Hour, "how far back")
	f.BoolVar(&all, "all", false, "print messages that both let pass, too")
	_ = cmd.MarkFlagRequired("room") // it exists
	return cmd
}

// stored reads a room's history, oldest first.
func stored(ctx context.Context, cfg *config.Config, roomID string, since time.Duration) (list []*bus.Event, err error) {
	b, err := app.Connect(ctx, cfg, slog.New(slog.DiscardHandler))
	if errors.Is(err, app.ErrAlone) {
		return nil, fmt.Errorf("%w; a history that outlives the process needs redis", err)
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.Close(ctx)) }()
	oldest := time.Now().Add(-since).UnixMilli()
	for before := uint64(0); ; {
		page, err := b.History(ctx, bus.HistoryQuery{Room: roomID, Before: before, Limit: 1000})
		if err != nil {
			return nil, fmt.Errorf("reading the history of %s: %w", roomID, err)
		}
		at := 0
		for at < len(page.Events) && page.Events[at].Time < oldest {
			at++
		}
		list = append(append([]*bus.Event{}, page.Events[at:]...), list...)
		if at > 0 || len(page.Events) == 0 || page.Events[0].Seq <= 1 {
			return list, nil
		}
		before = page.Events[0].Seq
	}
}

// replay judges stored messages by a plugin, and by the filters of today.
type replay struct {
	out     io.Writer
	subject *filtertest.Subject
	today   *app.Trial // nil: the room has no filters
	all     bool
}

func (r *replay) run(ctx context.Context, roomID string, events []*bus.Event) error {
	counts, shown := map[string]int{}, 0
	for _, e := range events {
		var sender struct {
			ID   string `json:"id"`
			Name string `json:"name"`
		}
		_ = json.Unmarshal(e.Sender.User, &sender) // written by relay itself
		a, err := r.subject.Judge(ctx, filtertest.Message{Body: e.Body, Room: roomID, User: filter.User{ID: sender.ID, Name: sender.Name}})
		if err != nil {
			return err
		}
		now := plugins.Tried{Verdict: a.Verdict, Failure: a.Failure, Err: a.Err}
		today, text := "none", a.Text
		if r.today != nil {
			ruling, _, err := r.today.Try(ctx, &auth.Identity{ID: sender.ID, Name: sender.Name}, e.Body)
			if err != nil {
				return err
			}
			today, text = ruling.Action.String(), r.today.Text(e.Body)
		}
		action, _, _ := strings.Cut(verdictOf(now), " ")
		counts[action]++
		if action == "allow" && (today == "allow" || today == "none") && !r.all {
			continue
		}
		shown++
		fmt.Fprintf(r.out, "%s  %-12s  today %-7s  now %s\n    %s\n", time.UnixMilli(e.Time).Format(time.DateTime), clean(sender.ID), today, clean(verdictOf(now)), clean(text))
	}
	fmt.Fprintf(r.out, "%d messages, %d shown:", len(events), shown)
	for _, action := range []string{"allow", "modify", "reject", "drop", "shadow", plugins.Failed, plugins.Timeout, plugins.Crash} {
		if counts[action] > 0 {
			fmt.Fprintf(r.out, " %d %s", counts[action], action)
		}
	}
	fmt.Fprintln(r.out)
	return nil
}
