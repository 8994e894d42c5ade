package authtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
)

// Audience is the aud of the tokens that an Issuer signs, unless told otherwise.
const Audience = "relay-test"

// Paths that an Issuer answers, below its URL.
const (
	DiscoveryPath = "/.well-known/openid-configuration"
	KeysPath      = "/keys"
)

// Issuer is an OpenID provider for tests: it publishes keys, rotates them, goes
// down, and signs whatever token it is asked for, hostile ones too. It is an
// http.Handler, and an http.RoundTripper that answers from memory, for tests that
// want no network (as auth.JWTOptions.Transport).
type Issuer struct {
	URL string // what iss says, and where discovery starts

	mu       sync.Mutex
	now      func() time.Time
	keys     []Key // published, newest last
	made     int   // names of keys are not used twice
	down     bool
	cache    string
	override map[string]http.HandlerFunc // by path
	requests map[string]int              // by path
}

// Key is a pair that an Issuer signs with.
type Key struct {
	ID      string
	Alg     string
	Use     string // as published; empty: sig
	Private crypto.Signer
}

// NewIssuer starts an issuer on a free loopback port and stops it when the test
// ends. It has one ES256 key.
func NewIssuer(tb testing.TB) *Issuer {
	tb.Helper()
	issuer := OfflineIssuer("")
	server := httptest.NewServer(issuer)
	tb.Cleanup(server.Close)
	issuer.URL = server.URL
	return issuer
}

// OfflineIssuer makes an issuer without a server, known by url.
func OfflineIssuer(url string) *Issuer {
	i := &Issuer{URL: url, now: time.Now, override: make(map[string]http.HandlerFunc), requests: make(map[string]int)}
	i.AddKey("ES256")
	return i
}

// KeysURL is where the key set is.
func (i *Issuer) KeysURL() string { return i.URL + KeysPath }

// SetNow gives the clock that new tokens go by.
func (i *Issuer) SetNow(now func() time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.now = now
}

// SetDown makes every request fail with 503, or ends that.
func (i *Issuer) SetDown(down bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.down = down
}

// SetCacheControl gives the Cache-Control header of the key set.
func (i *Issuer) SetCacheControl(value string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.cache = value
}

// Answer has h answer the requests for path from now on; nil ends that.
func (i *Issuer) Answer(path string, h http.HandlerFunc) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.override[path] = h
}

// Requests counts the requests for path so far.
func (i *Issuer) Requests(path string) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.requests[path]
}

// AddKey makes and publishes a key for alg, and signs with it from now on.
func (i *Issuer) AddKey(alg string) Key {
	key := Key{Alg: alg, Private: NewPrivateKey(alg)}
	i.mu.Lock()
	i.made++
	key.ID = fmt.Sprintf("key-%d", i.made)
	i.mu.Unlock()
	i.Publish(key)
	return key
}

// Publish adds a key as it is given.
func (i *Issuer) Publish(key Key) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = append(i.keys, key)
}

// Rotate replaces all keys by a new one for alg.
func (i *Issuer) Rotate(alg string) Key {
	i.mu.Lock()
	i.keys = nil
	i.mu.Unlock()
	return i.AddKey(alg)
}

// Key is the one that tokens are signed with.
func (i *Issuer) Key() Key {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.keys[len(i.keys)-1]
}

// NewPrivateKey makes a key that alg works with. It panics for an algorithm that
// has no key pairs, which is a mistake in the test.
func NewPrivateKey(alg string) crypto.Signer {
	key, err := newPrivateKey(alg)
	if err != nil {
		panic(err)
	}
	return key
}

func newPrivateKey(alg string) (crypto.Signer, error) {
	switch alg {
	case "RS256", "RS384", "RS512", "PS256", "PS384", "PS512":
		return rsa.GenerateKey(rand.Reader, 2048)
	case "ES256":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ES384":
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ES512":
		return ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "EdDSA":
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	}
	return nil, fmt.Errorf("authtest: no key pairs for algorithm %q", alg)
}

// ServeHTTP publishes the discovery document and the key set.
func (i *Issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	i.requests[r.URL.Path]++
	down, override, cache := i.down, i.override[r.URL.Path], i.cache
	keys := append([]Key(nil), i.keys...)
	i.mu.Unlock()
	switch {
	case down:
		http.Error(w, "down", http.StatusServiceUnavailable)
	case override != nil:
		override(w, r)
	case r.URL.Path == DiscoveryPath:
		reply(w, map[string]any{"issuer": i.URL, "jwks_uri": i.KeysURL()})
	case r.URL.Path == KeysPath:
		if cache != "" {
			w.Header().Set("Cache-Control", cache)
		}
		reply(w, publish(keys))
	default:
		http.NotFound(w, r)
	}
}

// RoundTrip implements http.RoundTripper from memory.
func (i *Issuer) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	w := httptest.NewRecorder()
	i.ServeHTTP(w, r)
	resp := w.Result()
	resp.Request = r
	return resp, nil
}

func publish(keys []Key) jose.JSONWebKeySet {
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
	for _, k := range keys {
		use := k.Use
		if use == "" {
			use = "sig"
		}
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: k.Private.Public(), KeyID: k.ID, Algorithm: k.Alg, Use: use})
	}
	return set
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the client went away: its error, not ours
}

// Draft is a token before it is signed.
type Draft struct {
	Header map[string]any
	Claims map[string]any
	Method jwt.SigningMethod
	Key    any // what Method signs with
}

// Change alters a Draft.
type Change func(*Draft)

// Claim sets a claim; nil takes it away.
func Claim(name string, value any) Change { return func(d *Draft) { set(d.Claims, name, value) } }

// Head sets a field of the header; nil takes it away.
func Head(name string, value any) Change { return func(d *Draft) { set(d.Header, name, value) } }

// SignedBy signs with key, whoever's it is, by algorithm alg, which the header then
// names.
func SignedBy(alg string, key any) Change {
	return func(d *Draft) {
		d.Method, d.Key = jwt.GetSigningMethod(alg), key
		d.Header["alg"] = alg
	}
}

// Unsigned makes a token of algorithm none (RFC 7518 section 3.6).
func Unsigned() Change { return SignedBy("none", jwt.UnsafeAllowNoneSignatureType) }

func set(m map[string]any, name string, value any) {
	if value == nil {
		delete(m, name)
		return
	}
	m[name] = value
}

// Token signs a token for user sub: good for an hour, from this issuer, for
// Audience, with the newest key, unless changed. It panics when that cannot be
// signed, which is a mistake in the test.
func (i *Issuer) Token(sub string, changes ...Change) string {
	key := i.Key()
	i.mu.Lock()
	now := i.now()
	i.mu.Unlock()
	d := &Draft{
		Header: map[string]any{"typ": "JWT", "alg": key.Alg, "kid": key.ID},
		Claims: map[string]any{"iss": i.URL, "aud": Audience, "sub": sub, "iat": now.Unix(), "exp": now.Add(time.Hour).Unix()},
		Method: jwt.GetSigningMethod(key.Alg),
		Key:    key.Private,
	}
	for _, change := range changes {
		change(d)
	}
	return d.sign()
}

func (d *Draft) sign() string {
	t := &jwt.Token{Header: maps.Clone(d.Header), Claims: jwt.MapClaims(d.Claims), Method: d.Method}
	token, err := t.SignedString(d.Key)
	if err != nil {
		panic(fmt.Sprintf("authtest: signing a token: %v", err))
	}
	return token
}
