package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// The form of an API key and of its hash. The prefix lets scanners for leaked
// secrets find keys, and an endpoint tell them from tokens.
const (
	apiKeyPrefix  = "relay_"
	apiKeyBytes   = 32
	apiKeyLen     = len(apiKeyPrefix) + (apiKeyBytes*8+4)/5
	apiHashPrefix = "sha256:"
)

// MaxAPIKeys bounds one authenticator's keys: each credential is compared with
// all of them.
const MaxAPIKeys = 1000

// APIKeyOptions configure NewAPIKeys.
type APIKeyOptions struct {
	Name string            // of the authenticator in relay.yaml
	Keys map[string]APIKey // by the name of their holder
	From []string          // see ParsePlace; empty: header, subprotocol, message
}

// APIKey is what the configuration knows of one key.
type APIKey struct {
	Hash  string   // as NewAPIKey returns it
	Roles []string // of the key's holder
}

// APIKeys identifies servers, or whoever else holds a key that `relay key` made.
// The holder's id is its name behind ServicePrefix.
//
// The configuration holds hashes, so that reading it lets nobody in. They are plain
// SHA-256, without salt or stretching: a key is 256 random bits, not a password, so
// there is nothing to guess that a slow hash would make slower.
type APIKeys struct {
	name   string
	from   Places
	hashes [][sha256.Size]byte
	ids    []*Identity // of the hash with the same index
}

// NewAPIKey makes a key, and the hash of it that goes into the configuration.
func NewAPIKey() (key, hash string) {
	b := make([]byte, apiKeyBytes)
	_, _ = rand.Read(b) // never fails since Go 1.24
	key = apiKeyPrefix + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b))
	sum := sha256.Sum256([]byte(key))
	return key, apiHashPrefix + hex.EncodeToString(sum[:])
}

// NewAPIKeys makes an authenticator of keys. Its error is an OptionErrors.
func NewAPIKeys(opt APIKeyOptions) (*APIKeys, error) {
	var errs OptionErrors
	a := &APIKeys{name: opt.Name}
	var err error
	if a.from, err = parsePlaces(opt.From); err != nil {
		errs.adopt("from", err)
	}
	if len(opt.Keys) == 0 {
		errs.add("keys", "at least one key is needed; `relay key` makes one")
	}
	if len(opt.Keys) > MaxAPIKeys {
		errs.add("keys", "more than %d", MaxAPIKeys)
	}
	for _, name := range slices.Sorted(maps.Keys(opt.Keys)) {
		key := opt.Keys[name]
		if err := checkHolder(name); err != nil {
			errs.adopt("keys."+name, err)
		}
		hash, err := parseHash(key.Hash)
		if err != nil {
			errs.adopt("keys."+name+".hash", err)
			continue
		}
		if i := slices.Index(a.hashes, hash); i >= 0 {
			errs.add("keys."+name+".hash", "the same key as that of %q", a.ids[i].ID)
		}
		a.hashes = append(a.hashes, hash)
		a.ids = append(a.ids, &Identity{ID: ServicePrefix + name, Name: name, Roles: slices.Clone(key.Roles), Auth: opt.Name})
	}
	if err := errs.err(); err != nil {
		return nil, err
	}
	return a, nil
}

// checkHolder holds for the name of a key's holder, which becomes its id.
func checkHolder(name string) error {
	if name == "" {
		return errors.New("a key needs a name")
	}
	if err := checkID(ServicePrefix + name); err != nil {
		return fmt.Errorf("the name makes %q the user.id: %w", ServicePrefix+name, err)
	}
	return nil
}

// parseHash reads what NewAPIKey returned. Its errors never repeat the value,
// which may be the key itself, put there by mistake.
func parseHash(s string) (sum [sha256.Size]byte, err error) {
	digits, ok := strings.CutPrefix(s, apiHashPrefix)
	switch {
	case strings.HasPrefix(s, apiKeyPrefix):
		return sum, errors.New("this is a key, not the hash of one; `relay key` prints both")
	case !ok:
		return sum, fmt.Errorf("does not start with %q", apiHashPrefix)
	case len(digits) != hex.EncodedLen(len(sum)):
		return sum, fmt.Errorf("want %d hex digits after %q", hex.EncodedLen(len(sum)), apiHashPrefix)
	}
	if _, err := hex.Decode(sum[:], []byte(digits)); err != nil {
		return sum, fmt.Errorf("want %d hex digits after %q", hex.EncodedLen(len(sum)), apiHashPrefix)
	}
	return sum, nil
}

// Authenticate takes what starts like a key for a key, and leaves everything else
// to the endpoint's other authenticators.
func (a *APIKeys) Authenticate(ctx context.Context, c Credentials) (*Identity, error) {
	if err := ctx.Err(); err != nil {
		return nil, ended(err)
	}
	key, ok := a.from.find(c)
	if !ok || !isAPIKey(key) {
		return nil, ErrNoCredential
	}
	if len(key) != apiKeyLen {
		return nil, invalid("an API key of the wrong length")
	}
	sum := sha256.Sum256([]byte(key))
	found := -1
	for i := range a.hashes { // all of them: the time taken tells nothing
		found = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(sum[:], a.hashes[i][:]), i, found)
	}
	if found < 0 {
		return nil, invalid("an API key that %s does not know", a.name)
	}
	return a.ids[found], nil
}

func isAPIKey(credential string) bool { return strings.HasPrefix(credential, apiKeyPrefix) }

// Places lists where keys are looked for.
func (a *APIKeys) Places() Places { return slices.Clone(a.from) }

// Close does nothing.
func (*APIKeys) Close() error { return nil }
