package auth_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/wsrelay/relay/auth"
	"github.com/wsrelay/relay/auth/authtest"
)

// FuzzJWT: of all that can be presented, only what was signed is accepted.
func FuzzJWT(f *testing.F) {
	issuer := authtest.OfflineIssuer("https://id.example.com")
	j := must(auth.NewJWT(auth.JWTOptions{Name: "users", Issuer: issuer.URL, Audience: []string{authtest.Audience}, Transport: issuer}))(f)
	f.Cleanup(func() { _ = j.Close() })
	good := []string{issuer.Token("ada"), issuer.Token("ada", authtest.Head("kid", nil))}
	for _, seed := range []string{
		good[0], good[1], issuer.Token("ada", authtest.Unsigned()),
		issuer.Token("ada", authtest.SignedBy("HS256", []byte("x"))), issuer.Token("ada", authtest.Head("crit", "b64")), "a.b.c", "..", "",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		id, err := j.Authenticate(t.Context(), authtest.Bearer(token))
		switch {
		case (err == nil) != slices.Contains(good, token):
			t.Errorf("%q: %+v, %v", token, id, err)
		case err != nil && id != nil:
			t.Errorf("an identity beside %v", err)
		case err != nil && !errors.Is(err, auth.ErrInvalid) && !errors.Is(err, auth.ErrNoCredential):
			t.Errorf("%v", err)
		}
	})
}

// FuzzAPIKey: only the key itself is accepted.
func FuzzAPIKey(f *testing.F) {
	key, hash := auth.NewAPIKey()
	a := must(auth.NewAPIKeys(auth.APIKeyOptions{Name: "servers", Keys: map[string]auth.APIKey{"billing": {Hash: hash}}}))(f)
	for _, seed := range []string{key, key + "a", key[1:], strings.ToUpper(key), "relay_", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, presented string) {
		id, err := a.Authenticate(t.Context(), authtest.Bearer(presented))
		if (err == nil) != (presented == key) || (err == nil) != (id != nil) {
			t.Errorf("%q: %+v, %v", presented, id, err)
		}
	})
}
