package auth

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/go-jose/go-jose/v4"
)

// maxKeys bounds a key set. Large issuers publish about ten.
const maxKeys = 100

// parseKeySet reads a JWK Set (RFC 7517 section 5) and returns the keys that can
// check signatures. Keys of an unknown kind, for other uses, weak, private or
// broken are left out as section 5 asks, each with its reason in skipped.
func parseKeySet(body []byte) (keys []verifyKey, skipped []error, err error) {
	var set struct {
		Keys *[]json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &set); err != nil {
		return nil, nil, fmt.Errorf("not a JWK Set: %w", err)
	}
	if set.Keys == nil {
		return nil, nil, errors.New(`not a JWK Set: it has no "keys"`)
	}
	if len(*set.Keys) > maxKeys {
		return nil, nil, fmt.Errorf("a JWK Set of %d keys: the most is %d", len(*set.Keys), maxKeys)
	}
	for i, raw := range *set.Keys {
		key, err := parseKey(raw)
		if err != nil {
			skipped = append(skipped, fmt.Errorf("keys[%d]: %w", i, err))
			continue
		}
		keys = append(keys, key)
	}
	return keys, skipped, nil
}

// parseKey reads one JWK. The types are those of RFC 7518 section 6 and RFC 8037
// without the symmetric one: a published secret is none.
func parseKey(raw json.RawMessage) (verifyKey, error) {
	var head struct {
		Type string   `json:"kty"`
		Use  string   `json:"use"`
		Ops  []string `json:"key_ops"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return verifyKey{}, fmt.Errorf("not a JWK: %w", err)
	}
	switch {
	case head.Type != "RSA" && head.Type != "EC" && head.Type != "OKP":
		return verifyKey{}, fmt.Errorf("kty %s is not used", quote(head.Type))
	case head.Use != "" && head.Use != "sig":
		return verifyKey{}, fmt.Errorf("use is %s, not sig", quote(head.Use))
	case head.Ops != nil && !slices.Contains(head.Ops, "verify"):
		return verifyKey{}, errors.New("key_ops does not list verify")
	}
	var jwk jose.JSONWebKey
	if err := jwk.UnmarshalJSON(raw); err != nil {
		return verifyKey{}, err
	}
	if !jwk.IsPublic() {
		return verifyKey{}, errors.New("a private key, which everyone who can read it can sign with")
	}
	if err := checkPublic(jwk.Key); err != nil {
		return verifyKey{}, err
	}
	return verifyKey{id: jwk.KeyID, alg: jwk.Algorithm, key: jwk.Key}, nil
}

// quote makes text from outside fit for a log line.
func quote(s string) string {
	const most = 64
	if len(s) > most {
		return fmt.Sprintf("%q…", s[:most])
	}
	return fmt.Sprintf("%q", s)
}
