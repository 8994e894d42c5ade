package app_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	client "github.com/wsrelay/relay/client/go"
	"github.com/wsrelay/relay/internal/bus/redisbus/redistest"
)

// over is the open configuration with a Redis, a name of its own and a grace.
func over(redis string) string {
	return strings.Replace(open, "drain:", fmt.Sprintf("redis: {%s}\ndrain:", redis), 1)
}

// pair starts two instances over one Redis.
func pair(t *testing.T, yaml func(redis string) string) (one, two *instance) {
	t.Helper()
	r := redistest.Start(t)
	y := yaml(fmt.Sprintf("url: %q", r.URL()))
	return start(t, y), start(t, y)
}

func TestTheOriginalSessionOverTwoInstances(t *testing.T) {
	one, two := pair(t, over)
	ann, bob := dial(t, one.url(), client.Options{}), dial(t, two.url(), client.Options{})
	room := ann.do(&client.Request{Type: "create", User: user("ann")}).RoomID
	if e := bob.do(&client.Request{Type: "join", RoomID: room, User: user("bob")}); e.MemberCount != 2 || len(e.Members) != 2 {
		t.Errorf("%s", e.Raw)
	}
	if e := ann.next("member_joined"); e.User.ID != "bob" {
		t.Errorf("%s", e.Raw)
	}
	ack := bob.do(&client.Request{Type: "chat", RoomID: room, Message: text("hi")})
	if e := ann.next("chat"); e.Text() != "hi" || e.Seq != ack.Seq || e.MessageID != ack.MessageID {
		t.Errorf("%s", e.Raw)
	}
	bob.do(&client.Request{Type: "exit", RoomID: room})
	ann.next("member_left")
	bob.do(&client.Request{Type: "join", RoomID: room})
	ann.next("member_joined")
	bob.Abort()
	if e := ann.next("member_left"); e.User.ID != "bob" || e.MemberCount != 1 {
		t.Errorf("%s", e.Raw)
	}
}

// 200 rooms of 10 members over two instances: every member gets every message
// once, in one order per room.
func TestManyRoomsOneOrderEach(t *testing.T) {
	const rooms, members, each = 200, 10, 5
	one, two := pair(t, over)
	type view struct {
		peer *peer
		room string
	}
	views := make([]view, rooms*members)
	var wg sync.WaitGroup
	limit := make(chan struct{}, 64)
	for n := range views {
		wg.Go(func() {
			limit <- struct{}{}
			defer func() { <-limit }()
			url := one.url()
			if n%2 == 1 {
				url = two.url()
			}
			p, err := tryDial(t, url, client.Options{})
			if err != nil {
				t.Error(err)
				return
			}
			room := fmt.Sprint("room-", n/members)
			if _, err := p.Join(t.Context(), room, user(fmt.Sprint("u", n)), nil); err != nil {
				t.Errorf("joining %s: %v", room, err)
			}
			views[n] = view{p, room}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	for n, v := range views {
		wg.Go(func() {
			for k := range each {
				if err := v.peer.Send(&client.Request{Type: "chat", ID: fmt.Sprint("m", k), RoomID: v.room, Message: text(fmt.Sprintf("%d.%d", n, k))}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	orders := make([]string, len(views))
	for n, v := range views {
		wg.Go(func() {
			var order strings.Builder
			for seq := uint64(1); seq <= members*each; seq++ {
				e := v.peer.await("chat or ack", func(e *client.Event) bool { return e.Type == "chat" || e.Type == "ack" || e.Type == "error" })
				if e.Seq != seq {
					t.Errorf("member %d of %s: %s where seq %d is due", n, v.room, e.Raw, seq)
					return
				}
				order.WriteString(e.MessageID)
			}
			orders[n] = order.String()
		})
	}
	wg.Wait()
	for n := range views {
		if orders[n] != orders[n-n%members] {
			t.Errorf("member %d sees another order than member %d", n, n-n%members)
		}
	}
}

func TestCapacityIsExactOverTwoInstances(t *testing.T) {
	one, two := pair(t, func(redis string) string {
		return strings.Replace(over(redis), "members: {grace: 0s}", "members: {grace: 0s, max: 10}", 1)
	})
	var in, full atomic.Int64
	together(t, 100, one, two, func(p *peer, n int) error {
		_, err := p.Join(t.Context(), "small", user(fmt.Sprint("u", n)), nil)
		var e *client.Error
		switch {
		case err == nil:
			in.Add(1)
		case errors.As(err, &e) && e.Code == "room_full":
			full.Add(1)
		default:
			return err
		}
		return nil
	})
	if in.Load() != 10 || full.Load() != 90 {
		t.Errorf("%d are in, %d were told it is full", in.Load(), full.Load())
	}
}

func TestARoomIsCreatedOnce(t *testing.T) {
	one, two := pair(t, over)
	var made, exists atomic.Int64
	together(t, 50, one, two, func(p *peer, n int) error {
		_, err := p.Create(t.Context(), "the-one", user(fmt.Sprint("u", n)))
		var e *client.Error
		switch {
		case err == nil:
			made.Add(1)
		case errors.As(err, &e) && e.Code == "room_exists":
			exists.Add(1)
		default:
			return err
		}
		return nil
	})
	if made.Load() != 1 || exists.Load() != 49 {
		t.Errorf("%d made it, %d were told it exists", made.Load(), exists.Load())
	}
}

// together lets n clients on both instances do something at once.
func together(t *testing.T, n int, one, two *instance, f func(*peer, int) error) {
	t.Helper()
	peers := make([]*peer, n)
	for k := range peers {
		url := one.url()
		if k%2 == 1 {
			url = two.url()
		}
		peers[k] = dial(t, url, client.Options{})
	}
	var wg sync.WaitGroup
	gate := make(chan struct{})
	for k, p := range peers {
		wg.Go(func() {
			<-gate
			if err := f(p, k); err != nil {
				t.Errorf("client %d: %v", k, err)
			}
		})
	}
	close(gate)
	wg.Wait()
}

func TestResumeOnAnotherInstanceBringsExactlyWhatWasMissed(t *testing.T) {
	one, two := pair(t, func(redis string) string {
		return strings.Replace(over(redis), "members: {grace: 0s}", "members: {grace: 10s}", 1)
	})
	ann, bob := dial(t, one.url(), client.Options{}), dial(t, one.url(), client.Options{})
	ann.do(&client.Request{Type: "join", RoomID: "r", User: user("ann")})
	at := bob.do(&client.Request{Type: "join", RoomID: "r", User: user("bob")})
	ann.do(&client.Request{Type: "chat", RoomID: "r", Message: text("seen")})
	seen := bob.next("chat")
	bob.Abort()
	for n := range 20 {
		ann.do(&client.Request{Type: "chat", RoomID: "r", Message: text(fmt.Sprint("missed ", n))})
	}
	again := dial(t, two.url(), client.Options{})
	e := again.do(&client.Request{Type: "join", RoomID: "r", User: user("bob"), Resume: &client.Position{Epoch: at.Epoch, Seq: seen.Seq}})
	if !e.Recovered || len(e.Messages) != 20 || e.Messages[0].Text() != "missed 0" || e.Messages[19].Seq != e.Seq {
		t.Errorf("%s", e.Raw)
	}
	ann.do(&client.Request{Type: "chat", RoomID: "r", Message: text("live")})
	if live := again.next("chat"); live.Text() != "live" || live.Seq != e.Seq+1 {
		t.Errorf("%s", live.Raw)
	}
	for _, h := range ann.snapshot() {
		if h.Type == "member_left" {
			t.Errorf("the short drop was announced: %s", h.Raw)
		}
	}
	if e := again.do(&client.Request{Type: "join", RoomID: "r", Resume: &client.Position{Epoch: "no-such-epoch", Seq: 1}}); e.Recovered {
		t.Errorf("recovered from an epoch that never was: %s", e.Raw)
	}
}

func (p *peer) snapshot() []*client.Event {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]*client.Event(nil), p.heard...)
}

func TestHistoryRedactAndKeyOverTwoInstances(t *testing.T) {
	one, two := pair(t, func(redis string) string {
		return strings.Replace(over(redis), "join: anyone", "join: anyone, moderate: anyone", 1)
	})
	ann, bob := dial(t, one.url(), client.Options{}), dial(t, two.url(), client.Options{})
	ann.do(&client.Request{Type: "join", RoomID: "r", User: user("ann")})
	bob.do(&client.Request{Type: "join", RoomID: "r", User: user("bob")})
	first := ann.do(&client.Request{Type: "chat", RoomID: "r", Message: text("one"), Key: "k1"})
	again := dial(t, two.url(), client.Options{})
	again.do(&client.Request{Type: "join", RoomID: "r", User: user("ann")})
	repeat := again.do(&client.Request{Type: "chat", RoomID: "r", Message: text("one"), Key: "k1"})
	if !repeat.Duplicate || repeat.Seq != first.Seq || repeat.MessageID != first.MessageID {
		t.Errorf("first %s\nrepeat %s", first.Raw, repeat.Raw)
	}
	if got := again.refused(&client.Request{Type: "chat", RoomID: "r", Message: text("two"), Key: "k1"}); got != "bad_request" {
		t.Errorf("the key with another body: %s", got)
	}
	second := ann.do(&client.Request{Type: "chat", RoomID: "r", Message: text("two")})
	bob.do(&client.Request{Type: "redact", RoomID: "r", MessageID: first.MessageID, Seq: first.Seq, Reason: "spam"})
	if e := ann.next("redacted"); e.Target != first.MessageID || e.Reason != "spam" || e.Seq != second.Seq+1 {
		t.Errorf("%s", e.Raw)
	}
	h := bob.do(&client.Request{Type: "history", RoomID: "r"})
	if len(h.Messages) != 1 || h.Messages[0].Text() != "two" {
		t.Errorf("%s", h.Raw)
	}
}

// What is accepted before SIGTERM is published and acked, and the members that
// come back elsewhere within their grace never left.
func TestARollingRestartLosesNothingAndNobodyLeaves(t *testing.T) {
	one, two := pair(t, func(redis string) string {
		return strings.Replace(over(redis), "members: {grace: 0s}", "members: {grace: 20s}", 1)
	})
	watcher := dial(t, two.url(), client.Options{})
	watcher.do(&client.Request{Type: "join", RoomID: "r", User: user("watcher")})
	var all []*peer
	for n := range 10 {
		p := dial(t, one.url(), client.Options{})
		p.do(&client.Request{Type: "join", RoomID: "r", User: user(fmt.Sprint("u", n))})
		all = append(all, p)
	}
	for n, p := range all {
		for k := range 20 {
			if err := p.Send(&client.Request{Type: "chat", ID: fmt.Sprint(n, ".", k), RoomID: "r", Message: text(fmt.Sprint(n, ".", k))}); err != nil {
				t.Fatal(err)
			}
		}
		p.do(&client.Request{Type: "ping"}) // they have been read
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := one.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	for n, p := range all {
		if c := p.closed(); c != 1012 {
			t.Errorf("client %d: closed with %d", n, c)
		}
		acks := 0
		for _, e := range p.snapshot() {
			if e.Type == "ack" {
				acks++
			}
		}
		if acks != 20 {
			t.Errorf("client %d: %d acks of 20", n, acks)
		}
		again := dial(t, two.url(), client.Options{})
		again.do(&client.Request{Type: "join", RoomID: "r", User: user(fmt.Sprint("u", n))})
	}
	chats := 0
	watcher.do(&client.Request{Type: "chat", RoomID: "r", Message: text("end")})
	for _, e := range watcher.snapshot() {
		switch e.Type {
		case "chat":
			chats++
		case "member_left":
			t.Errorf("%s", e.Raw)
		}
	}
	if chats != 200 {
		t.Errorf("the watcher got %d chats of 200", chats)
	}
}
