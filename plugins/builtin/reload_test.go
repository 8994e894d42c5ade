package builtin_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/wsrelay/relay/auth"
	"github.com/wsrelay/relay/internal/bus"
	"github.com/wsrelay/relay/internal/room"
	"github.com/wsrelay/relay/plugins"
	"github.com/wsrelay/relay/plugins/builtin"
	"github.com/wsrelay/relay/plugins/filter"
)

// A reload that changes nothing in relay.yaml reads the file of words again, and
// lets repeats remember what was said.
func TestReload(t *testing.T) {
	file := filepath.Join(t.TempDir(), "words.txt")
	write := func(list string) {
		if err := os.WriteFile(file, []byte(list), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	host := plugins.New(plugins.HostOptions{Log: slog.New(slog.DiscardHandler)})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := host.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	load := func() *plugins.Chain {
		t.Helper()
		var list []plugins.Options
		for name, config := range map[string]map[string]any{"words": {"file": file, "action": "reject"}, "repeats": {"max": 1}} {
			p, _ := builtin.Lookup(name)
			raw, err := json.Marshal(config)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, plugins.Options{Name: name, Builtin: &p, Config: raw, Enforce: 100, Timeout: 5 * time.Second, Actions: []filter.Action{filter.ActionReject}})
		}
		set, err := host.Prepare(t.Context(), list)
		if err != nil {
			t.Fatal(err)
		}
		chain, err := set.Chain([]string{"words", "repeats"}, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		host.Commit(set)
		return chain
	}
	judge := func(c *plugins.Chain, text string) string {
		body, _ := json.Marshal(text)
		q := &room.Query{Event: filter.Chat, ID: bus.NewMessageID(), Room: "lobby", Actor: &room.Actor{Identity: &auth.Identity{ID: "ann"}, Endpoint: "/ws"}, Body: body, Text: []string{""}}
		done := make(chan *room.Ruling, 1)
		c.Judge(q, func(r *room.Ruling) { done <- r })
		return (<-done).Code
	}
	write("darn\n")
	c := load()
	if got := judge(c, "what the heck"); got != "" {
		t.Fatalf("at first: %q", got)
	}
	if got := judge(c, "darn it"); got != "words" {
		t.Fatalf("a word of the list: %q", got)
	}
	write("heck\n")
	c = load()
	for text, want := range map[string]string{"oh heck": "words", "darn it all": "", "what the hock": "", "What the Heck?": "words"} {
		if got := judge(c, text); got != want {
			t.Errorf("with the new list, %q: %q, want %q", text, got, want)
		}
	}
	if got := judge(c, "darn it, all"); got != "repeats" {
		t.Errorf("what was said before: %q", got)
	}
	write("gosh\n")
	if got := judge(load(), "darn it all!"); got != "repeats" {
		t.Errorf("what was said before the reload: %q", got)
	}
}
