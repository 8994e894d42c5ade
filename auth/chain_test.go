package auth_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/wsrelay/relay/auth"
	"github.com/wsrelay/relay/auth/authtest"
)

// houses are chains over the same authenticators.
type house struct {
	users   *auth.JWT
	issuer  *authtest.Issuer
	servers *auth.APIKeys
	key     string
	guests  *auth.Anonymous
}

func newHouse(t *testing.T) house {
	t.Helper()
	users, issuer, _ := fixture(t)
	key, hash := auth.NewAPIKey()
	servers := must(auth.NewAPIKeys(auth.APIKeyOptions{
		Name: "servers", Keys: map[string]auth.APIKey{"billing": {Hash: hash, Roles: []string{"service"}}},
	}))(t)
	return house{users, issuer, servers, key, auth.NewAnonymous(auth.AnonymousOptions{Name: "guests", Prefix: true})}
}

func TestChainDecides(t *testing.T) {
	h := newHouse(t)
	token, forged := h.issuer.Token("ada"), h.issuer.Token("ada", authtest.Claim("aud", "shop"))
	stranger, _ := auth.NewAPIKey()
	all := auth.NewChain(h.guests, h.users, h.servers)
	signedIn := auth.NewChain(h.servers, h.users)
	onlyGuests := auth.NewChain(h.guests)
	for _, c := range []struct {
		name  string
		chain *auth.Chain
		cred  auth.Credentials
		want  string // user id, or
		err   error
	}{
		{"a token", all, authtest.Bearer(token), "ada", nil},
		{"a token by message", all, authtest.At(auth.Message, token), "ada", nil},
		{"a key, though tokens are asked first", all, authtest.Bearer(h.key), "service:billing", nil},
		{"a token, though keys are asked first", signedIn, authtest.Bearer(token), "ada", nil},
		{"nothing", all, auth.Credentials{Claim: auth.Claim{ID: "ada"}}, "guest:ada", nil},
		{"nothing, no guests", signedIn, auth.Credentials{Claim: auth.Claim{ID: "ada"}}, "", auth.ErrNoCredential},
		{"a forged token", all, authtest.Bearer(forged), "", auth.ErrInvalid},
		{"a key of nobody", all, authtest.Bearer(stranger), "", auth.ErrInvalid},
		{"noise", all, authtest.Bearer("x"), "", auth.ErrInvalid},
		{"an empty token", all, authtest.Bearer(""), "", auth.ErrInvalid},
		{"a token where nobody reads tokens", onlyGuests, authtest.Bearer(token), "", auth.ErrInvalid},
		{"noise where nobody reads tokens", onlyGuests, authtest.Bearer("x"), "", auth.ErrInvalid},
		{"a key where only tokens are read", auth.NewChain(h.users, h.guests), authtest.Bearer(h.key), "", auth.ErrInvalid},
		{"nobody is let in", auth.NewChain(), auth.Credentials{}, "", auth.ErrNoCredential},
	} {
		id, err := c.chain.Authenticate(t.Context(), c.cred)
		switch {
		case c.err != nil:
			if id != nil || !errors.Is(err, c.err) {
				t.Errorf("%s: %+v, %v; want %v", c.name, id, err, c.err)
			}
		case err != nil:
			t.Errorf("%s: %v", c.name, err)
		case id.ID != c.want:
			t.Errorf("%s: %q, want %q", c.name, id.ID, c.want)
		}
	}
}

// Whoever cannot be judged now is not let in as somebody else.
func TestChainUnavailableIsNoGuest(t *testing.T) {
	h := newHouse(t)
	h.issuer.SetDown(true)
	chain := auth.NewChain(h.users, h.servers, h.guests)
	id, err := chain.Authenticate(t.Context(), authtest.Bearer(h.issuer.Token("ada")))
	if id != nil || !errors.Is(err, auth.ErrUnavailable) {
		t.Errorf("%+v, %v; want ErrUnavailable", id, err)
	}
}

func TestChainHoldsTheClaimAgainstTheToken(t *testing.T) {
	h := newHouse(t)
	chain := auth.NewChain(h.users)
	cred := authtest.Bearer(h.issuer.Token("ada"))
	cred.Claim = auth.Claim{ID: "grace"}
	if id, err := chain.Authenticate(t.Context(), cred); id != nil || !errors.Is(err, auth.ErrUserMismatch) || !errors.Is(err, auth.ErrInvalid) {
		t.Errorf("%+v, %v; want ErrUserMismatch", id, err)
	}
	cred.Claim = auth.Claim{ID: "ada", Name: "Ada", Data: json.RawMessage(`{"a":1}`)}
	id := must(chain.Authenticate(t.Context(), cred))(t)
	if id.Name != "Ada" || string(id.Data) != `{"a":1}` || id.Guest {
		t.Errorf("%+v", id)
	}
}

func TestChainTellsWhatToWaitFor(t *testing.T) {
	h := newHouse(t)
	handshakeOnly := must(auth.NewJWT(auth.JWTOptions{Issuer: "https://id.example.com", Audience: []string{"x"}, From: []string{"header", "query:t"}}))(t)
	for _, c := range []struct {
		chain  *auth.Chain
		guests bool
		waits  bool
		places string
	}{
		{auth.NewChain(), false, false, "[]"},
		{auth.NewChain(h.guests), true, false, "[]"},
		{auth.NewChain(h.users, h.servers, h.guests), true, true, "[header subprotocol message]"},
		{auth.NewChain(handshakeOnly), false, false, "[header query:t]"},
		{auth.NewChain(handshakeOnly, h.servers), false, true, "[header query:t subprotocol message]"},
	} {
		if c.chain.Guests() != c.guests || (c.chain.Deadline() == auth.FirstMessageDeadline) != c.waits || fmt.Sprint(c.chain.Places()) != c.places {
			t.Errorf("guests %v, deadline %v, places %v; want %+v", c.chain.Guests(), c.chain.Deadline(), c.chain.Places(), c)
		}
	}
}

func TestCollect(t *testing.T) {
	var places auth.Places
	for _, s := range []string{"query:token", "cookie:session"} {
		places = append(places, must(auth.ParsePlace(s))(t))
	}
	chain := auth.NewChain(must(auth.NewJWT(auth.JWTOptions{Issuer: "https://id.example.com", Audience: []string{"x"}, From: []string{"query:token", "cookie:session"}}))(t))
	for _, c := range []struct {
		name    string
		url     string
		header  http.Header
		bearer  map[auth.Source]string
		query   string
		cookie  string
		present bool
	}{
		{name: "nothing", url: "/ws?other=x", header: http.Header{"Cookie": {"other=x"}, "Sec-Websocket-Protocol": {"relay.v1"}}},
		{name: "header", url: "/ws", header: http.Header{"Authorization": {"bEaReR  abc "}}, bearer: map[auth.Source]string{auth.Header: "abc"}, present: true},
		{name: "empty header", url: "/ws", header: http.Header{"Authorization": {"Bearer"}}, bearer: map[auth.Source]string{auth.Header: ""}, present: true},
		{name: "basic", url: "/ws", header: http.Header{"Authorization": {"Basic abc"}}},
		{
			name: "subprotocol", url: "/ws", header: http.Header{"Sec-Websocket-Protocol": {"relay.v1, bearer.a.b.c"}},
			bearer: map[auth.Source]string{auth.Subprotocol: "a.b.c"}, present: true,
		},
		{
			name: "subprotocol in a line of its own", url: "/ws", header: http.Header{"Sec-Websocket-Protocol": {"relay.v1", "bearer.a", "bearer.b"}},
			bearer: map[auth.Source]string{auth.Subprotocol: "a"}, present: true,
		},
		{name: "query", url: "/ws?token=q&token=r", query: "q", present: true},
		{name: "cookie", url: "/ws", header: http.Header{"Cookie": {"session=k; other=x"}}, cookie: "k", present: true},
		{name: "cookie taken away", url: "/ws", header: http.Header{"Cookie": {"session="}}},
	} {
		r := httptest.NewRequest(http.MethodGet, c.url, nil)
		if c.header != nil {
			r.Header = c.header
		}
		got := chain.Places().Collect(r)
		if fmt.Sprint(got.Bearer) != fmt.Sprint(c.bearer) && len(got.Bearer)+len(c.bearer) > 0 {
			t.Errorf("%s: bearer %v, want %v", c.name, got.Bearer, c.bearer)
		}
		if q, k := got.Named[auth.Query]["token"], got.Named[auth.Cookie]["session"]; q != c.query || k != c.cookie {
			t.Errorf("%s: query %q, cookie %q", c.name, q, k)
		}
		if got.Named[auth.Query]["other"] != "" || got.Named[auth.Cookie]["other"] != "" {
			t.Errorf("%s: collected what is not configured", c.name)
		}
		if chain.Presented(got) != c.present {
			t.Errorf("%s: presented is %v", c.name, !c.present)
		}
		if all := places.Collect(r); fmt.Sprintf("%v %+v %#v", all, all, all) != strings.TrimSpace(strings.Repeat("auth.Credentials(redacted) ", 3)) {
			t.Errorf("%s: credentials print as %v", c.name, all)
		}
	}
}

func TestRefresh(t *testing.T) {
	ada := &auth.Identity{ID: "ada", Roles: []string{"agent"}}
	for _, c := range []struct {
		fresh *auth.Identity
		want  error
	}{
		{&auth.Identity{ID: "ada"}, nil},
		{&auth.Identity{ID: "grace"}, auth.ErrUserMismatch},
		{&auth.Identity{ID: "Ada"}, auth.ErrUserMismatch},
		{&auth.Identity{ID: "ada", Guest: true}, auth.ErrUserMismatch},
	} {
		if err := auth.Refresh(ada, c.fresh); !errors.Is(err, c.want) {
			t.Errorf("to %+v: %v, want %v", c.fresh, err, c.want)
		}
	}
}

func TestWithClaim(t *testing.T) {
	ada := &auth.Identity{ID: "ada", Roles: []string{"agent"}}
	named := &auth.Identity{ID: "ada", Name: "Ada", Data: json.RawMessage("1")}
	guest := &auth.Identity{ID: "guest:ada", Guest: true}
	bad := "x\ny"
	for _, c := range []struct {
		id    *auth.Identity
		claim auth.Claim
		name  string
		data  string
		field string // of the ClaimError
	}{
		{ada, auth.Claim{}, "", "", ""},
		{ada, auth.Claim{ID: "ada", Name: "A", Data: json.RawMessage("2")}, "A", "2", ""},
		{named, auth.Claim{Name: "A", Data: json.RawMessage("2")}, "Ada", "1", ""},
		{named, auth.Claim{Name: bad, Data: json.RawMessage("{")}, "Ada", "1", ""}, // not looked at
		{guest, auth.Claim{ID: "ada", Name: "A"}, "", "", ""},
		{ada, auth.Claim{Name: bad}, "", "", "user.name"},
		{ada, auth.Claim{Data: json.RawMessage("{")}, "", "", "user.data"},
	} {
		got, err := c.id.WithClaim(c.claim)
		var fault *auth.ClaimError
		if c.field != "" {
			if !errors.As(err, &fault) || fault.Field != c.field || !errors.Is(err, auth.ErrInvalid) {
				t.Errorf("%+v: %v, want a fault in %s", c.claim, err, c.field)
			}
			continue
		}
		if err != nil || got.ID != c.id.ID || got.Name != c.name || string(got.Data) != c.data || !slices.Equal(got.Roles, c.id.Roles) {
			t.Errorf("%+v with %+v: %+v, %v", c.id, c.claim, got, err)
		}
	}
	if ada.Name != "" || ada.Data != nil {
		t.Errorf("the identity was changed: %+v", ada)
	}
}

func TestGuestIDs(t *testing.T) {
	longest := strings.Repeat("a", auth.MaxUserID)
	for _, c := range []struct {
		claimed string
		prefix  bool
		want    string // "": refused
	}{
		{"ada", false, "ada"},
		{"ada", true, "guest:ada"},
		{"guest:ada", true, "guest:ada"}, // come back under the id that it was given
		{"guest:guest:ada", true, ""},
		{"guest:", true, ""},
		{"Guest:ada", true, "guest:Guest:ada"},
		{longest, false, longest},
		{longest + "a", false, ""},
		{longest[:auth.MaxUserID-6], true, "guest:" + longest[:auth.MaxUserID-6]},
		{longest[:auth.MaxUserID-5], true, ""},
		{"a\x00b", false, ""},
		{"a\u0085b", false, ""},
		{"\xff", false, ""},
		{"é ✓", true, "guest:é ✓"},
	} {
		a := auth.NewAnonymous(auth.AnonymousOptions{Name: "guests", Prefix: c.prefix})
		id, err := a.Authenticate(t.Context(), auth.Credentials{Claim: auth.Claim{ID: c.claimed}})
		var fault *auth.ClaimError
		switch {
		case c.want == "":
			if !errors.As(err, &fault) || fault.Field != "user.id" || !strings.HasPrefix(err.Error(), "user.id: ") {
				t.Errorf("%.20q: %+v, %v; want a fault in user.id", c.claimed, id, err)
			}
		case err != nil || id.ID != c.want:
			t.Errorf("%.20q: %+v, %v; want %q", c.claimed, id, err, c.want)
		}
	}
}

func TestGuestLimits(t *testing.T) {
	a := auth.NewAnonymous(auth.AnonymousOptions{Name: "guests"})
	for field, claim := range map[string]auth.Claim{
		"user.name: longer than 256 bytes":  {Name: strings.Repeat("a", auth.MaxUserName+1)},
		"user.name: not valid UTF-8":        {Name: "\xff"},
		"user.data: longer than 1024 bytes": {Data: json.RawMessage(`"` + strings.Repeat("a", auth.MaxUserData) + `"`)},
		"user.data: not valid JSON":         {Data: json.RawMessage("\"\xff\"")},
	} {
		if _, err := a.Authenticate(t.Context(), auth.Credentials{Claim: claim}); err == nil || err.Error() != field {
			t.Errorf("%v, want %s", err, field)
		}
	}
}

func TestGuestsWithoutIDDiffer(t *testing.T) {
	a := auth.NewAnonymous(auth.AnonymousOptions{Name: "guests", Prefix: true})
	seen := make(map[string]bool)
	for range 1000 {
		id := must(a.Authenticate(context.Background(), auth.Credentials{}))(t)
		if bare := strings.TrimPrefix(id.ID, auth.GuestPrefix); len(bare) != 26 || seen[bare] { // of base32: 130 bits
			t.Fatalf("id %q, seen before: %v", id.ID, seen[bare])
		}
		seen[strings.TrimPrefix(id.ID, auth.GuestPrefix)] = true
	}
}

func TestAPIKeyIdentity(t *testing.T) {
	h := newHouse(t)
	id := must(h.servers.Authenticate(t.Context(), authtest.At(auth.Subprotocol, h.key)))(t)
	if id.ID != "service:billing" || id.Name != "billing" || !slices.Equal(id.Roles, []string{"service"}) || id.Guest || id.Auth != "servers" || !id.Expires.IsZero() {
		t.Errorf("%+v", id)
	}
	if !strings.HasPrefix(h.key, "relay_") || len(h.key) != len("relay_")+52 {
		t.Errorf("key %q: want relay_ and 256 bits in base32", h.key)
	}
	for _, near := range []string{strings.ToUpper(h.key), h.key[:len(h.key)-1] + "1", "relay_" + strings.Repeat("a", 52)} {
		if id, err := h.servers.Authenticate(t.Context(), authtest.Bearer(near)); id != nil || err == nil {
			t.Errorf("%+v for a key that was not given", id)
		}
	}
}

func TestAPIKeyOptionProblems(t *testing.T) {
	key, hash := auth.NewAPIKey()
	for _, c := range []struct {
		name  string
		keys  map[string]auth.APIKey
		field string
		want  string
	}{
		{"none", nil, "keys", "relay key"},
		{"key for hash", map[string]auth.APIKey{"a": {Hash: key}}, "keys.a.hash", "not the hash"},
		{"empty hash", map[string]auth.APIKey{"a": {}}, "keys.a.hash", "sha256:"},
		{"other hash", map[string]auth.APIKey{"a": {Hash: "md5:" + hash[7:]}}, "keys.a.hash", "sha256:"},
		{"short hash", map[string]auth.APIKey{"a": {Hash: hash[:20]}}, "keys.a.hash", "64 hex digits"},
		{"odd hash", map[string]auth.APIKey{"a": {Hash: hash[:70] + "g"}}, "keys.a.hash", "64 hex digits"},
		{"twice", map[string]auth.APIKey{"a": {Hash: hash}, "b": {Hash: hash}}, "keys.b.hash", `"service:a"`},
		{"no name", map[string]auth.APIKey{"": {Hash: hash}}, "keys.", "needs a name"},
		{"long name", map[string]auth.APIKey{strings.Repeat("a", 121): {Hash: hash}}, "keys." + strings.Repeat("a", 121), "longer than 128"},
	} {
		_, err := auth.NewAPIKeys(auth.APIKeyOptions{Name: "servers", Keys: c.keys})
		var list auth.OptionErrors
		if !errors.As(err, &list) || len(list) != 1 || list[0].Field != c.field || !strings.Contains(list[0].Error(), c.want) {
			t.Errorf("%s: %v; want %s with %q", c.name, err, c.field, c.want)
		}
		if err != nil && strings.Contains(err.Error(), key[6:]) {
			t.Errorf("%s: the error repeats the key: %v", c.name, err)
		}
	}
}
