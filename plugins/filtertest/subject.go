package filtertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/wsrelay/relay/auth"
	"github.com/wsrelay/relay/internal/bus"
	"github.com/wsrelay/relay/internal/room"
	"github.com/wsrelay/relay/internal/room/policy"
	"github.com/wsrelay/relay/plugins"
	"github.com/wsrelay/relay/plugins/filter"
)

// Spec is a filter to be tested: one of Plugin and Command.
type Spec struct {
	Plugin  *filter.Plugin // in process
	Command []string       // a program and its arguments
	Env     map[string]string
	Plain   bool            // Command speaks no mutual TLS: it is not made with the Go SDK
	Config  json.RawMessage // a JSON object; empty for none
	Timeout time.Duration   // a message's budget; default 5 s
	MaxBody int64           // bytes that a modified message may have; default 1 MiB
	Events  []filter.Event  // default: all that the filter can judge
	Log     *slog.Logger    // what the plugin prints; nil: nowhere
}

// Subject is a filter that is ready to judge.
type Subject struct {
	filter.Description

	host  *plugins.Host
	chain *plugins.Chain
}

// name is the filter's in the configuration that it is tested under.
const name = "plugin"

func (s Spec) options() plugins.Options {
	o := plugins.Options{
		Name: name, Builtin: s.Plugin, Command: s.Command, Unpinned: true, Env: s.Env, MTLS: !s.Plain,
		Config: s.Config, Timeout: s.Timeout, Enforce: 100, Events: s.Events, All: s.Events == nil,
		Actions:   []filter.Action{filter.ActionModify, filter.ActionReject, filter.ActionDrop, filter.ActionShadow},
		Sanctions: []filter.SanctionKind{filter.Warn, filter.Mute, filter.Kick, filter.Ban},
	}
	if o.Timeout == 0 {
		o.Timeout = 5 * time.Second
	}
	return o
}

// Open starts and configures the filter. An error says what is wrong with it or
// its configuration, with the last lines that a process printed.
func Open(ctx context.Context, s Spec) (*Subject, error) {
	log := s.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if s.MaxBody == 0 {
		s.MaxBody = 1 << 20
	}
	sub := &Subject{host: plugins.New(plugins.HostOptions{Log: log, Instance: "filtertest"})}
	set, err := sub.host.Prepare(ctx, []plugins.Options{s.options()})
	if err != nil {
		return nil, errors.Join(err, sub.Close(ctx))
	}
	sub.Description, _ = set.Description(name)
	if sub.chain, err = set.Chain([]string{name}, s.MaxBody); err != nil {
		return nil, errors.Join(err, sub.Close(ctx))
	}
	sub.host.Commit(set)
	return sub, nil
}

// Close ends the filter. It returns when no process is left.
func (s *Subject) Close(ctx context.Context) error { return s.host.Close(ctx) }

// Message is something to be judged. Everything has a default.
type Message struct {
	Text  string          // the body is this text as a JSON string, unless Body is set
	Body  json.RawMessage // JSON
	Texts []string        // JSON pointers to what people read; default: the body itself, /text
	Event filter.Event    // default Chat
	Room  string          // default "room"
	User  filter.User     // default: id "ann"
}

// Answer is what became of a message.
type Answer struct {
	filter.Verdict
	Failure string // timeout, crash, error or overload: there is no verdict; empty otherwise
	Err     error  // why, as far as anybody knows

	Body json.RawMessage // the message as members would see it
	Text string          // what they would read of it
	Took time.Duration
}

// Judge asks the filter. An error is ctx's.
func (s *Subject) Judge(ctx context.Context, m Message) (Answer, error) {
	q, err := m.query()
	if err != nil {
		return Answer{}, err
	}
	_, tried, err := s.chain.Try(ctx, q)
	if err != nil {
		return Answer{}, err
	}
	if len(tried) != 1 || tried[0].Skipped != "" {
		return Answer{}, fmt.Errorf("the filter does not judge events of kind %s", q.Event)
	}
	t := tried[0]
	a := Answer{Verdict: t.Verdict, Failure: t.Failure, Err: t.Err, Body: q.Body, Took: t.Took}
	if t.Message != nil {
		a.Body, a.Text = t.Message.Body, t.Message.Text()
	}
	return a, nil
}

func (m Message) query() (*room.Query, error) {
	if m.Event == 0 {
		m.Event = filter.Chat
	}
	if m.Body == nil && m.Event != filter.Join {
		b, err := json.Marshal(m.Text)
		if err != nil {
			return nil, err
		}
		m.Body = b
	}
	if m.Texts == nil {
		m.Texts = []string{"", "/text"}
	}
	if m.Room == "" {
		m.Room = "room"
	}
	if m.User.ID == "" {
		m.User.ID = "ann"
	}
	id := &auth.Identity{ID: m.User.ID, Name: m.User.Name, Roles: m.User.Roles, Guest: m.User.Guest}
	if len(m.User.Claims) > 0 {
		id.Claims = make(map[string]any, len(m.User.Claims))
		for k, raw := range m.User.Claims {
			var v any
			if err := json.Unmarshal(raw, &v); err != nil {
				return nil, fmt.Errorf("claim %s: %w", k, err)
			}
			id.Claims[k] = v
		}
	}
	a := &room.Actor{Identity: id, Endpoint: "/ws", IP: m.User.IP, Conn: "filtertest"}
	q := &room.Query{
		Event: m.Event, Room: m.Room, Actor: a, Body: m.Body, Text: m.Texts,
		Input: func() *policy.Input { return &policy.Input{User: id, RoomID: m.Room, Endpoint: "/ws", Member: true} },
	}
	if m.Event == filter.Chat {
		q.ID = bus.NewMessageID()
	}
	return q, nil
}
