package app_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	client "github.com/wsrelay/relay/client/go"
	"github.com/wsrelay/relay/config"
)

func TestStopBeforeStartAndTwice(t *testing.T) {
	a, _, err := build(open)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := a.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestAStartThatFailsLeavesNothing(t *testing.T) {
	one := start(t, open)
	a, _, err := build(strings.Replace(open, `listen: "127.0.0.1:0"`, fmt.Sprintf("listen: %q", one.Addr()), 1))
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "listening on 127.0.0.1") {
		t.Errorf("%v", err)
	}
	if err := a.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestHealth(t *testing.T) {
	i := start(t, open)
	admin := "http://" + i.AdminAddr().String()
	for path, want := range map[string]string{"/livez": "ok", "/readyz": "[+] redis ok"} {
		if code, body := status(t, admin+path, nil); code != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %q", path, code, body)
		}
	}
	p := dial(t, i.url(), client.Options{})
	p.do(&client.Request{Type: "join", RoomID: "r", User: user("ann")})
	stopped := make(chan error, 1)
	go func() { stopped <- i.Stop(context.Background()) }()
	if c := p.closed(); c != 1012 {
		t.Errorf("closed with %d", c)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestTwoInstancesInOneProcessDoNotKnowEachOther(t *testing.T) {
	one, two := start(t, open), start(t, open)
	a, b := dial(t, one.url(), client.Options{}), dial(t, two.url(), client.Options{})
	if e := a.do(&client.Request{Type: "join", RoomID: "r", User: user("ann")}); e.MemberCount != 1 {
		t.Errorf("%s", e.Raw)
	}
	if e := b.do(&client.Request{Type: "join", RoomID: "r", User: user("bob")}); e.MemberCount != 1 {
		t.Errorf("%s", e.Raw)
	}
	if a.Welcome().Instance == b.Welcome().Instance {
		t.Error("both have one name")
	}
}

// reload parses yaml and puts it in force.
func (i *instance) reload(yaml string) ([]string, error) {
	i.t.Helper()
	cfg, src, err := config.Parse("relay.yaml", []byte(yaml), nil)
	if err != nil {
		return nil, err
	}
	return i.Reload(i.t.Context(), cfg, src)
}

func TestReloadChangesRulesWithoutDroppingASocket(t *testing.T) {
	i := start(t, open)
	p, q := dial(t, i.url(), client.Options{}), dial(t, i.url(), client.Options{})
	for _, r := range []string{"a", "b"} {
		p.do(&client.Request{Type: "join", RoomID: r, User: user("ann")})
		q.do(&client.Request{Type: "join", RoomID: r, User: user("bob")})
	}
	closedA := strings.Replace(open, "rooms: [", "rooms: [{match: a, join: \"user.id != 'ann'\"}, ", 1)
	if ignored, err := i.reload(closedA); err != nil || len(ignored) > 0 {
		t.Fatal(ignored, err)
	}
	if e := p.next("exited"); e.RoomID != "a" || e.Reason != "policy" {
		t.Errorf("%s", e.Raw)
	}
	if e := q.next("member_left"); e.RoomID != "a" || e.User.ID != "ann" || e.Reason != "policy" {
		t.Errorf("%s", e.Raw)
	}
	if c := p.refused(&client.Request{Type: "join", RoomID: "a"}); c != "forbidden" {
		t.Errorf("joining again: %s", c)
	}
	p.do(&client.Request{Type: "chat", RoomID: "b", Message: text("still here")})
	if e := q.next("chat"); e.Text() != "still here" {
		t.Errorf("%s", e.Raw)
	}
	silent := strings.Replace(open, "join: anyone", "join: anyone, publish: nobody", 1)
	if _, err := i.reload(silent); err != nil {
		t.Fatal(err)
	}
	if c := p.refused(&client.Request{Type: "chat", RoomID: "b", Message: text("x")}); c != "forbidden" {
		t.Errorf("chat: %s", c)
	}
	if ignored, err := i.reload(strings.Replace(open, `listen: "127.0.0.1:0"`, `listen: "127.0.0.1:1"`, 1)); err != nil || fmt.Sprint(ignored) != "[listen]" {
		t.Errorf("%v %v", ignored, err)
	}
	for range 2 { // a change that was not carried out is told again, and to undo it changes nothing
		if ignored, err := i.reload(open + `telemetry: {service: other, metrics: {listen: "127.0.0.1:1"}, traces: {otlp: "http://127.0.0.1:9"}, log: {format: text, level: debug}}` + "\n"); err != nil ||
			fmt.Sprint(ignored) != "[telemetry.service telemetry.traces (where to) telemetry.metrics telemetry.log.format]" {
			t.Errorf("%v %v", ignored, err)
		}
	}
	if ignored, err := i.reload(open); err != nil || len(ignored) > 0 {
		t.Errorf("undone: %v %v", ignored, err)
	}
	moved := strings.Replace(open, "path: /ws", "path: /other", 1)
	if _, err := i.reload(moved); err != nil {
		t.Fatal(err)
	}
	if c := p.closed(); c != 1012 {
		t.Errorf("the removed endpoint's socket: %d", c)
	}
	if code, _ := handshake(t, i.url(), nil); code != 404 {
		t.Errorf("the removed endpoint: %d", code)
	}
}

func TestABadReloadChangesNothing(t *testing.T) {
	i := start(t, open)
	p := dial(t, i.url(), client.Options{})
	p.do(&client.Request{Type: "join", RoomID: "r", User: user("ann")})
	bad := strings.Replace(open, "join: anyone", "join: usr.id == 'x'", 1)
	if _, err := i.reload(bad); err == nil || !strings.Contains(err.Error(), "relay.yaml:6:") {
		t.Errorf("%v", err)
	}
	p.do(&client.Request{Type: "chat", RoomID: "r", Message: text("x")})
	p.do(&client.Request{Type: "join", RoomID: "s"})
}

// 100 reloads under load: no socket is dropped and no message lost.
func TestReloadsUnderLoad(t *testing.T) {
	i := start(t, open)
	const senders, each = 5, 200
	var all []*peer
	for n := range senders {
		p := dial(t, i.url(), client.Options{})
		p.do(&client.Request{Type: "join", RoomID: "r", User: user(fmt.Sprint("u", n))})
		all = append(all, p)
	}
	var wg sync.WaitGroup
	for _, p := range all {
		wg.Go(func() {
			for range each {
				if _, err := p.Chat(t.Context(), "r", "x"); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for n := range 100 {
		yaml := open
		if n%2 == 0 {
			yaml = strings.Replace(open, "history: {}", "history: {keep: 150}", 1)
		}
		if _, err := i.reload(yaml); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
	for n, p := range all {
		seq := uint64(0)
		for seq < senders*each {
			e := p.await("chat or ack", func(e *client.Event) bool { return e.Type == "chat" || e.Type == "ack" })
			if e.Seq != seq+1 {
				t.Fatalf("client %d: seq %d after %d", n, e.Seq, seq)
			}
			seq = e.Seq
		}
	}
}

func TestHandshakesAreRefusedBeforeTheUpgrade(t *testing.T) {
	i := start(t, strings.Replace(open, "limits: {requests: 100000/s, connects: 100000/s}", `limits: {per_ip: 2}, origins: ["https://app.example.com"]`, 1))
	for name, c := range map[string]struct {
		header http.Header
		want   int
		says   string
	}{
		"cross-origin":     {http.Header{"Origin": {"https://evil.example"}}, 403, "endpoints[0].origins"},
		"null origin":      {http.Header{"Origin": {"null"}}, 403, "endpoints[0].origins"},
		"DNS rebinding":    {http.Header{"Host": {"evil.example:80"}, "Origin": {"http://evil.example:80"}}, 421, "hosts in relay.yaml"},
		"a listed origin":  {http.Header{"Origin": {"https://app.example.com"}}, 101, ""},
		"without a header": {nil, 101, ""},
	} {
		if code, body := handshake(t, i.url(), c.header); code != c.want || !strings.Contains(body, c.says) {
			t.Errorf("%s: %d %q", name, code, body)
		}
	}
	var held []*peer
	if err := poll(5*time.Second, func() bool { // the places of those above are given back soon after they closed
		if p, err := tryDial(t, i.url(), client.Options{}); err == nil {
			held = append(held, p)
		}
		return len(held) == 2
	}); err != nil {
		t.Fatal("no place is given")
	}
	if code, body := handshake(t, i.url(), nil); code != 503 || !strings.Contains(body, "address") {
		t.Errorf("the third from one address: %d %q", code, body)
	}
	if code, _ := handshake(t, i.url(), http.Header{"X-Forwarded-For": {"203.0.113.9"}}); code != 503 {
		t.Errorf("X-Forwarded-For from a stranger: %d", code)
	}
	_ = held[0].Close()
	if err := poll(5*time.Second, func() bool { code, _ := handshake(t, i.url(), nil); return code == 101 }); err != nil {
		t.Error("the place is not given back")
	}
}

// poll looks until ok, for conditions that nobody announces.
func poll(within time.Duration, ok func() bool) error {
	limit := time.After(within)
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for !ok() {
		select {
		case <-look.C:
		case <-limit:
			return fmt.Errorf("not within %s", within)
		}
	}
	return nil
}
