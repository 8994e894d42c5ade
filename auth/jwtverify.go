package auth

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/golang-jwt/jwt/v5"
)

// header is what is read of a token's header (RFC 7515 section 4.1). What else may
// stand there, above all jku, jwk, x5u and x5c, by which a token would bring or
// name its own keys, has no field.
type header struct {
	alg, typ string
	kid      string
	hasKid   bool
	crit     bool
}

// decodeHeader reads the first part of a token. It goes by a map, as the library
// does later: a struct would also take "ALG" for alg, and the two could differ.
func decodeHeader(part string) (*header, error) {
	text, err := base64.RawURLEncoding.Strict().DecodeString(part)
	if err != nil {
		return nil, err
	}
	var fields map[string]any
	if err := json.Unmarshal(text, &fields); err != nil {
		return nil, errors.New("not a JSON object")
	}
	h := new(header)
	_, h.crit = fields["crit"]
	for name, to := range map[string]*string{"alg": &h.alg, "typ": &h.typ, "kid": &h.kid} {
		value, ok := fields[name]
		if !ok {
			continue
		}
		if *to, ok = value.(string); !ok {
			return nil, errors.New(name + " is no string")
		}
	}
	_, h.hasKid = fields["kid"]
	return h, nil
}

// parseHeader reads and checks what can be refused without a key, so that noise
// never makes us fetch any.
func (j *JWT) parseHeader(token string) (*header, error) {
	if len(token) > MaxToken {
		return nil, invalid("a token of %d bytes: the most is %d", len(token), MaxToken)
	}
	if i := strings.IndexFunc(token, notBase64URL); i >= 0 {
		// base64 would skip line breaks: one token could be written in many ways.
		return nil, invalid("not a token: byte %d is none of base64url", i)
	}
	first, rest, _ := strings.Cut(token, ".")
	if strings.Count(rest, ".") != 1 {
		return nil, invalid("not a token: it has %d parts, not 3", strings.Count(token, ".")+1)
	}
	h, err := decodeHeader(first)
	if err != nil {
		return nil, invalid("reading the token's header: %w", err)
	}
	switch {
	case h.crit:
		return nil, invalid("the token's header has crit: none of its extensions is known (RFC 7515 section 4.1.11)")
	case !slices.Contains(j.algs, h.alg):
		return nil, invalid("algorithm %s is not among the allowed %s", quote(h.alg), strings.Join(j.algs, ", "))
	case !isAccessType(h.typ):
		return nil, invalid("a token of type %s is for something else", quote(h.typ))
	}
	return h, nil
}

func notBase64URL(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.'
}

// isAccessType refuses tokens that the same issuer signs for other purposes and
// marks as such (RFC 8725 section 3.11): logout+jwt, dpop+jwt, secevent+jwt. Those
// of access tokens are at+jwt (RFC 9068), JWT, or unmarked.
func isAccessType(typ string) bool {
	typ = strings.TrimPrefix(strings.ToLower(typ), "application/")
	return typ == "at+jwt" || !strings.HasSuffix(typ, "+jwt")
}

// verify returns the claims of a token that is signed by one of our keys and in
// force. A token that no cached key fits may be signed with a newer one.
func (j *JWT) verify(ctx context.Context, token string) (jwt.MapClaims, error) {
	h, err := j.parseHeader(token)
	if err != nil {
		return nil, err
	}
	if j.static != nil {
		return j.verifyWith(token, []verifyKey{*j.static})
	}
	keys, version, err := j.remote.current(ctx)
	if err != nil {
		return nil, err
	}
	claims, err := j.verifyWith(token, h.candidates(keys))
	if !errors.Is(err, errNoKeyFits) {
		return claims, err
	}
	if keys, newerErr := j.remote.newer(ctx, version); newerErr != nil {
		return nil, newerErr
	} else if keys != nil {
		return j.verifyWith(token, h.candidates(keys))
	}
	return nil, err
}

// errNoKeyFits marks errors that another set of keys might cure.
var errNoKeyFits = errors.New("no known key fits the token")

// candidates are the keys that the token may be signed with: those of its kid, or
// without a kid the only one there is (OpenID Connect Core section 10.1).
func (h *header) candidates(keys []verifyKey) []verifyKey {
	var list []verifyKey
	for _, k := range keys {
		if k.fits(h.alg) && (!h.hasKid || k.id == h.kid) {
			list = append(list, k)
		}
	}
	if !h.hasKid && len(list) > 1 {
		return nil
	}
	return list
}

// maxCandidates bounds the signature checks that one token costs. Issuers should
// not give two keys one kid, and hardly ever do.
const maxCandidates = 4

func (j *JWT) verifyWith(token string, candidates []verifyKey) (jwt.MapClaims, error) {
	var set jwt.VerificationKeySet
	for _, k := range candidates[:min(len(candidates), maxCandidates)] {
		set.Keys = append(set.Keys, k.key)
	}
	if len(set.Keys) == 0 {
		return nil, invalid("%w: its kid is unknown, or it has none and the issuer has several keys", errNoKeyFits)
	}
	claims := jwt.MapClaims{}
	_, err := j.parser.ParseWithClaims(token, claims, func(*jwt.Token) (any, error) { return set, nil })
	switch {
	case errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return nil, invalid("%w: %w", errNoKeyFits, err)
	case err != nil:
		return nil, invalid("%w", err)
	}
	return claims, nil
}
