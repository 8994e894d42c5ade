package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/wsrelay/relay/auth"
	client "github.com/wsrelay/relay/client/go"
	"github.com/wsrelay/relay/internal/bus"
	"github.com/wsrelay/relay/internal/bus/membus"
	"github.com/wsrelay/relay/internal/gateway"
	"github.com/wsrelay/relay/internal/gateway/door"
	"github.com/wsrelay/relay/internal/gateway/socket"
	"github.com/wsrelay/relay/internal/room"
	"github.com/wsrelay/relay/internal/room/policy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// instance is one relay without its configuration: a gateway over the bus given.
type instance struct {
	*gateway.Gateway
	url   string
	rooms *room.Registry
}

func start(t *testing.T, b bus.Bus, name string, specs ...policy.Spec) *instance {
	t.Helper()
	if len(specs) == 0 {
		specs = []policy.Spec{open("*")}
	}
	set, problems := policy.Compile(specs)
	if problems != nil {
		t.Fatalf("%+v", problems)
	}
	log := slog.New(slog.DiscardHandler)
	reg := room.New(room.Options{Bus: b, Rules: room.Rules{Policies: set}, Log: log})
	if err := b.Start(t.Context(), reg); err != nil {
		t.Fatal(err)
	}
	sockets := socket.NewGroup(nil)
	g := gateway.New(gateway.Options{
		Instance: name, Rooms: reg, Sockets: sockets, Log: log,
		Endpoints: []*gateway.Endpoint{{
			Path: "/ws", Auth: auth.NewChain(auth.NewAnonymous(auth.AnonymousOptions{Name: "guests"})),
			Door: door.New(door.Options{}), Socket: socket.Options{PingEvery: 25 * time.Second, PongTimeout: 10 * time.Second},
			RoomsPerConnection: 3,
		}},
	})
	srv := httptest.NewServer(g)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := g.Drain(ctx, 0); err != nil {
			t.Errorf("drain: %v", err)
		}
		srv.Close()
		if err := b.Close(ctx); err != nil {
			t.Errorf("closing the bus: %v", err)
		}
		if n := reg.Stats().Rooms.Load(); n != 0 {
			t.Errorf("%d rooms are left", n)
		}
	})
	return &instance{g, "ws" + strings.TrimPrefix(srv.URL, "http") + "/ws", reg}
}

// open is a policy under which everybody may do everything.
func open(match string) policy.Spec {
	return policy.Spec{Match: match, Create: "anyone", Join: "anyone", Settings: policy.Settings{
		Presence: true, Announce: true, Idle: time.Hour, History: &policy.History{Keep: 100, For: time.Hour},
	}}
}

// dialled is a client that notes what it hears.
type dialled struct {
	*client.Conn
	t      *testing.T
	events chan *client.Event
}

func (i *instance) dial(t *testing.T) *dialled {
	t.Helper()
	d := &dialled{t: t, events: make(chan *client.Event, 1000)}
	c, err := client.Dial(t.Context(), i.url, client.Options{Handler: func(e *client.Event) { d.events <- e }})
	if err != nil {
		t.Fatal(err)
	}
	d.Conn = c
	t.Cleanup(func() { c.Abort() })
	return d
}

// next waits for the next event of a type and skips others.
func (d *dialled) next(kind string) *client.Event {
	d.t.Helper()
	limit := time.After(10 * time.Second)
	for {
		select {
		case e := <-d.events:
			if e.Type == kind {
				return e
			}
		case <-limit:
			d.t.Fatalf("no %s came", kind)
		}
	}
}

func (d *dialled) must(e *client.Event, err error) *client.Event {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
	return e
}

func code(err error) string {
	var e *client.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return fmt.Sprint(err)
}

func user(id string) *client.User { return &client.User{ID: id, Name: strings.ToUpper(id)} }

// The session that relay grew from: create, join, chat, exit, sudden disconnect.
func TestTheOriginalSession(t *testing.T) {
	broker := membus.NewBroker(membus.Options{})
	one, two := start(t, broker.Instance(), "one"), start(t, broker.Instance(), "two")
	ctx := t.Context()

	ann := one.dial(t)
	created := ann.must(ann.Create(ctx, "", user("ann")))
	if created.Type != "created" || len(created.RoomID) < 20 || created.User.ID != "ann" || created.MemberCount != 1 || len(created.Members) != 1 {
		t.Errorf("created: %s", created.Raw)
	}
	id := created.RoomID

	bob := two.dial(t)
	joined := bob.must(bob.Join(ctx, id, user("bob"), nil))
	if joined.Type != "joined" || joined.MemberCount != 2 || joined.User.Name != "BOB" {
		t.Errorf("joined: %s", joined.Raw)
	}
	if e := ann.next("member_joined"); e.User.ID != "bob" || e.MemberCount != 2 || e.RoomID != id {
		t.Errorf("member_joined: %s", e.Raw)
	}

	ack := bob.must(bob.Chat(ctx, id, "hello"))
	if ack.Type != "ack" || ack.Seq != 1 || len(ack.MessageID) != 32 {
		t.Errorf("ack: %s", ack.Raw)
	}
	if e := ann.next("chat"); e.Text() != "hello" || e.User.ID != "bob" || e.Seq != 1 || e.MessageID != ack.MessageID {
		t.Errorf("chat: %s", e.Raw)
	}
	ann.must(ann.Chat(ctx, id, "hi"))
	if e := bob.next("chat"); e.User.ID != "ann" { // its own message would have come before
		t.Errorf("the sender got an echo: %s", e.Raw)
	}

	if err := bob.Exit(ctx, id); err != nil {
		t.Fatal(err)
	}
	if e := ann.next("member_left"); e.User.ID != "bob" || e.MemberCount != 1 {
		t.Errorf("member_left: %s", e.Raw)
	}
	bob.must(bob.Join(ctx, id, user("bob"), nil))
	ann.next("member_joined")
	bob.Abort()
	if e := ann.next("member_left"); e.User.ID != "bob" || e.MemberCount != 1 {
		t.Errorf("member_left after a sudden disconnect: %s", e.Raw)
	}
}

func TestAckComesInItsPlace(t *testing.T) {
	broker := membus.NewBroker(membus.Options{})
	one, two := start(t, broker.Instance(), "one"), start(t, broker.Instance(), "two")
	ann, bob := one.dial(t), two.dial(t)
	ann.must(ann.Join(t.Context(), "r", user("ann"), nil))
	bob.must(bob.Join(t.Context(), "r", user("bob"), nil))
	var wg sync.WaitGroup
	for _, d := range []*dialled{ann, bob} {
		wg.Go(func() {
			for i := range 100 {
				if err := d.Send(&client.Request{Type: "chat", ID: fmt.Sprint("c", i), RoomID: "r", Message: []byte(`"x"`)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for _, d := range []*dialled{ann, bob} {
		for seq := uint64(1); seq <= 200; {
			e := <-d.events
			if e.Type != "chat" && e.Type != "ack" {
				continue
			}
			if e.Seq != seq {
				t.Fatalf("%s where seq %d is due", e.Raw, seq)
			}
			seq++
		}
	}
}

func TestOneUserOnTwoSocketsIsOneMember(t *testing.T) {
	one := start(t, membus.New(membus.Options{}), "one")
	watcher, a, b := one.dial(t), one.dial(t), one.dial(t)
	watcher.must(watcher.Join(t.Context(), "r", user("w"), nil))
	a.must(a.Join(t.Context(), "r", user("ann"), nil))
	if e := b.must(b.Join(t.Context(), "r", user("ann"), nil)); e.MemberCount != 2 {
		t.Errorf("%s", e.Raw)
	}
	a.must(a.Do(t.Context(), &client.Request{Type: "chat", RoomID: "r", Message: []byte(`"x"`), Key: "k1"}))
	if e := b.next("chat"); e.Key != "k1" {
		t.Errorf("the user's other socket: %s", e.Raw)
	}
	if e := watcher.next("chat"); e.Key != "" {
		t.Errorf("a stranger sees the key: %s", e.Raw)
	}
	if err := a.Exit(t.Context(), "r"); err != nil {
		t.Fatal(err)
	}
	if err := b.Exit(t.Context(), "r"); err != nil {
		t.Fatal(err)
	}
	watcher.must(watcher.Chat(t.Context(), "r", "end"))
	joins, lefts := 0, 0
	for len(watcher.events) > 0 {
		switch e := <-watcher.events; e.Type {
		case "member_joined":
			joins++
		case "member_left":
			lefts++
		}
	}
	if lefts != 1 {
		t.Errorf("%d joins and %d lefts after the first chat", joins, lefts)
	}
}

func TestRefusals(t *testing.T) {
	closed := open("closed-*")
	closed.Join = "nobody"
	fixed := open("fixed-*")
	fixed.Create = "nobody"
	small := open("small")
	small.MembersMax, small.MaxMessage, small.Rate, small.Burst = 1, 10, 1, 2
	one := start(t, membus.New(membus.Options{}), "one", closed, fixed, small, open("a-*"))
	ctx := t.Context()
	ann, bob := one.dial(t), one.dial(t)
	do := func(d *dialled, r client.Request) string {
		_, err := d.Do(ctx, &r)
		return code(err)
	}
	ann.must(ann.Join(ctx, "small", user("ann"), nil))
	for _, c := range []struct {
		name string
		d    *dialled
		req  client.Request
		want string
	}{
		{"join what the policy closes", ann, client.Request{Type: "join", RoomID: "closed-1"}, "forbidden"},
		{"join what no policy matches", ann, client.Request{Type: "join", RoomID: "zzz"}, "forbidden"},
		{"join what one may not create", ann, client.Request{Type: "join", RoomID: "fixed-1"}, "room_not_found"},
		{"create what is there", bob, client.Request{Type: "create", RoomID: "small"}, "room_exists"},
		{"join a full room", bob, client.Request{Type: "join", RoomID: "small"}, "room_full"},
		{"chat from outside", bob, client.Request{Type: "chat", RoomID: "small", Message: []byte(`1`)}, "not_member"},
		{"chat to nowhere", bob, client.Request{Type: "chat", RoomID: "a-none", Message: []byte(`1`)}, "not_member"},
		{"members from outside", bob, client.Request{Type: "members", RoomID: "small"}, "not_member"},
		{"history from outside", bob, client.Request{Type: "history", RoomID: "small"}, "not_member"},
		{"exit from outside", bob, client.Request{Type: "exit", RoomID: "small"}, "not_member"},
		{"redact without the right", ann, client.Request{Type: "redact", RoomID: "small", MessageID: strings.Repeat("a", 32), Seq: 1}, "forbidden"},
		{"too large", ann, client.Request{Type: "chat", RoomID: "small", Message: []byte(`"12345678901"`)}, "too_large"},
		{"first of the burst", ann, client.Request{Type: "chat", RoomID: "small", Message: []byte(`1`)}, "<nil>"},
		{"second of the burst", ann, client.Request{Type: "chat", RoomID: "small", Message: []byte(`1`)}, "<nil>"},
		{"over the rate", ann, client.Request{Type: "chat", RoomID: "small", Message: []byte(`1`)}, "rate_limited"},
		{"another user", ann, client.Request{Type: "chat", RoomID: "small", User: user("eve"), Message: []byte(`1`)}, "user_mismatch"},
		{"unknown type", ann, client.Request{Type: "dance"}, "unknown_type"},
		{"key without a room", ann, client.Request{Type: "create", Key: "k"}, "bad_request"},
		{"second room", ann, client.Request{Type: "join", RoomID: "a-1"}, "<nil>"},
		{"third room", ann, client.Request{Type: "join", RoomID: "a-2"}, "<nil>"},
		{"fourth room", ann, client.Request{Type: "join", RoomID: "a-3"}, "rate_limited"},
	} {
		if got := do(c.d, c.req); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	if e := ann.must(ann.Do(ctx, &client.Request{Type: "ping"})); e.Type != "pong" {
		t.Errorf("the socket is of no use after errors: %s", e.Raw)
	}
}

func TestDrainTellsClosesAndLeavesNobodyBehind(t *testing.T) {
	b := membus.New(membus.Options{})
	one := start(t, b, "one")
	var all []*dialled
	for i := range 20 {
		d := one.dial(t)
		d.must(d.Join(t.Context(), "r", user(fmt.Sprint("u", i)), nil))
		all = append(all, d)
	}
	for i, d := range all {
		if err := d.Send(&client.Request{Type: "chat", ID: "last", RoomID: "r", Message: fmt.Append(nil, i)}); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range all {
		d.must(d.Do(t.Context(), &client.Request{Type: "ping"})) // the chats have been read
	}
	if err := one.Drain(t.Context(), 200*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	for i, d := range all {
		<-d.Done()
		var ce *client.CloseError
		if !errors.As(d.Err(), &ce) || ce.Code != 1012 {
			t.Errorf("client %d: %v", i, d.Err())
		}
		acked, told := false, false
		for len(d.events) > 0 {
			e := <-d.events
			acked = acked || e.Type == "ack" && e.ID == "last"
			told = told || e.Type == "closing"
		}
		if !acked || !told {
			t.Errorf("client %d: acked %v, told %v", i, acked, told)
		}
	}
	if n := one.rooms.Stats().Seats.Load(); n != 0 {
		t.Errorf("%d seats are left", n)
	}
}
