package app_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	client "github.com/wsrelay/relay/client/go"
)

// The example filters, each in front of a room of a real relay.
func TestTheExampleFiltersInARelay(t *testing.T) {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, `{"results": [{"flagged": %v, "categories": {"hate": true}}]}`, strings.Contains(string(body), "hateful"))
	}))
	defer service.Close()
	bin := t.TempDir()
	goFilter := func(name string) string {
		out := filepath.Join(bin, name)
		if b, err := exec.CommandContext(t.Context(), "go", "build", "-o", out, "../../examples/filters/"+name).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, b)
		}
		return fmt.Sprintf("command: [%q], unpinned: true", out)
	}
	script := func(interpreter, file string) string {
		path, err := filepath.Abs("../../examples/filters/" + file)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("command: [%q, %q], unpinned: true, mtls: off", interpreter, path)
	}
	python := "python3"
	if _, err := os.Stat("/usr/bin/python3"); err == nil {
		python = "/usr/bin/python3" // Debian's, which has the packages
	}
	yaml := strings.Replace(open, `rooms: [{match: "*",`, `rooms:
  - {match: hello, create: anyone, join: anyone, history: {}, filters: [hello]}
  - {match: profanity, create: anyone, join: anyone, history: {}, filters: [profanity]}
  - {match: review, create: anyone, join: anyone, history: {}, filters: [review]}
  - {match: links, create: anyone, join: anyone, history: {}, filters: [links]}
  - {match: slowmode, create: anyone, join: anyone, history: {}, filters: [slowmode]}
  - {match: "*",`, 1)
	yaml = strings.Replace(yaml, "history: {}}]\ndrain", "history: {}}\ndrain", 1)
	yaml += fmt.Sprintf(`
filters:
  hello: {%s, timeout: 10s}
  profanity: {%s, timeout: 10s, actions: [modify, mute], config: {words: [darn], strikes: 2}}
  review: {%s, timeout: 10s, mode: async, actions: [redact], config: {url: %q}}
  links: {%s, timeout: 10s, config: {allow: [example.com]}}
  slowmode: {%s, timeout: 10s, config: {seconds: 600}}
`, goFilter("hello"), goFilter("profanity"), goFilter("review"), service.URL, script(python, "links/main.py"), script("node", "slowmode/main.js"))
	i := start(t, yaml)
	p := dial(t, i.url(), client.Options{})
	in := func(room, s string) *client.Request {
		return &client.Request{Type: "chat", RoomID: room, Message: text(s)}
	}
	for _, room := range []string{"hello", "profanity", "review", "links", "slowmode"} {
		p.do(&client.Request{Type: "join", RoomID: room, User: user("ann")})
	}
	for _, c := range []struct{ room, good, bad string }{
		{"hello", "hello", "HELLO EVERYBODY"},
		{"links", "see https://example.com", "see https://evil.test"},
		{"slowmode", "first", "second"},
	} {
		p.do(in(c.room, c.good))
		if code := p.refused(in(c.room, c.bad)); code != "rejected" {
			t.Errorf("%s: %q was answered with %s", c.room, c.bad, code)
		}
	}
	for range 2 {
		if ack := p.do(in("profanity", "darn it")); string(ack.Message) != `"**** it"` {
			t.Errorf("profanity: %s", ack.Raw)
		}
	}
	if e := p.next("sanction"); e.RoomID != "profanity" || e.Kind != "mute" {
		t.Errorf("profanity: %s", e.Raw)
	}
	p.do(in("review", "kind words"))
	ack := p.do(in("review", "hateful words"))
	if e := p.next("redacted"); e.Target != ack.MessageID || e.RoomID != "review" || !strings.Contains(e.Reason, "hate") {
		t.Errorf("review: %s", e.Raw)
	}
}
