package app_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/wsrelay/relay/auth"
	"github.com/wsrelay/relay/auth/authtest"
	client "github.com/wsrelay/relay/client/go"
)

// guarded lets users of an issuer in, and guests beside them.
func guarded(iss *authtest.Issuer) string {
	return fmt.Sprintf(`
listen: "127.0.0.1:0"
admin: {listen: ""}
endpoints:
  - {path: /ws, auth: [users, guests]}
  - {path: /users, auth: [users]}
  - {path: /cookie, auth: [cookies], origins: ["https://app.example.com"]}
  - {path: /keys, auth: [servers]}
auth:
  users: {type: jwt, issuer: %q, jwks: %q, audience: relay, user: {roles: /roles}}
  cookies: {type: jwt, issuer: %q, jwks: %q, audience: relay, from: ["cookie:sid", "query:t"]}
  guests: {type: anonymous}
  servers: {type: apikey, keys: {billing: {hash: "${HASH}", roles: [service]}}}
rooms:
  - {match: "staff-*", create: "'agent' in user.roles", join: "'agent' in user.roles"}
  - {match: "team-{team}", create: "room.params.team in user.claims.teams", join: "room.params.team in user.claims.teams"}
  - {match: "closed", create: nobody, join: authenticated}
  - {match: "*", create: anyone, join: anyone, members: {grace: 0s}}
drain: {over: 0s}
`, iss.URL, iss.KeysURL(), iss.URL, iss.KeysURL())
}

func startGuarded(t *testing.T) (*instance, *authtest.Issuer, string) {
	t.Helper()
	iss := authtest.NewIssuer(t)
	key, hash := auth.NewAPIKey()
	return start(t, guarded(iss), "HASH="+hash), iss, key
}

// ws is the address of another endpoint.
func (i *instance) ws(path string) string { return "ws://" + i.Addr().String() + path }

// ending is the close code of a connection that is let in to be told why not.
func (i *instance) ending(path string, opt client.Options) int {
	i.t.Helper()
	p, err := tryDial(i.t, i.ws(path), opt)
	if err == nil {
		return p.closed()
	}
	if ce, ok := err.(*client.CloseError); ok {
		return ce.Code
	}
	i.t.Fatal(err)
	return 0
}

func TestATokenNamesTheUser(t *testing.T) {
	i, iss, key := startGuarded(t)
	token := iss.Token("ann", authtest.Claim("name", "Ann"), authtest.Claim("aud", "relay"))
	dialer := func(proto ...string) *websocket.Dialer { return &websocket.Dialer{Subprotocols: proto} }
	for name, c := range map[string]struct {
		path string
		opt  client.Options
		want string
	}{
		"header":      {"/ws", client.Options{Token: token}, "ann"},
		"users only":  {"/users", client.Options{Token: token}, "ann"},
		"cookie":      {"/cookie", client.Options{Header: http.Header{"Cookie": {"sid=" + token}, "Origin": {"https://app.example.com"}}}, "ann"},
		"query":       {"/cookie?t=" + token, client.Options{Header: http.Header{"Origin": {"https://app.example.com"}}}, "ann"},
		"apikey":      {"/keys", client.Options{Token: key}, auth.ServicePrefix + "billing"},
		"subprotocol": {"/ws", client.Options{Dialer: dialer("relay.v1", "bearer."+token)}, "ann"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.opt.Dialer != nil { // the client sets the subprotocols of its own
				ws, res, err := c.opt.Dialer.DialContext(t.Context(), i.ws(c.path), nil)
				if err != nil {
					t.Fatal(err)
				}
				defer ws.Close()
				if got := res.Header.Get("Sec-Websocket-Protocol"); got != "relay.v1" {
					t.Errorf("echoed %q", got)
				}
				_, b, err := ws.ReadMessage()
				if err != nil || !strings.Contains(string(b), `"user":{"id":"ann"`) {
					t.Errorf("%s %v", b, err)
				}
				return
			}
			p := dial(t, i.ws(c.path), c.opt)
			if w := p.Welcome(); w.User == nil || w.User.ID != c.want || w.User.Guest {
				t.Fatalf("%s", w.Raw)
			}
			if e := p.do(&client.Request{Type: "join", RoomID: "r"}); e.User.ID != c.want {
				t.Errorf("%s", e.Raw)
			}
			if got := p.refused(&client.Request{Type: "chat", RoomID: "r", User: user("eve"), Message: text("x")}); got != "user_mismatch" {
				t.Errorf("as another: %s", got)
			}
		})
	}
}

func TestATokenInTheFirstMessage(t *testing.T) {
	i, iss, _ := startGuarded(t)
	p := dial(t, i.ws("/users"), client.Options{})
	if got := p.refused(&client.Request{Type: "join", RoomID: "r", User: user("ann")}); got != "unauthenticated" {
		t.Errorf("before auth: %s", got)
	}
	e := p.do(&client.Request{Type: "auth", Token: iss.Token("ann", authtest.Claim("aud", "relay"))})
	if e.Type != "authenticated" || e.User.ID != "ann" || e.ExpiresAt == 0 {
		t.Errorf("%s", e.Raw)
	}
	p.do(&client.Request{Type: "join", RoomID: "r"})
	if got := p.refused(&client.Request{Type: "auth", Token: iss.Token("eve", authtest.Claim("aud", "relay"))}); got != "user_mismatch" {
		t.Errorf("another user's token: %s", got)
	}
	p.do(&client.Request{Type: "auth", Token: iss.Token("ann", authtest.Claim("aud", "relay"))})
	p.do(&client.Request{Type: "chat", RoomID: "r", Message: text("x")})
}

// Each of these presents a credential that is no good, at an endpoint that lets
// guests in: none of them becomes a guest, and none learns why.
func TestBadCredentialsAreRefusedWith4401(t *testing.T) {
	i, iss, key := startGuarded(t)
	good := authtest.Claim("aud", "relay")
	for name, token := range map[string]string{
		"expired":       iss.Token("ann", good, authtest.Claim("exp", time.Now().Add(-time.Hour).Unix())),
		"not yet valid": iss.Token("ann", good, authtest.Claim("nbf", time.Now().Add(time.Hour).Unix())),
		"wrong aud":     iss.Token("ann", authtest.Claim("aud", "another")),
		"wrong iss":     iss.Token("ann", good, authtest.Claim("iss", "https://evil.example")),
		"alg none":      iss.Token("ann", good, authtest.Unsigned()),
		"unknown kid":   iss.Token("ann", good, authtest.Head("kid", "nobody")),
		"kid of a path": iss.Token("ann", good, authtest.Head("kid", "../../etc/passwd")),
		"garbage":       "e30.e30.e30",
		"an api key":    key,
	} {
		t.Run(name, func(t *testing.T) {
			p, err := tryDial(t, i.ws("/ws"), client.Options{Token: token})
			var first *client.Event
			if err == nil {
				first = p.Welcome()
				if code := p.closed(); code != 4401 {
					t.Errorf("closed with %d", code)
				}
			} else if ce, ok := err.(*client.CloseError); !ok || ce.Code != 4401 {
				t.Fatal(err)
			}
			if first != nil && (first.Type != "error" || first.Code != "unauthenticated" || strings.Contains(string(first.Raw), name)) {
				t.Errorf("heard %s", first.Raw)
			}
			if token != "" && strings.Contains(i.logs.String(), token) {
				t.Error("the token stands in the log")
			}
		})
	}
	if code := i.ending("/cookie", client.Options{Header: http.Header{"Origin": {"https://app.example.com"}}}); code != 4401 {
		t.Errorf("no credential where one is needed: %d", code)
	}
	if code, _ := handshake(t, i.ws("/cookie"), http.Header{"Cookie": {"sid=x"}}); code != 403 {
		t.Errorf("a cookie without an origin: %d", code)
	}
}

func TestKeysOutOfReachAre1013AndNotAGuest(t *testing.T) {
	i, iss, _ := startGuarded(t)
	iss.SetDown(true)
	if code := i.ending("/ws", client.Options{Token: iss.Token("ann", authtest.Claim("aud", "relay"))}); code != 1013 {
		t.Errorf("closed with %d", code)
	}
	p := dial(t, i.ws("/ws"), client.Options{}) // guests need no keys
	p.do(&client.Request{Type: "join", RoomID: "r", User: user("g")})
}

func TestAGuestIsAGuestEverywhere(t *testing.T) {
	i, iss, _ := startGuarded(t)
	ann := dial(t, i.ws("/ws"), client.Options{Token: iss.Token("ann", authtest.Claim("aud", "relay"))})
	ann.do(&client.Request{Type: "join", RoomID: "r"})
	g := dial(t, i.ws("/ws"), client.Options{})
	if e := g.do(&client.Request{Type: "join", RoomID: "r", User: user("ann")}); e.User.ID != "guest:ann" || !e.User.Guest || e.MemberCount != 2 {
		t.Errorf("%s", e.Raw)
	}
	if e := ann.next("member_joined"); e.User.ID != "guest:ann" || !e.User.Guest {
		t.Errorf("%s", e.Raw)
	}
	// Roles and claims in `user` are not read.
	if err := g.SendRaw([]byte(`{"id":"x","type":"join","roomId":"staff-1","user":{"id":"ann","roles":["agent"],"claims":{"teams":["x"]},"guest":false}}`)); err != nil {
		t.Fatal(err)
	}
	if e := g.await("reply", func(e *client.Event) bool { return e.ID == "x" }); e.Code != "forbidden" {
		t.Errorf("%s", e.Raw)
	}
}

func TestRulesSeeRolesAndClaims(t *testing.T) {
	i, iss, _ := startGuarded(t)
	p := dial(t, i.ws("/ws"), client.Options{Token: iss.Token("ann", authtest.Claim("aud", "relay"),
		authtest.Claim("roles", []string{"agent"}), authtest.Claim("teams", []string{"sales"}))})
	p.do(&client.Request{Type: "join", RoomID: "staff-1"})
	p.do(&client.Request{Type: "join", RoomID: "team-sales"})
	if got := p.refused(&client.Request{Type: "join", RoomID: "team-billing"}); got != "forbidden" {
		t.Errorf("another team: %s", got)
	}
}

// Who may not join hears the same of a room that exists and one that does not.
func TestRoomsCannotBeEnumerated(t *testing.T) {
	i, iss, _ := startGuarded(t)
	agent := dial(t, i.ws("/ws"), client.Options{Token: iss.Token("ann", authtest.Claim("aud", "relay"), authtest.Claim("roles", []string{"agent"}))})
	agent.do(&client.Request{Type: "create", RoomID: "staff-real"})
	g := dial(t, i.ws("/ws"), client.Options{})
	said := map[string]bool{}
	for _, room := range []string{"staff-real", "staff-none"} {
		for _, typ := range []string{"join", "create", "members", "history", "exit"} {
			id := room + typ
			if err := g.Send(&client.Request{Type: typ, ID: id, RoomID: room, User: user("g")}); err != nil {
				t.Fatal(err)
			}
			e := g.await("reply", func(e *client.Event) bool { return e.ID == id })
			said[typ+e.Code+strings.ReplaceAll(string(e.Message), room, "")] = true
		}
	}
	if len(said) != 5 {
		t.Errorf("the two rooms can be told apart: %v", said)
	}
	if got := agent.refused(&client.Request{Type: "join", RoomID: "closed"}); got != "room_not_found" {
		t.Errorf("who may join but not create: %s", got)
	}
}

func TestACredentialThatEndsIsToldAndThen4401(t *testing.T) {
	i, iss, _ := startGuarded(t)
	exp := time.Now().Add(3 * time.Second) // whole seconds: 2 to 3 s
	p := dial(t, i.ws("/ws"), client.Options{Token: iss.Token("ann", authtest.Claim("aud", "relay"), authtest.Claim("exp", exp.Unix()))})
	p.do(&client.Request{Type: "join", RoomID: "r"})
	if e := p.next("expiring"); e.InMs <= 0 || e.InMs > 3000 {
		t.Errorf("%s", e.Raw)
	}
	if c := p.closed(); c != 4401 {
		t.Errorf("closed with %d", c)
	}
	q := dial(t, i.ws("/ws"), client.Options{Token: iss.Token("bob", authtest.Claim("aud", "relay"), authtest.Claim("exp", time.Now().Add(3*time.Second).Unix()))})
	q.next("expiring")
	q.do(&client.Request{Type: "auth", Token: iss.Token("bob", authtest.Claim("aud", "relay"))})
	select {
	case <-q.Done():
		t.Error("closed although the token was renewed")
	case <-time.After(3 * time.Second): // past the end of the first token
	}
}

func TestCookieAuthWithoutOriginsDoesNotLoad(t *testing.T) {
	iss := authtest.NewIssuer(t)
	_, _, err := build(strings.Replace(guarded(iss), `, origins: ["https://app.example.com"]`, "", 1), "HASH=sha256:"+strings.Repeat("0", 64))
	if err == nil || !strings.Contains(err.Error(), "endpoints[2]: origins is missing") {
		t.Errorf("%v", err)
	}
}
