package auth_test

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/wsrelay/relay/auth"
	"github.com/wsrelay/relay/auth/authtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAnonymousContract(t *testing.T) {
	for _, prefix := range []bool{false, true} {
		authtest.Run(t, authtest.Subject{
			New: func(testing.TB) auth.Authenticator {
				return auth.NewAnonymous(auth.AnonymousOptions{Name: "guests", Prefix: prefix})
			},
			Good:   []auth.Credentials{{}, {Claim: auth.Claim{ID: "ada", Name: "Ada", Data: json.RawMessage(`{"seat":4}`)}}},
			Guests: true,
		})
	}
}

func TestAPIKeyContract(t *testing.T) {
	billing, billingHash := auth.NewAPIKey()
	reports, reportsHash := auth.NewAPIKey()
	stranger, _ := auth.NewAPIKey()
	opt := auth.APIKeyOptions{
		Name: "servers",
		Keys: map[string]auth.APIKey{"billing": {Hash: billingHash, Roles: []string{"service"}}, "reports": {Hash: reportsHash}},
		From: []string{"header", "message", "query:key"},
	}
	authtest.Run(t, authtest.Subject{
		New:  func(tb testing.TB) auth.Authenticator { return must(auth.NewAPIKeys(opt))(tb) },
		Good: []auth.Credentials{authtest.Bearer(billing), authtest.At(auth.Message, reports)},
		Bad:  []auth.Credentials{authtest.Bearer(stranger), authtest.Bearer(billing + "a"), authtest.Bearer(billing[:20])},
	})
}

func TestJWTContract(t *testing.T) {
	rsa := authtest.NewPrivateKey("RS256")
	issuer := authtest.OfflineIssuer("https://id.example.com")
	issuer.Publish(authtest.Key{ID: "rsa", Alg: "PS384", Private: rsa})
	base := auth.JWTOptions{Name: "users", Issuer: issuer.URL, Audience: []string{authtest.Audience}, Transport: issuer}

	static := base
	static.PublicKey = publicPEM(t, rsa.Public())
	shared := base
	shared.Secret = secret
	jwks := base
	jwks.JWKS = issuer.KeysURL()
	jwks.From = []string{"cookie:session", "header"}
	withSecret := authtest.SignedBy("HS256", []byte(secret))
	withRSA := authtest.SignedBy("RS512", rsa)

	for name, c := range map[string]struct {
		opt    auth.JWTOptions
		change []authtest.Change
	}{
		"discovery":  {opt: base},
		"jwks":       {opt: jwks},
		"public key": {opt: static, change: []authtest.Change{withRSA}},
		"secret":     {opt: shared, change: []authtest.Change{withSecret}},
	} {
		t.Run(name, func(t *testing.T) {
			token := func(sub string, more ...authtest.Change) auth.Credentials {
				return authtest.Bearer(issuer.Token(sub, append(c.change, more...)...))
			}
			authtest.Run(t, authtest.Subject{
				New:     func(tb testing.TB) auth.Authenticator { return must(auth.NewJWT(c.opt))(tb) },
				Good:    []auth.Credentials{token("ada"), token("grace", authtest.Claim("name", "Grace"))},
				Bad:     []auth.Credentials{token("ada", authtest.Claim("aud", "shop")), token(""), authtest.Bearer("not a token")},
				Secrets: []string{secret},
			})
		})
	}
}

const secret = "correct horse battery staple correct horse battery staple correct"

// must returns the value of a constructor that is not expected to fail.
func must[T any](v T, err error) func(testing.TB) T {
	return func(tb testing.TB) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}

func publicPEM(tb testing.TB, key any) string {
	tb.Helper()
	der := must(x509.MarshalPKIXPublicKey(key))(tb)
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// wantRefused asserts that a token gets ErrInvalid with a reason that mentions why.
func wantRefused(t *testing.T, a auth.Authenticator, token, why string) {
	t.Helper()
	id, err := a.Authenticate(t.Context(), authtest.Bearer(token))
	if id != nil || !errors.Is(err, auth.ErrInvalid) {
		t.Fatalf("%+v, %v; want ErrInvalid", id, err)
	}
	if !strings.Contains(err.Error(), why) {
		t.Fatalf("refused for %q; want the reason to mention %q", err, why)
	}
}

func wantUser(t *testing.T, a auth.Authenticator, token, id string) *auth.Identity {
	t.Helper()
	got, err := a.Authenticate(t.Context(), authtest.Bearer(token))
	if err != nil {
		t.Fatalf("refused: %v", err)
	}
	if got.ID != id {
		t.Fatalf("identified as %q, want %q", got.ID, id)
	}
	return got
}

func wantUnavailable(t *testing.T, a auth.Authenticator, token string) {
	t.Helper()
	id, err := a.Authenticate(t.Context(), authtest.Bearer(token))
	if id != nil || !errors.Is(err, auth.ErrUnavailable) || errors.Is(err, auth.ErrInvalid) {
		t.Fatalf("%+v, %v; want ErrUnavailable", id, err)
	}
}

// clock is a time that moves when told.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) forward(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// fixture is a JWT authenticator with the issuer whose tokens it takes, both on a
// clock of their own.
func fixture(t *testing.T, change ...func(*auth.JWTOptions)) (*auth.JWT, *authtest.Issuer, *clock) {
	t.Helper()
	c := newClock()
	issuer := authtest.OfflineIssuer("https://id.example.com")
	issuer.SetNow(c.now)
	opt := auth.JWTOptions{Name: "users", Issuer: issuer.URL, Audience: []string{authtest.Audience}, Transport: issuer, Now: c.now}
	for _, f := range change {
		f(&opt)
	}
	j := must(auth.NewJWT(opt))(t)
	t.Cleanup(func() { _ = j.Close() })
	return j, issuer, c
}
