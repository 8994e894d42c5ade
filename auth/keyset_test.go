package auth_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/wsrelay/relay/auth"
	"github.com/wsrelay/relay/auth/authtest"
)

func TestJWKSUnreachableAtStart(t *testing.T) {
	var log bytes.Buffer
	j, issuer, clock := fixture(t, func(o *auth.JWTOptions) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	issuer.SetDown(true)
	token := issuer.Token("ada")
	for range 10 {
		wantUnavailable(t, j, token) // one request; the others wait for the retry
	}
	if n := issuer.Requests(authtest.DiscoveryPath); n != 1 {
		t.Errorf("%d requests at once, want 1", n)
	}
	issuer.SetDown(false)
	wantUnavailable(t, j, token)
	clock.forward(time.Second)
	wantUser(t, j, token, "ada")
	for _, want := range []string{"cannot be fetched", "503", "auth=users", "can be fetched again"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not mention %q:\n%s", want, &log)
		}
	}
}

func TestJWKSBacksOffWhileUnreachable(t *testing.T) {
	j, issuer, clock := fixture(t)
	issuer.SetDown(true)
	token := issuer.Token("ada")
	for range 600 { // ten minutes of a token a second
		wantUnavailable(t, j, token)
		clock.forward(time.Second)
	}
	if n := issuer.Requests(authtest.DiscoveryPath); n < 20 || n > 25 { // 1, 2, 4, 8, 16, then every 30 s
		t.Errorf("%d requests in ten minutes, want about 24", n)
	}
}

func TestJWKSUnreachableLaterKeepsCachedKeys(t *testing.T) {
	j, issuer, clock := fixture(t)
	wantUser(t, j, issuer.Token("ada"), "ada")
	issuer.SetDown(true)
	for range 24 {
		clock.forward(59 * time.Minute)
		wantUser(t, j, issuer.Token("ada"), "ada")
	}
	clock.forward(25 * time.Minute) // a day and a minute after the keys were last heard of
	wantUnavailable(t, j, issuer.Token("ada"))
	issuer.SetDown(false)
	clock.forward(time.Minute)
	wantUser(t, j, issuer.Token("ada"), "ada")
}

// What no cached key fits cannot be judged while the issuer is away.
func TestJWKSUnreachableUnknownKeyIsUnavailable(t *testing.T) {
	j, issuer, clock := fixture(t)
	wantUser(t, j, issuer.Token("ada"), "ada")
	old := issuer.Token("ada")
	issuer.SetDown(true)
	issuer.Rotate("EdDSA")
	fresh := issuer.Token("ada")
	wantUnavailable(t, j, fresh)
	wantUnavailable(t, j, fresh)
	wantUser(t, j, old, "ada")
	issuer.SetDown(false)
	clock.forward(30 * time.Second)
	wantUser(t, j, fresh, "ada")
}

func TestKeyRotation(t *testing.T) {
	j, issuer, clock := fixture(t)
	old := issuer.Token("ada")
	wantUser(t, j, old, "ada")
	for _, alg := range []string{"RS256", "ES512", "EdDSA", "PS384"} {
		issuer.Rotate(alg)
		wantUser(t, j, issuer.Token("ada"), "ada") // at once
		wantRefused(t, j, old, "kid is unknown")   // the old key is gone with it
		old = issuer.Token("ada")
		clock.forward(30 * time.Second)
	}
}

// A second rotation within the 30 s is seen when they are over.
func TestKeyRotationIsThrottled(t *testing.T) {
	j, issuer, clock := fixture(t)
	wantUser(t, j, issuer.Token("ada"), "ada")
	issuer.Rotate("ES256")
	wantUser(t, j, issuer.Token("ada"), "ada")
	issuer.Rotate("ES256")
	wantRefused(t, j, issuer.Token("ada"), "kid is unknown")
	clock.forward(30 * time.Second)
	wantUser(t, j, issuer.Token("ada"), "ada")
}

// An issuer that has one key and gives it no name may still change it.
func TestKeyRotationWithoutKid(t *testing.T) {
	j, issuer, _ := fixture(t)
	nameless := authtest.Head("kid", nil)
	wantUser(t, j, issuer.Token("ada", nameless), "ada")
	issuer.Rotate("ES256")
	wantUser(t, j, issuer.Token("ada", nameless), "ada")
}

func TestNoKidAndSeveralKeys(t *testing.T) {
	j, issuer, clock := fixture(t)
	issuer.AddKey("ES256")
	wantRefused(t, j, issuer.Token("ada", authtest.Head("kid", nil)), "several keys")
	issuer.AddKey("EdDSA") // the only one of its kind, so there is no doubt
	clock.forward(30 * time.Second)
	wantUser(t, j, issuer.Token("ada", authtest.Head("kid", nil)), "ada")
}

// A withdrawn key is not trusted once the cache has run out, even by the first
// token after a long silence.
func TestWithdrawnKeyEndsWithTheCache(t *testing.T) {
	for header, fresh := range map[string]time.Duration{
		"":                               10 * time.Minute,
		"max-age=1800":                   30 * time.Minute,
		"public, max-age=7200":           time.Hour, // the most
		"max-age=5":                      time.Minute,
		"no-store":                       time.Minute,
		"max-age=never":                  10 * time.Minute,
		`s-maxage=7, MAX-AGE="1200"`:     20 * time.Minute,
		"max-age=99999999999999999999":   10 * time.Minute,
		"private, must-revalidate":       10 * time.Minute,
		"max-age=1800, no-cache":         30 * time.Minute,
		"no-cache, max-age=1800":         time.Minute,
		"max-age=0, stale-if-error=3600": time.Minute,
	} {
		j, issuer, clock := fixture(t)
		issuer.SetCacheControl(header)
		old := issuer.Token("ada")
		wantUser(t, j, old, "ada")
		issuer.Rotate("ES256")
		clock.forward(fresh - time.Second)
		wantUser(t, j, old, "ada")
		clock.forward(time.Second)
		id, err := j.Authenticate(t.Context(), authtest.Bearer(old))
		if id != nil || !errors.Is(err, auth.ErrInvalid) {
			t.Errorf("Cache-Control %q: %+v, %v after %v; want ErrInvalid", header, id, err, fresh)
		}
	}
}

// Many tokens at once make one fetch, and one that gives up takes nobody with it.
func TestFetchIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer := authtest.OfflineIssuer("https://id.example.com")
		slow := roundTripper(func(r *http.Request) (*http.Response, error) {
			select {
			case <-time.After(3 * time.Second):
				return issuer.RoundTrip(r)
			case <-r.Context().Done():
				return nil, r.Context().Err()
			}
		})
		j := must(auth.NewJWT(auth.JWTOptions{Name: "users", Issuer: issuer.URL, Audience: []string{authtest.Audience}, Transport: slow}))(t)
		defer j.Close()
		token := authtest.Bearer(issuer.Token("ada"))
		var wg sync.WaitGroup
		wg.Go(func() { // starts it, and leaves first
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if _, err := j.Authenticate(ctx, token); !errors.Is(err, auth.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("out of time: %v, want ErrUnavailable and DeadlineExceeded", err)
			}
		})
		synctest.Wait()
		for range 50 {
			wg.Go(func() {
				if _, err := j.Authenticate(t.Context(), token); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := issuer.Requests(authtest.KeysPath); n != 1 {
			t.Errorf("%d requests, want 1", n)
		}
	})
}

// A server that takes the connection and says nothing.
func TestFetchTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		silent := roundTripper(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})
		issuer := authtest.OfflineIssuer("https://id.example.com")
		j := must(auth.NewJWT(auth.JWTOptions{Name: "users", Issuer: issuer.URL, Audience: []string{authtest.Audience}, Transport: silent}))(t)
		defer j.Close()
		start := time.Now()
		wantUnavailable(t, j, issuer.Token("ada"))
		if d := time.Since(start); d != 5*time.Second {
			t.Errorf("it took %v, want 5s", d)
		}
	})
}

func TestCloseEndsTheFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		silent := roundTripper(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})
		issuer := authtest.OfflineIssuer("https://id.example.com")
		j := must(auth.NewJWT(auth.JWTOptions{Name: "users", Issuer: issuer.URL, Audience: []string{authtest.Audience}, Transport: silent}))(t)
		done := make(chan struct{})
		go func() {
			defer close(done)
			wantUnavailable(t, j, issuer.Token("ada"))
		}()
		synctest.Wait()
		start := time.Now()
		_ = j.Close()
		<-done
		wantUnavailable(t, j, issuer.Token("ada")) // and starts no other
		if d := time.Since(start); d != 0 {
			t.Errorf("Close took %v", d)
		}
	})
}

func TestClosedStillJudgesByCachedKeys(t *testing.T) {
	j, issuer, _ := fixture(t)
	wantUser(t, j, issuer.Token("ada"), "ada")
	_ = j.Close()
	wantUser(t, j, issuer.Token("grace"), "grace")
	wantUnavailable(t, j, issuer.Token("ada", authtest.Head("kid", "new")))
}

// What an issuer's servers may answer that is no key set, or should not be taken.
func TestFetchRefusesBadAnswers(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("a redirect to another host was followed")
	}))
	defer elsewhere.Close()
	say := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }
	}
	for name, c := range map[string]struct {
		path   string
		answer http.HandlerFunc
		want   string
	}{
		"not json":        {authtest.KeysPath, say("<html>"), "not a JWK Set"},
		"no keys":         {authtest.KeysPath, say("{}"), `no "keys"`},
		"too many keys":   {authtest.KeysPath, say(`{"keys":[` + strings.Repeat("{},", 100) + `{}]}`), "101 keys"},
		"too long":        {authtest.KeysPath, say(`{"keys":[]` + strings.Repeat(" ", 1<<20) + `}`), "longer than 1048576 bytes"},
		"not found":       {authtest.KeysPath, http.NotFound, "404 Not Found"},
		"other host":      {authtest.KeysPath, redirect(elsewhere.URL), "another host"},
		"loop":            {authtest.KeysPath, redirect(authtest.KeysPath + "?secret-query"), "more than 3 times"},
		"no document":     {authtest.DiscoveryPath, say("<html>"), "openid-configuration: invalid character"},
		"other issuer":    {authtest.DiscoveryPath, say(`{"issuer":"https://evil.example.com","jwks_uri":"https://evil.example.com/keys"}`), "write the issuer exactly"},
		"discovery moved": {authtest.DiscoveryPath, redirect(elsewhere.URL), "another host"},
	} {
		t.Run(name, func(t *testing.T) {
			issuer := authtest.NewIssuer(t)
			issuer.Answer(c.path, c.answer)
			j := must(auth.NewJWT(auth.JWTOptions{Name: "users", Issuer: issuer.URL, Audience: []string{authtest.Audience}}))(t)
			defer j.Close()
			_, err := j.Authenticate(t.Context(), authtest.Bearer(issuer.Token("ada")))
			if !errors.Is(err, auth.ErrUnavailable) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v; want ErrUnavailable that mentions %q", err, c.want)
			}
			if strings.Contains(err.Error(), "secret-query") {
				t.Errorf("the error repeats a query: %v", err)
			}
		})
	}
}

func TestFetchFollowsTheSameHost(t *testing.T) {
	issuer := authtest.NewIssuer(t)
	issuer.Answer("/old", redirect(authtest.KeysPath))
	j := must(auth.NewJWT(auth.JWTOptions{Name: "users", Issuer: "me", JWKS: issuer.URL + "/old", Audience: []string{"any"}}))(t)
	defer j.Close()
	wantUser(t, j, issuer.Token("ada", authtest.Claim("iss", "me"), authtest.Claim("aud", nil)), "ada")
}

// Where discovery may send us for keys.
func TestDiscoveredKeysURL(t *testing.T) {
	for uri, want := range map[string]string{
		"https://keys.example.net/jwks":     "", // another host is common; the issuer said so over https
		"http://keys.example.net/jwks":      "is no https URL",
		"http://127.0.0.1:9/jwks":           "points to this machine",
		"http://localhost/jwks":             "points to this machine",
		"file:///etc/passwd":                "not an absolute URL",
		"/keys":                             "not an absolute URL",
		"":                                  "not an absolute URL",
		"https://user:pw@id.example.com/":   "a user or password",
		"gopher://id.example.com/":          "is no https URL",
		"https://id.example.com/\x7f":       "not a URL",
		"http://127.0.0.1.example.com/keys": "is no https URL",
		"http://[::ffff:127.0.0.1]:9/keys":  "points to this machine",
		"http://localhost.example.com/keys": "is no https URL",
	} {
		j, issuer, _ := fixture(t)
		issuer.Answer(authtest.DiscoveryPath, func(w http.ResponseWriter, _ *http.Request) {
			_ = json.NewEncoder(w).Encode(map[string]string{"issuer": issuer.URL, "jwks_uri": uri})
		})
		issuer.Answer("/jwks", func(w http.ResponseWriter, r *http.Request) {
			_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: issuer.Key().Private.Public(), KeyID: issuer.Key().ID}}})
		})
		err := j.Check(t.Context())
		switch {
		case want == "" && err != nil:
			t.Errorf("%q: %v", uri, err)
		case want != "" && (!errors.Is(err, auth.ErrUnavailable) || !strings.Contains(err.Error(), want)):
			t.Errorf("%q: %v; want ErrUnavailable that mentions %q", uri, err, want)
		}
	}
}

// Keys that are published but not to be used.
func TestUnfitKeysAreLeftOut(t *testing.T) {
	rsaKey := authtest.NewPrivateKey("RS256")
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	good := jose.JSONWebKey{Key: rsaKey.Public(), KeyID: "k"}
	for name, c := range map[string]struct {
		raw  string
		want string
	}{
		"encryption":    {jwk(t, good, `"use":"enc"`), `use is "enc"`},
		"operations":    {jwk(t, good, `"key_ops":["encrypt"]`), "key_ops"},
		"weak":          {jwk(t, jose.JSONWebKey{Key: weak.Public(), KeyID: "k"}, ""), "1024 bits"},
		"private":       {jwk(t, jose.JSONWebKey{Key: rsaKey, KeyID: "k"}, ""), "private key"},
		"unknown curve": {`{"kty":"EC","crv":"secp256k1","x":"AA","y":"AA","kid":"k"}`, "unsupported"},
		"off the curve": {`{"kty":"EC","crv":"P-256","x":"` + strings.Repeat("A", 43) + `","y":"` + strings.Repeat("A", 43) + `","kid":"k"}`, "curve"},
		"exchange":      {`{"kty":"OKP","crv":"X25519","x":"` + strings.Repeat("A", 43) + `","kid":"k"}`, "unsupported"},
		"no kind":       {`{"kid":"k"}`, `kty ""`},
		"not an object": {`"k"`, "not a JWK"},
		"even exponent": {`{"kty":"RSA","n":"` + strings.Repeat("_", 342) + `","e":"Ag","kid":"k"}`, "exponent"},
		"huge":          {`{"kty":"RSA","n":"` + strings.Repeat("_", 2048) + `","e":"AQAB","kid":"k"}`, "modulus"},
	} {
		t.Run(name, func(t *testing.T) {
			j, issuer, _ := fixture(t)
			issuer.Answer(authtest.KeysPath, func(w http.ResponseWriter, _ *http.Request) {
				_, _ = fmt.Fprintf(w, `{"keys":[%s]}`, c.raw)
			})
			token := issuer.Token("ada", authtest.SignedBy("RS256", rsaKey), authtest.Head("kid", "k"))
			wantRefused(t, j, token, "kid is unknown")
			if err := j.Check(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Check: %v; want it to mention %q", err, c.want)
			}
		})
	}
	t.Run("one algorithm only", func(t *testing.T) {
		j, issuer, _ := fixture(t)
		issuer.Publish(authtest.Key{ID: "k", Alg: "PS256", Private: rsaKey})
		wantUser(t, j, issuer.Token("ada", authtest.SignedBy("PS256", rsaKey), authtest.Head("kid", "k")), "ada")
		wantRefused(t, j, issuer.Token("ada", authtest.SignedBy("RS256", rsaKey), authtest.Head("kid", "k")), "no known key fits")
	})
	t.Run("beside a good one", func(t *testing.T) {
		j, issuer, _ := fixture(t)
		first := issuer.Token("ada")
		issuer.Publish(authtest.Key{ID: "enc", Alg: "RS256", Use: "enc", Private: rsaKey})
		wantUser(t, j, first, "ada")
		wantRefused(t, j, issuer.Token("ada"), "kid is unknown") // signed with the newest
	})
}

func TestEmptyKeySetWithdrawsAllKeys(t *testing.T) {
	j, issuer, clock := fixture(t)
	wantUser(t, j, issuer.Token("ada"), "ada")
	issuer.Answer(authtest.KeysPath, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"keys":[]}`) })
	clock.forward(time.Hour)
	wantRefused(t, j, issuer.Token("ada"), "kid is unknown")
	if err := j.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "publishes no keys") {
		t.Errorf("Check: %v", err)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func redirect(to string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, http.StatusFound) }
}

// jwk is key as JSON, with a member put in.
func jwk(t *testing.T, key jose.JSONWebKey, extra string) string {
	t.Helper()
	text := must(json.Marshal(key))(t)
	if extra == "" {
		return string(text)
	}
	return "{" + extra + "," + string(text[1:])
}
