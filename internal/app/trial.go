package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"

	"github.com/wsrelay/relay/auth"
	"github.com/wsrelay/relay/config"
	"github.com/wsrelay/relay/internal/bus"
	"github.com/wsrelay/relay/internal/room"
	"github.com/wsrelay/relay/internal/room/policy"
	"github.com/wsrelay/relay/plugins"
	"github.com/wsrelay/relay/plugins/filter"
)

// Trial is the filters of one room as a configuration has them, for commands
// that ask them without a relay around.
type Trial struct {
	host   *plugins.Host
	chain  *plugins.Chain
	roomID string
	policy *policy.Policy
	params policy.Params
	path   string // of the first endpoint
}

// ErrNoFilters: the room's policy names none.
var ErrNoFilters = errors.New("no filters")

// NewTrial starts the filters of a room. The caller closes it.
func NewTrial(ctx context.Context, cfg *config.Config, src *config.Source, roomID string, log *slog.Logger) (*Trial, error) {
	parts, err := compile(cfg, src, log, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = parts.close() }() // nothing was asked of them
	t := &Trial{roomID: roomID, path: cfg.Endpoints[0].Path}
	if t.policy, t.params = parts.policies.Match(roomID); t.policy == nil {
		return nil, fmt.Errorf("no entry of rooms matches %q, and what none matches is forbidden", roomID)
	}
	names := cfg.Rooms[t.policy.Index].Filters
	if len(names) == 0 {
		return nil, fmt.Errorf("rooms[%d] (%s), which %q matches, has %w", t.policy.Index, t.policy.Match, roomID, ErrNoFilters)
	}
	t.host = plugins.New(plugins.HostOptions{Log: log, Instance: "trial"})
	set, err := t.host.Prepare(ctx, named(parts.filters, names))
	if err != nil {
		return nil, errors.Join(filterProblems(src, err), t.Close(ctx))
	}
	if t.chain, err = set.Chain(names, cfg.Rooms[t.policy.Index].Messages.MaxSize.Bytes()); err != nil {
		return nil, errors.Join(err, t.Close(ctx))
	}
	t.host.Commit(set)
	return t, nil
}

// named picks the options of some filters.
func named(all []plugins.Options, names []string) (list []plugins.Options) {
	for _, o := range all {
		for _, name := range names {
			if o.Name == name {
				list = append(list, o)
			}
		}
	}
	return list
}

// Close ends what NewTrial started.
func (t *Trial) Close(ctx context.Context) error { return t.host.Close(ctx) }

// Try asks the filters about a message of a user.
func (t *Trial) Try(ctx context.Context, user *auth.Identity, body json.RawMessage) (*room.Ruling, []plugins.Tried, error) {
	a := &room.Actor{Identity: user, Endpoint: t.path, IP: "127.0.0.1"}
	return t.chain.Try(ctx, &room.Query{
		Event: filter.Chat, ID: bus.NewMessageID(), Room: t.roomID, Actor: a, Body: body, Text: t.policy.Text,
		Input: func() *policy.Input {
			return &policy.Input{User: user, RoomID: t.roomID, Params: t.params, Member: true, Endpoint: a.Endpoint, ClientIP: a.IP}
		},
	})
}

// Text is what people read of a body in the trial's room.
func (t *Trial) Text(body json.RawMessage) string {
	m := filter.Message{Texts: filter.TextsAt(body, t.policy.Text)}
	return m.Text()
}
