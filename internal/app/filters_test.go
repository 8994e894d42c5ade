package app_test

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wsrelay/relay/auth"
	client "github.com/wsrelay/relay/client/go"
	"github.com/wsrelay/relay/config"
	"github.com/wsrelay/relay/internal/app"
	"github.com/wsrelay/relay/internal/bus/redisbus/redistest"
)

// obey builds the filter that does as it is told, once for all tests.
var obey = sync.OnceValues(func() (string, error) {
	out, err := filepath.Abs(filepath.Join("testdata", "obey", "obey.test"))
	if err != nil {
		return "", err
	}
	b, err := exec.Command("go", "build", "-o", out, "./testdata/obey").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, b)
	}
	return out, nil
})

// filtered is the open configuration with obey in front of every room; more is
// put into its entry under filters.
func filtered(t *testing.T, more string) func(redis string) string {
	t.Helper()
	program, err := obey()
	if err != nil {
		t.Fatal(err)
	}
	return func(redis string) string {
		y := strings.Replace(over(redis), "history: {}", "history: {}, filters: [obey]", 1)
		return y + fmt.Sprintf(`
filters:
  obey:
    command: [%q]
    unpinned: true
    timeout: 10s
    events: [chat, signal, join]
    actions: [modify, reject, drop, shadow, warn, mute, kick, ban]
    %s
`, program, more)
	}
}

// table is two members of a room on two instances, and another socket of the
// first one.
type table struct {
	one, two        *instance
	ann, again, bob *peer
}

func newTable(t *testing.T, yaml func(string) string, redis string) *table {
	t.Helper()
	y := yaml(fmt.Sprintf("url: %q", redis))
	tb := &table{one: start(t, y), two: start(t, y)}
	as := func(user string) client.Options {
		if strings.Contains(y, secret) {
			return token(t, user)
		}
		return client.Options{}
	}
	tb.ann, tb.again, tb.bob = dial(t, tb.one.url(), as("ann")), dial(t, tb.two.url(), as("ann")), dial(t, tb.two.url(), as("bob"))
	tb.ann.do(&client.Request{Type: "join", RoomID: "r", User: user("ann")})
	tb.bob.do(&client.Request{Type: "join", RoomID: "r", User: user("bob")})
	tb.again.do(&client.Request{Type: "join", RoomID: "r", User: user("ann")})
	return tb
}

// secret signs the tokens of tests whose users are no guests.
const secret = "0123456789abcdef0123456789abcdef"

// token identifies a user.
func token(t *testing.T, user string) client.Options {
	t.Helper()
	s, err := auth.DevToken(auth.JWTOptions{Issuer: "dev", Audience: []string{"relay"}, Secret: secret}, auth.DevUser{ID: user, Name: strings.ToUpper(user), For: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	return client.Options{Token: s}
}

func say(s string) *client.Request {
	return &client.Request{Type: "chat", RoomID: "r", Message: text(s)}
}

// afterwards says something else, and returns what the peers heard before it.
func (tb *table) afterwards(t *testing.T, p *peer) (chats []string) {
	t.Helper()
	tb.bob.do(say("mark"))
	p.await("mark", func(e *client.Event) bool {
		if e.Type == "chat" && e.Text() != "mark" {
			chats = append(chats, e.Text())
		}
		return e.Type == "chat" && e.Text() == "mark"
	})
	return chats
}

func TestEveryActionOverTwoInstances(t *testing.T) {
	tb := newTable(t, filtered(t, ""), redistest.Start(t).URL())
	plain := tb.ann.do(say("hello"))
	if e := tb.bob.next("chat"); e.Text() != "hello" || e.Seq != plain.Seq || plain.Message != nil {
		t.Errorf("allowed: %s, acked %s", e.Raw, plain.Raw)
	}
	ack := tb.ann.do(say("!modify quiet"))
	if e := tb.bob.next("chat"); e.Text() != "QUIET" || string(ack.Message) != `"QUIET"` || ack.Seq != plain.Seq+1 {
		t.Errorf("modified: %s, acked %s", e.Raw, ack.Raw)
	}
	tb.again.await("the sender's other socket to see it", func(e *client.Event) bool { return e.Text() == "QUIET" })
	if code := tb.ann.refused(say("!reject because")); code != "rejected" {
		t.Errorf("rejected: %s", code)
	}
	for _, order := range []string{"!drop", "!shadow"} {
		if e := tb.ann.do(say(order + " x")); e.Seq < ack.Seq || e.MessageID == "" || e.Time == 0 {
			t.Errorf("%s looks unlike others: %s", order, e.Raw)
		}
	}
	if e := tb.again.next("chat"); e.Text() != "!shadow x" || e.Seq != 0 {
		t.Errorf("the shadow: %s", e.Raw)
	}
	if code := tb.ann.refused(say("!error")); code != "filter_unavailable" {
		t.Errorf("an error: %s", code)
	}
	if code := tb.ann.refused(say("!panic")); code != "filter_unavailable" {
		t.Errorf("a panic: %s", code)
	}
	if code := tb.ann.refused(say("!grow")); code != "filter_unavailable" {
		t.Errorf("too large a modification: %s", code)
	}
	if heard := tb.afterwards(t, tb.again); heard != nil {
		t.Errorf("the other socket of the sender heard %q", heard)
	}
	tb.ann.do(say("end"))
	if e := tb.bob.next("chat"); e.Text() != "end" {
		t.Errorf("another member heard %s", e.Raw)
	}
	h := tb.bob.do(&client.Request{Type: "history", RoomID: "r"})
	var stored []string
	for _, m := range h.Messages {
		stored = append(stored, m.Text())
	}
	if strings.Join(stored, ",") != "hello,QUIET,mark,end" {
		t.Errorf("stored %q", stored)
	}
	mallory := dial(t, tb.one.url(), client.Options{})
	if code := mallory.refused(&client.Request{Type: "join", RoomID: "r", User: user("mallory")}); code != "rejected" {
		t.Errorf("mallory joined: %s", code)
	}
}

func TestSanctionsHoldOnTheOtherInstance(t *testing.T) {
	redis := redistest.Start(t)
	// Guests are bound by address too, and all of these have one: these are users.
	open := filtered(t, "")
	yaml := func(r string) string {
		y := strings.Replace(open(r), "auth: [guests]", "auth: [users]", 1)
		return strings.Replace(y, "auth: {guests: {type: anonymous}}", `auth: {users: {type: jwt, issuer: dev, audience: relay, secret: "`+secret+`"}}`, 1)
	}
	tb := newTable(t, yaml, redis.URL())
	tb.ann.do(say("!warn mind your words"))
	for _, p := range []*peer{tb.ann, tb.again} {
		if e := p.next("sanction"); !strings.Contains(string(e.Raw), `"warn"`) || !strings.Contains(string(e.Raw), "mind your words") {
			t.Errorf("%s", e.Raw)
		}
	}
	if code := tb.ann.refused(say("!mute calm down")); code != "rejected" {
		t.Errorf("the message itself: %s", code)
	}
	for _, p := range []*peer{tb.ann, tb.again} {
		p.await("mute", func(e *client.Event) bool { return e.Type == "sanction" && strings.Contains(string(e.Raw), `"mute"`) })
		if code := p.refused(say("x")); code != "muted" {
			t.Errorf("muted: %s", code)
		}
	}
	tb.bob.do(say("!kick out"))
	if e := tb.bob.next("exited"); e.RoomID != "r" {
		t.Errorf("%s", e.Raw)
	}
	if e := tb.ann.next("member_left"); e.User.ID != "bob" || e.Reason != "kicked" {
		t.Errorf("%s", e.Raw)
	}
	tb.bob.do(&client.Request{Type: "join", RoomID: "r"}) // kicked is not banned
	tb.bob.do(say("!ban for good"))
	tb.bob.await("exit", func(e *client.Event) bool { return e.Type == "exited" })
	if code := tb.bob.refused(&client.Request{Type: "join", RoomID: "r"}); code != "banned" {
		t.Errorf("back in: %s", code)
	}
	tb.bob.do(&client.Request{Type: "join", RoomID: "elsewhere"})
	tb.bob.do(&client.Request{Type: "chat", RoomID: "elsewhere", Message: text("!ban-all no more")})
	if code := tb.bob.closed(); code != 4403 {
		t.Errorf("closed with %d", code)
	}

	// All of it is in force on an instance that has just started.
	three := start(t, yaml(fmt.Sprintf("url: %q", redis.URL())))
	ann := dial(t, three.url(), token(t, "ann"))
	ann.do(&client.Request{Type: "join", RoomID: "r", User: user("ann")})
	if code := ann.refused(say("x")); code != "muted" {
		t.Errorf("muted after a restart: %s", code)
	}
	bob := dial(t, three.url(), token(t, "bob"))
	if e := bob.next("error"); e.Code != "banned" || e.Reason != "no more" {
		t.Errorf("bob, who is banned everywhere: %s", e.Raw)
	}
	if code := bob.closed(); code != 4403 {
		t.Errorf("closed with %d", code)
	}
	if log := tb.one.logs.String(); !strings.Contains(log, `"msg":"audit"`) || !strings.Contains(log, `"actor":"filter:obey"`) || strings.Contains(log, "mind your words\"") && !strings.Contains(log, `"reason":"mind your words"`) {
		t.Error("no audit line")
	}
}

// A guest may take another name at will, and is bound by address.
func TestAGuestIsBoundByAddress(t *testing.T) {
	tb := newTable(t, filtered(t, ""), redistest.Start(t).URL())
	if code := tb.ann.refused(say("!mute enough")); code != "rejected" {
		t.Errorf("the message itself: %s", code)
	}
	tb.again.next("sanction")
	again := dial(t, tb.two.url(), client.Options{})
	again.do(&client.Request{Type: "join", RoomID: "r", User: user("somebody-else")})
	if code := again.refused(say("x")); code != "muted" {
		t.Errorf("under another name: %s", code)
	}
	again.do(&client.Request{Type: "join", RoomID: "elsewhere"})
	again.do(&client.Request{Type: "chat", RoomID: "elsewhere", Message: text("a mute is of its room")})
}

func TestAnAsyncFilterTakesMessagesBack(t *testing.T) {
	y := filtered(t, "mode: async")
	yaml := func(r string) string { return strings.Replace(y(r), "kick, ban]", "kick, ban, redact]", 1) }
	tb := newTable(t, yaml, redistest.Start(t).URL())
	ack := tb.ann.do(say("!reject rude"))
	if e := tb.bob.next("chat"); e.Seq != ack.Seq {
		t.Errorf("%s", e.Raw)
	}
	for _, p := range []*peer{tb.ann, tb.bob} {
		if e := p.next("redacted"); e.Target != ack.MessageID || e.Reason != "rude" {
			t.Errorf("%s", e.Raw)
		}
	}
	ack = tb.ann.do(say("!later on second thought"))
	if e := tb.bob.next("redacted"); e.Target != ack.MessageID || e.Reason != "on second thought" {
		t.Errorf("%s", e.Raw)
	}
}

// A plugin that crashes costs its own message, and the next one is judged.
func TestACrashCostsOneMessage(t *testing.T) {
	tb := newTable(t, filtered(t, ""), redistest.Start(t).URL())
	// The message is tried once more in the replacement, which dies of it too.
	if code := tb.ann.refused(say("!crash")); code != "filter_unavailable" {
		t.Errorf("the crash: %s", code)
	}
	tb.ann.await("a verdict again", func(*client.Event) bool { return true }) // bob's join
	deadline := time.Now().Add(10 * time.Second)
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		e, err := tb.ann.Do(ctx, say("!modify alive"))
		cancel()
		if err == nil && string(e.Message) == `"ALIVE"` {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no verdict any more: %v", err)
		}
	}
	if code := tb.bob.refused(say("!reject x")); code != "rejected" {
		t.Errorf("the other instance: %s", code)
	}
}

// A reload with another configuration of a filter, or a bad one.
func TestReloadOfFilters(t *testing.T) {
	yaml := filtered(t, "")("url: %s")
	yaml = strings.Replace(yaml, "redis: {url: %s}\n", "", 1)
	i := start(t, yaml)
	p := dial(t, i.url(), client.Options{})
	p.do(&client.Request{Type: "join", RoomID: "r", User: user("ann")})
	if code := p.refused(say("!reject x")); code != "rejected" {
		t.Fatalf("before: %s", code)
	}
	reload := func(y string) error {
		cfg, src, err := config.Parse("relay.yaml", []byte(y), nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = i.Reload(t.Context(), cfg, src)
		return err
	}
	err := reload(strings.Replace(yaml, "obey.test", "gone", 1))
	if err == nil || !strings.Contains(err.Error(), "filters.obey") {
		t.Errorf("a program that is not there: %v", err)
	}
	err = reload(strings.Replace(yaml, "unpinned: true", "unpinned: true\n    config: {strict: true}", 1))
	if err == nil || !strings.Contains(err.Error(), "filters.obey.config") || !strings.Contains(err.Error(), "relay.yaml:") {
		t.Errorf("a configuration that the plugin does not take: %v", err)
	}
	if code := p.refused(say("!reject x")); code != "rejected" {
		t.Errorf("after bad reloads: %s", code)
	}
	if err := reload(strings.Replace(yaml, "actions: [modify, reject, drop", "mode: observe\n    actions: [modify, reject, drop", 1)); err != nil {
		t.Fatal(err)
	}
	p.do(say("!reject x")) // observed now
	if err := reload(strings.Replace(yaml, ", filters: [obey]", "", 1)); err != nil {
		t.Fatal(err)
	}
	p.do(say("!reject x"))
	if err := app.Check(t.Context(), mustParse(t, yaml), nil); err != nil {
		t.Errorf("check: %v", err)
	}
}

func mustParse(t *testing.T, yaml string) *config.Config {
	t.Helper()
	cfg, _, err := config.Parse("relay.yaml", []byte(yaml), nil)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}
