// Package authtest is what every authenticator has to pass, and an issuer of tokens
// to pass it with.
package authtest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/wsrelay/relay/auth"
)

// Subject is the authenticator under test.
type Subject struct {
	// New makes one. Run closes it.
	New func(testing.TB) auth.Authenticator
	// Good are credentials that are accepted, each for a different user.
	Good []auth.Credentials
	// Bad are credentials of its kind that are presented and not good.
	Bad []auth.Credentials
	// Guests says that nothing has to be presented.
	Guests bool
	// Secrets are what must not be seen in any error, besides the credentials.
	Secrets []string
}

// Run checks the contract of auth.Authenticator.
func Run(t *testing.T, s Subject) {
	if len(s.Good) == 0 || (len(s.Bad) == 0 && !s.Guests) {
		t.Fatal("authtest: the subject needs credentials that are good and such that are not")
	}
	t.Run("who presents nothing has no credential", s.nothing)
	t.Run("identities are complete and within the limits", s.accepted)
	t.Run("bad credentials are refused", s.refused)
	t.Run("hostile input is refused", s.hostile)
	t.Run("claims of the client give no rights", s.claims)
	t.Run("a context that has ended is honoured", s.context)
	t.Run("concurrent use", s.concurrent)
	t.Run("close is idempotent", s.closed)
}

// open makes the authenticator for one subtest.
func (s Subject) open(t *testing.T) auth.Authenticator {
	t.Helper()
	a := s.New(t)
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return a
}

func (s Subject) nothing(t *testing.T) {
	a := s.open(t)
	if (len(a.Places()) == 0) != s.Guests {
		t.Fatalf("Places() = %v for an authenticator with guests %v", a.Places(), s.Guests)
	}
	empty := map[string]auth.Credentials{
		"zero":        {},
		"only claims": {Claim: auth.Claim{ID: "ada", Name: "Ada"}},
		"empty":       everywhere(a.Places(), ""),
		"elsewhere":   {Named: map[auth.Source]map[string]string{auth.Query: {"not-configured": "x"}, auth.Cookie: {"not-configured": "x"}}},
	}
	for name, c := range empty {
		id, err := a.Authenticate(t.Context(), c)
		if s.Guests {
			if err != nil || id == nil || !id.Guest {
				t.Errorf("%s: %+v, %v; want a guest", name, id, err)
			}
		} else if id != nil || !errors.Is(err, auth.ErrNoCredential) {
			t.Errorf("%s: %+v, %v; want ErrNoCredential", name, id, err)
		}
	}
}

func (s Subject) accepted(t *testing.T) {
	a := s.open(t)
	seen := make(map[string]bool)
	for i, c := range s.Good {
		first, err := a.Authenticate(t.Context(), c)
		if err != nil {
			t.Errorf("good[%d]: %v", i, err)
			continue
		}
		complete(t, first, s.Guests)
		if seen[first.ID] {
			t.Errorf("good[%d]: the id %q is another user's", i, first.ID)
		}
		seen[first.ID] = true
		again, err := a.Authenticate(t.Context(), c)
		if err != nil {
			t.Errorf("good[%d], again: %v", i, err)
		} else if !s.Guests && again.ID != first.ID {
			t.Errorf("good[%d]: %q, then %q", i, first.ID, again.ID)
		}
	}
}

// complete checks an identity against what everyone behind relies on.
func complete(t *testing.T, id *auth.Identity, guest bool) {
	t.Helper()
	if id.ID == "" || len(id.ID) > auth.MaxUserID || !plainText(id.ID) {
		t.Errorf("ID %q: want 1 to %d bytes of UTF-8 without control characters", id.ID, auth.MaxUserID)
	}
	if len(id.Name) > auth.MaxUserName || !plainText(id.Name) {
		t.Errorf("Name %q: want at most %d bytes of UTF-8 without control characters", id.Name, auth.MaxUserName)
	}
	if id.Data != nil && (len(id.Data) > auth.MaxUserData || !json.Valid(id.Data)) {
		t.Errorf("Data %q: want at most %d bytes of JSON", id.Data, auth.MaxUserData)
	}
	if id.Auth == "" {
		t.Error("Auth is empty: want the authenticator's name")
	}
	if id.Guest != guest {
		t.Errorf("Guest = %v, want %v", id.Guest, guest)
	}
	if id.Guest && (len(id.Roles) > 0 || len(id.Claims) > 0) {
		t.Errorf("a guest with roles %v and claims %v", id.Roles, id.Claims)
	}
	if !id.Guest && strings.HasPrefix(id.ID, auth.GuestPrefix) {
		t.Errorf("ID %q is marked as a guest's", id.ID)
	}
}

func plainText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

func (s Subject) refused(t *testing.T) {
	a := s.open(t)
	for i, c := range s.Bad {
		id, err := a.Authenticate(t.Context(), c)
		if id != nil || !errors.Is(err, auth.ErrInvalid) {
			t.Errorf("bad[%d]: %+v, %v; want ErrInvalid", i, id, err)
		}
		s.harmless(t, err, c)
	}
}

// harmless checks that an error is one of the contract's and fit for a log.
func (s Subject) harmless(t *testing.T, err error, c auth.Credentials) {
	t.Helper()
	if err == nil {
		return
	}
	kinds := 0
	for _, kind := range []error{auth.ErrNoCredential, auth.ErrInvalid, auth.ErrUnavailable} {
		if errors.Is(err, kind) {
			kinds++
		}
	}
	text := err.Error()
	if kinds != 1 {
		t.Errorf("error %.200q wraps %d of the sentinels, want one", text, kinds)
	}
	if len(text) > 2048 || !plainText(text) {
		t.Errorf("error of %d bytes, not fit for a log line: %.200q", len(text), text)
	}
	for _, secret := range append(slices.Clone(s.Secrets), secrets(c)...) {
		if strings.Contains(text, secret) {
			t.Errorf("error repeats a secret: %.200q", text)
		}
	}
}

// secrets are the parts of credentials that are long enough to matter.
func secrets(c auth.Credentials) []string {
	var list []string
	add := func(m map[string]string) {
		for _, v := range m {
			for part := range strings.SplitSeq(v, ".") {
				if len(part) >= 16 {
					list = append(list, part)
				}
			}
		}
	}
	for source, v := range c.Bearer {
		add(map[string]string{string(source): v})
	}
	for _, m := range c.Named {
		add(m)
	}
	return list
}

func (s Subject) hostile(t *testing.T) {
	a := s.open(t)
	for _, value := range hostileValues(s.Good) {
		c := everywhere(a.Places(), value)
		c.Claim = auth.Claim{ID: value, Name: value, Data: json.RawMessage(value)}
		id, err := a.Authenticate(t.Context(), c)
		s.harmless(t, err, c)
		switch {
		case s.Guests && err == nil:
			complete(t, id, true) // some of it is odd, but allowed
		case err == nil:
			t.Errorf("accepted %.100q as %q", value, id.ID)
		case id != nil:
			t.Errorf("%.100q: an identity beside the error %v", value, err)
		}
	}
}

// hostileValues is noise, and what is nearly good.
func hostileValues(good []auth.Credentials) []string {
	b64 := base64.RawURLEncoding.EncodeToString
	list := []string{
		" ", ".", "..", "...", "a.b.c", "\x00", "\xff\xfe.\xff.\xff", "é.ü.ß", "relay_", "relay_x", "Bearer x",
		"'; drop table users; --", "${jndi:ldap://x}", "../../etc/passwd", "line\r\nbreak: forged",
		strings.Repeat("a", 1<<20), strings.Repeat(".", 1<<16), "relay_" + strings.Repeat("a", 52), "relay_" + strings.Repeat("a", 1<<20),
		b64([]byte(strings.Repeat("[", 10000))) + ".e30.", b64([]byte(`{"alg":"none"}`)) + ".e30.",
		b64([]byte(`{"alg":["RS256"]}`)) + ".e30.AA", b64([]byte(`null`)) + ".bnVsbA.", b64([]byte(`{"alg":"HS256","kid":{}}`)) + ".e30.AA",
		b64([]byte(`{"alg":"RS256","kid":"`+strings.Repeat("k", 9000)+`"}`)) + ".e30.AA",
	}
	for _, c := range good {
		for _, v := range c.Bearer {
			list = append(list, v+"A", v+".", v+"\n", " "+v, v[:len(v)-8], strings.ToUpper(v), v+v, v[:len(v)/2]+"\n"+v[len(v)/2:])
		}
	}
	return list
}

// everywhere presents value at every place.
func everywhere(places auth.Places, value string) auth.Credentials {
	c := auth.Credentials{Bearer: make(map[auth.Source]string), Named: make(map[auth.Source]map[string]string)}
	for _, p := range places {
		if p.Name == "" {
			c.Bearer[p.Source] = value
			continue
		}
		if c.Named[p.Source] == nil {
			c.Named[p.Source] = make(map[string]string)
		}
		c.Named[p.Source][p.Name] = value
	}
	return c
}

func (s Subject) claims(t *testing.T) {
	a := s.open(t)
	for i, c := range s.Good {
		c.Claim = auth.Claim{ID: "root", Name: "Root", Data: json.RawMessage(`{"roles":["admin"],"guest":false}`)}
		with, err := a.Authenticate(t.Context(), c)
		if err != nil {
			t.Errorf("good[%d] with a claim: %v", i, err)
			continue
		}
		if s.Guests {
			complete(t, with, true)
			continue
		}
		c.Claim = auth.Claim{}
		without, err := a.Authenticate(t.Context(), c)
		if err != nil {
			t.Errorf("good[%d]: %v", i, err)
			continue
		}
		if with.ID != without.ID || !slices.Equal(with.Roles, without.Roles) || fmt.Sprint(with.Claims) != fmt.Sprint(without.Claims) {
			t.Errorf("good[%d]: the client's claim made %+v of %+v", i, with, without)
		}
	}
}

func (s Subject) context(t *testing.T) {
	a := s.open(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	id, err := a.Authenticate(ctx, s.Good[0])
	if id != nil || !errors.Is(err, auth.ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Errorf("%+v, %v; want ErrUnavailable and context.Canceled", id, err)
	}
}

func (s Subject) concurrent(t *testing.T) {
	a := s.open(t)
	var wg sync.WaitGroup
	for range 8 {
		for i, c := range s.Good {
			wg.Go(func() {
				if _, err := a.Authenticate(t.Context(), c); err != nil {
					t.Errorf("good[%d]: %v", i, err)
				}
			})
		}
		for i, c := range s.Bad {
			wg.Go(func() {
				if _, err := a.Authenticate(t.Context(), c); !errors.Is(err, auth.ErrInvalid) {
					t.Errorf("bad[%d]: %v, want ErrInvalid", i, err)
				}
			})
		}
	}
	wg.Wait()
}

func (s Subject) closed(t *testing.T) {
	a := s.open(t) // closes it once more
	var wg sync.WaitGroup
	for _, c := range s.Good {
		wg.Go(func() { // whatever it returns, it returns
			_, err := a.Authenticate(t.Context(), c)
			s.harmless(t, err, c)
		})
	}
	for range 2 {
		wg.Go(func() {
			if err := a.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
	}
	wg.Wait()
}

// Bearer presents token in the Authorization header.
func Bearer(token string) auth.Credentials { return At(auth.Header, token) }

// At presents token at source.
func At(source auth.Source, token string) auth.Credentials {
	return auth.Credentials{Bearer: map[auth.Source]string{source: token}}
}
