package plugins

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/wsrelay/relay/auth"
	"github.com/wsrelay/relay/internal/bus"
	"github.com/wsrelay/relay/internal/room"
	"github.com/wsrelay/relay/internal/room/policy"
	"github.com/wsrelay/relay/plugins/filter"
)

func newHost(t *testing.T) *Host {
	t.Helper()
	h := New(HostOptions{Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Instance: "here", Version: "test"})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := h.Close(ctx); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return h
}

// judgeFunc are options of a built-in that is f.
func judgeFunc(name string, f func(m *filter.Message) (filter.Verdict, error)) Options {
	return Options{
		Name: name, Enforce: 100, Timeout: time.Second,
		Actions:   []filter.Action{filter.ActionModify, filter.ActionReject, filter.ActionDrop, filter.ActionShadow},
		Sanctions: []filter.SanctionKind{filter.Warn, filter.Mute, filter.Kick, filter.Ban},
		Builtin: &filter.Plugin{
			Name: name, Version: bus.NewMessageID().String(), // another each time: else a host keeps the one it has
			Judge:     func(_ context.Context, m *filter.Message) (filter.Verdict, error) { return f(m) },
			Events:    []filter.Event{filter.Chat, filter.Signal, filter.Join},
			Actions:   []filter.Action{filter.ActionModify, filter.ActionReject, filter.ActionDrop, filter.ActionShadow},
			Sanctions: []filter.SanctionKind{filter.Warn, filter.Mute, filter.Kick, filter.Ban},
		},
	}
}

// The log leads to the message's trace, which is not its own where a trusted client
// brought one.
func TestALineAboutAFailureNamesTheTrace(t *testing.T) {
	var log bytes.Buffer
	h := New(HostOptions{Log: slog.New(slog.NewTextHandler(&log, nil)), Instance: "here", Version: "test"})
	defer func() {
		if err := h.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	c := commit(t, h, judgeFunc("broken", func(*filter.Message) (filter.Verdict, error) { return filter.Verdict{}, errors.New("oh") }))
	q := chat(`"x"`)
	q.TraceID = [16]byte{7}
	judge(t, c, q)
	if want := "message=" + q.ID.String() + " trace_id=07000000000000000000000000000000"; !strings.Contains(log.String(), want) {
		t.Errorf("no %s in\n%s", want, log.String())
	}
}

func always(name string, v filter.Verdict) Options {
	return judgeFunc(name, func(*filter.Message) (filter.Verdict, error) { return v, nil })
}

// commit prepares the filters, puts them in force and returns a chain of all of
// them in their order.
func commit(t *testing.T, h *Host, list ...Options) *Chain {
	t.Helper()
	set, err := h.Prepare(t.Context(), list)
	if err != nil {
		t.Fatalf("Prepare: %v", err)
	}
	names := make([]string, len(list))
	for i, o := range list {
		names[i] = o.Name
	}
	c, err := set.Chain(names, 1<<10)
	if err != nil {
		t.Fatal(err)
	}
	h.Commit(set)
	return c
}

func chat(body string) *room.Query {
	return &room.Query{
		Event: filter.Chat, ID: bus.NewMessageID(), Room: "lobby", Body: []byte(body), Text: []string{"", "/text"},
		Actor: &room.Actor{Endpoint: "/ws", IP: "192.0.2.1", Identity: &auth.Identity{ID: "ann", Name: "Ann", Roles: []string{"staff"}, Claims: map[string]any{"team": "x", "secret": "s"}}},
		Input: func() *policy.Input { return &policy.Input{RoomID: "lobby"} },
	}
}

func judge(t *testing.T, c room.Filters, q *room.Query) *room.Ruling {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	r, err := Judge(ctx, c, q)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Modifications feed the next filter, flags and labels add up, and the first
// refusal ends the chain.
func TestAChainGoesInItsOrder(t *testing.T) {
	var seen []string
	look := func(name string, v filter.Verdict) Options {
		return judgeFunc(name, func(m *filter.Message) (filter.Verdict, error) {
			seen = append(seen, name+":"+m.Text()+":"+m.Labels["lang"])
			if v.Action == filter.ActionModify {
				v = filter.Modify(m.WithText(m.Text()+"!")).Label("lang", "de")
			}
			return v, nil
		})
	}
	c := commit(t, newHost(t),
		look("a", filter.Allow().Flag("odd", 0.5)),
		look("b", filter.Modify(filter.JSON(nil))),
		look("c", filter.Reject("spam", "No.").Flag("spam", 1).Mute(time.Minute, "calm down")),
		look("d", filter.Allow()))
	r := judge(t, c, chat(`{"text":"hi"}`))
	want := []string{"a:hi:", "b:hi:", "c:hi!:de"}
	if len(seen) != 3 || seen[0] != want[0] || seen[1] != want[1] || seen[2] != want[2] {
		t.Errorf("asked %q", seen)
	}
	if r.Action != filter.ActionReject || r.Filter != "c" || r.Code != "spam" || r.Reason != "No." || r.Unavailable || r.Body != nil {
		t.Errorf("ruling %+v", r)
	}
	if len(r.Flags) != 2 || r.Flags[0].Filter != "a" || r.Flags[1].Label != "spam" || len(r.Sanctions) != 1 || r.Sanctions[0].For != time.Minute {
		t.Errorf("flags %+v, sanctions %+v", r.Flags, r.Sanctions)
	}
	if len(r.Steps) != 3 || r.Steps[1].Action != filter.ActionModify || r.Steps[2].Code != "spam" || r.Steps[0].End.Before(r.Steps[0].Start) || r.Steps[0].Mode != "enforce" {
		t.Errorf("steps %+v", r.Steps)
	}
}

func TestAModifiedMessageComesOutModified(t *testing.T) {
	c := commit(t, newHost(t), judgeFunc("stars", func(m *filter.Message) (filter.Verdict, error) {
		return filter.Modify(m.WithText("***")), nil
	}), always("ok", filter.Allow()))
	if r := judge(t, c, chat(`{"text":"damn","n":1}`)); r.Action != filter.ActionModify || string(r.Body) != `{"text":"***","n":1}` {
		t.Errorf("%v %s", r.Action, r.Body)
	}
}
