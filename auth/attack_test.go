package auth_test

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/wsrelay/relay/auth"
	"github.com/wsrelay/relay/auth/authtest"
)

func TestAttackAlgNone(t *testing.T) {
	j, issuer, _ := fixture(t)
	unsigned := issuer.Token("ada", authtest.Unsigned())
	wantRefused(t, j, unsigned, `algorithm "none"`)
	for _, alg := range []string{"None", "NONE", "nOnE", ""} {
		wantRefused(t, j, reheader(t, unsigned, map[string]any{"alg": alg}), "algorithm")
	}
	// A good token with its signature taken off, whatever its header says.
	good := issuer.Token("ada")
	wantRefused(t, j, good[:strings.LastIndex(good, ".")+1], "signature")
	wantUser(t, j, good, "ada")
}

// The public key, which everyone has, taken for the secret of HS256.
func TestAttackKeyConfusion(t *testing.T) {
	key := authtest.NewPrivateKey("RS256")
	pem := publicPEM(t, key.Public())
	static, issuer, _ := fixture(t, func(o *auth.JWTOptions) { o.PublicKey = pem })
	published, issuer2, _ := fixture(t)
	issuer2.Publish(authtest.Key{ID: "rsa", Private: key})
	jwk, err := json.Marshal(jose.JSONWebKey{Key: key.Public(), KeyID: "rsa"})
	if err != nil {
		t.Fatal(err)
	}
	der := key.Public().(*rsa.PublicKey).N.Bytes()
	for _, secret := range [][]byte{[]byte(pem), []byte(strings.TrimSpace(pem)), jwk, der, nil} {
		for _, alg := range []string{"HS256", "HS384", "HS512"} {
			forged := []authtest.Change{authtest.SignedBy(alg, secret), authtest.Head("kid", "rsa")}
			wantRefused(t, static, issuer.Token("root", forged...), "algorithm")
			wantRefused(t, published, issuer2.Token("root", forged...), "algorithm")
		}
	}
	wantUser(t, static, issuer.Token("ada", authtest.SignedBy("RS256", key)), "ada")
	wantUser(t, published, issuer2.Token("ada", authtest.SignedBy("PS256", key), authtest.Head("kid", "rsa")), "ada")
}

// A symmetric key that the issuer publishes by mistake is no secret.
func TestAttackPublishedSecret(t *testing.T) {
	j, issuer, _ := fixture(t)
	published := base64.RawURLEncoding.EncodeToString([]byte(secret))
	issuer.Answer(authtest.KeysPath, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"keys":[{"kty":"oct","kid":"s","alg":"HS256","k":"` + published + `"}]}`))
	})
	wantRefused(t, j, issuer.Token("root", authtest.SignedBy("HS256", []byte(secret)), authtest.Head("kid", "s")), "algorithm")
}

func TestAttackForeignKey(t *testing.T) {
	j, issuer, _ := fixture(t)
	wantRefused(t, j, issuer.Token("root", authtest.SignedBy("ES256", authtest.NewPrivateKey("ES256"))), "no known key fits")
	// The algorithm of another kind of key, under a kid that is known.
	wantRefused(t, j, issuer.Token("root", authtest.SignedBy("EdDSA", authtest.NewPrivateKey("EdDSA"))), "no known key fits")
}

func TestAttackWrongAudience(t *testing.T) {
	j, issuer, _ := fixture(t)
	for _, aud := range []any{"shop", []string{"shop", "blog"}, "", []string{}, nil, 7, authtest.Audience + " ", []any{7}, auth.AnyAudience} {
		wantRefused(t, j, issuer.Token("ada", authtest.Claim("aud", aud)), "aud")
	}
	wantUser(t, j, issuer.Token("ada", authtest.Claim("aud", []string{"shop", authtest.Audience})), "ada")
}

func TestAttackWrongIssuer(t *testing.T) {
	j, issuer, _ := fixture(t)
	for _, iss := range []any{"https://evil.example.com", issuer.URL + "/", strings.ToUpper(issuer.URL), "", nil, []string{issuer.URL}} {
		wantRefused(t, j, issuer.Token("ada", authtest.Claim("iss", iss)), "iss")
	}
}

func TestAttackExpired(t *testing.T) {
	j, issuer, clock := fixture(t)
	at := clock.now().Unix()
	for _, exp := range []any{at - 1, at, at - int64(auth.Leeway/time.Second) - 1, nil, 0, -1, "9999999999", 300e9, 1e300, -1e300, true} {
		wantRefused(t, j, issuer.Token("ada", authtest.Claim("exp", exp)), "exp")
	}
	token := issuer.Token("ada", authtest.Claim("exp", at+60))
	if id := wantUser(t, j, token, "ada"); !id.Expires.Equal(clock.now().Add(time.Minute)) {
		t.Errorf("Expires = %v, want the token's exp", id.Expires)
	}
	clock.forward(time.Minute)
	wantRefused(t, j, token, "expired")
}

func TestAttackNotYetValid(t *testing.T) {
	j, issuer, clock := fixture(t)
	ahead := clock.now().Add(auth.Leeway)
	wantUser(t, j, issuer.Token("ada", authtest.Claim("nbf", ahead.Unix()), authtest.Claim("iat", ahead.Unix())), "ada")
	wantRefused(t, j, issuer.Token("ada", authtest.Claim("nbf", ahead.Unix()+1)), "not valid yet")
	wantRefused(t, j, issuer.Token("ada", authtest.Claim("iat", ahead.Unix()+1)), "before issued")
	wantRefused(t, j, issuer.Token("ada", authtest.Claim("nbf", "soon")), "nbf")
}

func TestAttackUnknownKid(t *testing.T) {
	j, issuer, clock := fixture(t)
	wantUser(t, j, issuer.Token("ada"), "ada")
	before := issuer.Requests(authtest.KeysPath)
	flood := func() {
		for range 100 {
			wantRefused(t, j, issuer.Token("ada", authtest.Head("kid", rand.Text())), "kid is unknown")
		}
	}
	flood()
	if n := issuer.Requests(authtest.KeysPath) - before; n != 1 {
		t.Errorf("100 unknown kids made %d requests, want 1", n)
	}
	clock.forward(29 * time.Second)
	flood()
	if n := issuer.Requests(authtest.KeysPath) - before; n != 1 {
		t.Errorf("29 s later there were %d requests, want 1", n)
	}
	clock.forward(time.Second)
	flood()
	if n := issuer.Requests(authtest.KeysPath) - before; n != 2 {
		t.Errorf("30 s later there were %d requests, want 2", n)
	}
}

// kid is only ever compared: it opens no file and names no URL.
func TestAttackKidWithPath(t *testing.T) {
	j, issuer, _ := fixture(t)
	for _, kid := range []any{"../../../../dev/null", "/etc/passwd", "https://evil.example.com/keys", "key-1/../key-1", "key-1\x00", "' or 1=1 --", ""} {
		wantRefused(t, j, issuer.Token("root", authtest.Head("kid", kid)), "kid is unknown")
	}
	for _, kid := range []any{7, []string{"key-1"}, map[string]any{"key-1": 1}, true} {
		wantRefused(t, j, issuer.Token("root", authtest.Head("kid", kid)), "kid is no string")
	}
	for _, path := range []string{authtest.KeysPath, authtest.DiscoveryPath} {
		if issuer.Requests(path) != 2 { // at first, and once for all unknown kids
			t.Errorf("%d requests for %s, want 2", issuer.Requests(path), path)
		}
	}
}

// A token that brings or names its own keys: nothing is fetched, no key is taken.
func TestAttackJKU(t *testing.T) {
	var visits int
	evil := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { visits++ }))
	defer evil.Close()
	j, issuer, _ := fixture(t)
	key := authtest.NewPrivateKey("ES256")
	jwk := jose.JSONWebKey{Key: key.Public(), KeyID: "evil"}
	for name, value := range map[string]any{"jku": evil.URL, "x5u": evil.URL, "jwk": jwk, "x5c": []string{"MIIB"}} {
		own := []authtest.Change{authtest.SignedBy("ES256", key), authtest.Head(name, value)}
		wantRefused(t, j, issuer.Token("root", own...), "no known key fits")
		wantRefused(t, j, issuer.Token("root", append(own, authtest.Head("kid", "evil"))...), "kid is unknown")
		wantRefused(t, j, issuer.Token("root", append(own, authtest.Head("kid", nil))...), "no known key fits")
		wantUser(t, j, issuer.Token("ada", authtest.Head(name, value)), "ada") // ignored, not trusted
	}
	if visits != 0 {
		t.Errorf("%d requests where the token pointed to", visits)
	}
}

func TestAttackCriticalExtension(t *testing.T) {
	j, issuer, _ := fixture(t)
	for _, crit := range []any{[]string{"b64"}, []string{}, "exp", false} {
		wantRefused(t, j, issuer.Token("ada", authtest.Head("crit", crit)), "crit")
	}
	// null is there too, and JSON knows no other way to say it.
	wantRefused(t, j, reheader(t, issuer.Token("ada"), map[string]any{"alg": "ES256", "crit": nil}), "crit")
}

// Tokens that the issuer signs for other purposes.
func TestAttackOtherTokenTypes(t *testing.T) {
	j, issuer, _ := fixture(t)
	for _, typ := range []string{"logout+jwt", "dpop+jwt", "application/secevent+jwt", "KB+JWT"} {
		wantRefused(t, j, issuer.Token("ada", authtest.Head("typ", typ)), "type")
	}
	for _, typ := range []any{"at+jwt", "application/at+jwt", "jwt", nil} {
		wantUser(t, j, issuer.Token("ada", authtest.Head("typ", typ)), "ada")
	}
}

// Names of header fields are compared exactly: "ALG" is not alg.
func TestAttackHeaderCase(t *testing.T) {
	j, issuer, _ := fixture(t)
	wantRefused(t, j, issuer.Token("ada", authtest.Head("alg", nil), authtest.Head("ALG", "ES256")), "algorithm")
	wantUser(t, j, issuer.Token("ada", authtest.Head("ALG", "none"), authtest.Head("KID", "x")), "ada")
}

func TestAttackTokenSize(t *testing.T) {
	j, issuer, _ := fixture(t)
	wantRefused(t, j, issuer.Token("ada", authtest.Claim("pad", strings.Repeat("x", auth.MaxToken))), "bytes: the most is")
	wantUser(t, j, issuer.Token("ada", authtest.Claim("pad", strings.Repeat("x", auth.MaxToken/2))), "ada")
}

// Noise is refused before any key is asked for.
func TestAttackNoiseFetchesNothing(t *testing.T) {
	j, issuer, _ := fixture(t)
	good := issuer.Token("ada")
	for _, token := range []string{"x", "a.b.c", good + ".", good + "\n", good[:40] + "\r\n" + good[40:], "!" + good, issuer.Token("ada", authtest.Unsigned())} {
		wantRefused(t, j, token, "")
	}
	if n := issuer.Requests(authtest.DiscoveryPath); n != 0 {
		t.Errorf("%d requests", n)
	}
}

// A P-256 key used with SHA-384, its signature padded to the length of ES384: good
// mathematics, but each algorithm is tied to one curve (RFC 7518 section 3.4).
func TestAttackCurveMismatch(t *testing.T) {
	j, issuer, _ := fixture(t)
	key := authtest.NewPrivateKey("ES256").(*ecdsa.PrivateKey)
	issuer.Publish(authtest.Key{ID: "p256", Private: key})
	good := []authtest.Change{authtest.SignedBy("ES256", key), authtest.Head("kid", "p256")}
	wantUser(t, j, issuer.Token("ada", good...), "ada")

	token := reheader(t, issuer.Token("ada", good...), map[string]any{"alg": "ES384", "kid": "p256"})
	signed := token[:strings.LastIndex(token, ".")]
	digest := sha512.Sum384([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	sig := append(r.FillBytes(make([]byte, 48)), s.FillBytes(make([]byte, 48))...)
	wantRefused(t, j, signed+"."+base64.RawURLEncoding.EncodeToString(sig), "no known key fits")
}

func TestAttackExpiredTokenDoesNotBecomeGuest(t *testing.T) {
	users, issuer, clock := fixture(t)
	chain := auth.NewChain(auth.NewAnonymous(auth.AnonymousOptions{Name: "guests", Prefix: true}), users)
	token := issuer.Token("ada")
	clock.forward(2 * time.Hour)
	for _, source := range []auth.Source{auth.Header, auth.Subprotocol, auth.Message} {
		c := authtest.At(source, token)
		c.Claim.ID = "ada"
		if id, err := chain.Authenticate(t.Context(), c); id != nil || !errors.Is(err, auth.ErrInvalid) {
			t.Errorf("%s: %+v, %v; want ErrInvalid", source, id, err)
		}
	}
}

func TestAttackGuestTakesNeitherIDNorRoles(t *testing.T) {
	users, issuer, _ := fixture(t, func(o *auth.JWTOptions) { o.User.Roles = "/roles" })
	chain := auth.NewChain(users, auth.NewAnonymous(auth.AnonymousOptions{Name: "guests", Prefix: true}))
	ada := authtest.Bearer(issuer.Token("ada", authtest.Claim("roles", []string{"agent"})))
	signedIn := must(chain.Authenticate(t.Context(), ada))(t)
	for _, claimed := range []string{"ada", "guest:ada", ""} {
		guest := must(chain.Authenticate(t.Context(), auth.Credentials{Claim: auth.Claim{
			ID: claimed, Name: "Ada", Data: json.RawMessage(`{"roles":["agent"]}`),
		}}))(t)
		if guest.ID == signedIn.ID || !strings.HasPrefix(guest.ID, auth.GuestPrefix) || !guest.Guest {
			t.Errorf("claiming %q gave %+v", claimed, guest)
		}
		if guest.Roles != nil || guest.Claims != nil {
			t.Errorf("claiming %q gave roles %v, claims %v", claimed, guest.Roles, guest.Claims)
		}
		if err := auth.Refresh(guest, signedIn); !errors.Is(err, auth.ErrUserMismatch) {
			t.Errorf("a guest's socket went over to %q: %v", signedIn.ID, err)
		}
	}
	// Nor does a token make someone a guest or a service.
	for _, sub := range []string{"guest:ada", "service:billing"} {
		wantRefused(t, users, issuer.Token(sub), "reserved")
	}
}

// reheader replaces the header of a token without signing it again.
func reheader(t *testing.T, token string, header map[string]any) string {
	t.Helper()
	text := must(json.Marshal(header))(t)
	_, rest, _ := strings.Cut(token, ".")
	return base64.RawURLEncoding.EncodeToString(text) + "." + rest
}
