package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// MaxToken bounds a token, in bytes: issuers stay below 8 KiB, which is what
// proxies take as a header.
const MaxToken = 16 << 10

// Leeway is by how much an issuer's clock may be ahead of ours before its tokens
// count as not yet valid (nbf, iat). The end (exp) has none: what is refused at
// the handshake and when a live socket ends is the same moment.
const Leeway = 30 * time.Second

// AnyAudience is the audience that waives the check.
const AnyAudience = "any"

// JWTOptions configure NewJWT. Where the keys are comes from exactly one of JWKS,
// Secret and PublicKey, or from the Issuer alone: OpenID Connect discovery.
type JWTOptions struct {
	Name       string   // of the authenticator in relay.yaml
	Issuer     string   // what iss has to be; required
	Audience   []string // one of which aud has to name, or just AnyAudience; required
	Algorithms []string // allowed; empty: all that suit the kind of key
	JWKS       string   // URL of a JWK Set
	Secret     Secret   // shared with the issuer, MinSecret bytes and up
	PublicKey  string   // PEM
	From       []string // see ParsePlace; empty: header, subprotocol, message
	User       UserClaims

	Now       func() time.Time  // nil: time.Now
	Transport http.RoundTripper // for fetching keys; nil: one that goes by the environment's proxy
	Log       *slog.Logger      // nil: none
}

// UserClaims says by JSON pointers (RFC 6901) which claims make the user.
type UserClaims struct {
	ID    string // a string, or a whole number; empty: /sub
	Name  string // a string; empty: /name
	Roles string // a list of strings, or one string of words; empty: no roles
	Data  string // anything; empty: no data
}

// JWT identifies users by a signed JSON Web Token (RFC 7519), as RFC 8725 says one
// should be read: the algorithm has to be on the allow-list and suit the key, and
// what the header says of keys (jku, jwk, x5u, x5c) is not looked at; kid is only
// compared. iss, aud and exp are required.
type JWT struct {
	name   string
	from   Places
	algs   []string
	user   userPointers
	parser *jwt.Parser
	now    func() time.Time

	static *verifyKey // a secret or public key from the configuration, or
	remote *keySet    // the issuer's published ones
}

// NewJWT makes an authenticator of tokens. It does no I/O: keys are fetched when the
// first token comes, so an issuer that is down keeps nobody from starting. Its error
// is an OptionErrors.
func NewJWT(opt JWTOptions) (*JWT, error) {
	var errs OptionErrors
	j := &JWT{name: opt.Name, now: opt.Now}
	if j.now == nil {
		j.now = time.Now
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	var err error
	if j.from, err = parsePlaces(opt.From); err != nil {
		errs.adopt("from", err)
	}
	if j.user, err = opt.User.parse(); err != nil {
		errs.adopt("user", err)
	}
	if opt.Issuer == "" {
		errs.add("issuer", "required: what the claim iss of your tokens says")
	}
	if err := checkAudience(opt.Audience); err != nil {
		errs.adopt("audience", err)
	}
	from := opt.keySource(&errs)
	if from.static != nil || from.remote != nil {
		j.algs = opt.algorithms(from.static, &errs)
	}
	if err := errs.err(); err != nil {
		return nil, err
	}
	j.static = from.static
	if from.remote != nil {
		j.remote = newKeySet(from.remote, j.now, opt.Log.With("auth", opt.Name))
	}
	j.parser = newParser(opt, j.algs, j.now)
	return j, nil
}

func newParser(opt JWTOptions, algs []string, now func() time.Time) *jwt.Parser {
	rules := []jwt.ParserOption{
		jwt.WithValidMethods(algs),
		jwt.WithIssuer(opt.Issuer),
		jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(),
		jwt.WithLeeway(Leeway), // of exp too, which identity makes up for
		jwt.WithTimeFunc(now),
		jwt.WithStrictDecoding(),
	}
	if !slices.Contains(opt.Audience, AnyAudience) {
		rules = append(rules, jwt.WithAudience(opt.Audience...))
	}
	return jwt.NewParser(rules...)
}

func checkAudience(list []string) error {
	switch {
	case len(list) == 0:
		return fmt.Errorf("required: what the claim aud of tokens for relay says, or %q if they are not made for anyone", AnyAudience)
	case slices.Contains(list, ""):
		return errors.New("is empty")
	case len(list) > 1 && slices.Contains(list, AnyAudience):
		return fmt.Errorf("%q waives the check, so it stands alone", AnyAudience)
	}
	return nil
}

// keySource is where the keys come from: one of its fields is set.
type keySource struct {
	static *verifyKey
	remote *remote
}

func (opt *JWTOptions) keySource(errs *OptionErrors) keySource {
	given := opt.givenKeys()
	if len(given) > 1 {
		for _, field := range given[1:] {
			errs.add(field, "%s is set too: keys come from one place, and a shared secret never stands beside public keys", given[0])
		}
		return keySource{}
	}
	if len(given) == 0 {
		if opt.Issuer == "" {
			return keySource{}
		}
		if err := checkDiscovery(opt.Issuer); err != nil {
			errs.add("issuer", "keys are discovered from it, as neither jwks nor secret is set: %w", err)
			return keySource{}
		}
		return keySource{remote: newRemote(opt.Issuer, nil, opt.Transport)}
	}
	switch given[0] {
	case "secret":
		if len(opt.Secret) < MinSecret {
			errs.add("secret", "of %d bytes: %d at least, or it can be guessed from a token; `openssl rand -base64 48` makes one", len(opt.Secret), MinSecret)
			return keySource{}
		}
		return keySource{static: &verifyKey{key: []byte(opt.Secret)}}
	case "public_key":
		key, err := parsePublicPEM(opt.PublicKey)
		if err != nil {
			errs.adopt("public_key", err)
			return keySource{}
		}
		return keySource{static: &verifyKey{key: key}}
	default:
		u, err := keyURL(opt.JWKS)
		if err != nil {
			errs.adopt("jwks", err)
			return keySource{}
		}
		return keySource{remote: newRemote("", u, opt.Transport)}
	}
}

// checkDiscovery holds for an issuer that describes itself below its URL (OpenID
// Connect Core section 2: iss).
func checkDiscovery(issuer string) error {
	u, err := keyURL(issuer)
	if err == nil && (u.RawQuery != "" || u.ForceQuery || u.Fragment != "") {
		return errors.New("a URL with a query or fragment, which an issuer's has not")
	}
	return err
}

// givenKeys names the options that hold or locate keys and are set.
func (opt *JWTOptions) givenKeys() []string {
	var given []string
	if opt.JWKS != "" {
		given = append(given, "jwks")
	}
	if opt.Secret != "" {
		given = append(given, "secret")
	}
	if opt.PublicKey != "" {
		given = append(given, "public_key")
	}
	return given
}

// algorithms is the allow-list: what is configured if the kind of key can serve it,
// else all that it can. static is nil for published keys, whose kinds are not known
// yet but which are never secrets.
func (opt *JWTOptions) algorithms(static *verifyKey, errs *OptionErrors) []string {
	suits := func(alg string) bool { return slices.Contains(asymmetricAlgorithms(), alg) }
	if static != nil {
		suits = static.fits
	}
	known := append(symmetricAlgorithms(), asymmetricAlgorithms()...)
	if len(opt.Algorithms) == 0 {
		return slices.DeleteFunc(known, func(alg string) bool { return !suits(alg) })
	}
	for i, alg := range opt.Algorithms {
		field := fmt.Sprintf("algorithms[%d]", i)
		switch {
		case !slices.Contains(known, alg):
			errs.add(field, "no algorithm called %q: want some of %s", alg, strings.Join(known, ", "))
		case static != nil && secretLen(alg) > 0 && opt.Secret != "" && !suits(alg):
			errs.add(field, "%s needs a secret of %d bytes, this one has %d", alg, secretLen(alg), len(opt.Secret))
		case !suits(alg) && secretLen(alg) > 0:
			errs.add(field, "%s works with a shared secret, and the keys are public ones", alg)
		case !suits(alg):
			errs.add(field, "%s does not work with this kind of key", alg)
		}
	}
	return slices.Clone(opt.Algorithms)
}

// Authenticate judges the token at the first place that holds one. It waits for keys
// only when those it has are missing, out of date, or do not fit.
func (j *JWT) Authenticate(ctx context.Context, c Credentials) (*Identity, error) {
	if err := ctx.Err(); err != nil {
		return nil, ended(err)
	}
	raw, ok := j.from.find(c)
	if !ok || isAPIKey(raw) {
		return nil, ErrNoCredential
	}
	claims, err := j.verify(ctx, raw)
	if err != nil {
		return nil, err
	}
	return j.identity(claims)
}

// Places lists where tokens are looked for.
func (j *JWT) Places() Places { return slices.Clone(j.from) }

// Check fetches the issuer's keys if there are none and says what is wrong with
// them: for `relay doctor` and for starting warm. It returns nil for keys that come
// from the configuration.
func (j *JWT) Check(ctx context.Context) error {
	if j.remote == nil {
		return nil
	}
	return j.remote.check(ctx)
}

// Close ends a fetch of keys that is under way. Tokens that the cached keys fit are
// still judged; others get ErrUnavailable.
func (j *JWT) Close() error {
	if j.remote != nil {
		j.remote.close()
	}
	return nil
}
