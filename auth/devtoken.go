package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// DevUser is whom a development token is for.
type DevUser struct {
	ID     string // required
	Name   string
	Roles  []string
	Claims map[string]any // any others, by name; those above and the registered ones win
	For    time.Duration  // how long the token holds; 0: an hour
}

// DevToken signs a token that NewJWT(opt) accepts, as `relay token` does to stand in
// for an issuer while developing. It works where opt.Secret is set: whoever checks
// tokens with a shared secret can make them too.
func DevToken(opt JWTOptions, user DevUser) (string, error) {
	j, err := NewJWT(opt)
	if err != nil {
		return "", err
	}
	defer func() { _ = j.Close() }() // closes nothing for a secret
	if opt.Secret == "" {
		return "", errors.New("minting a token: its issuer signs with a private key, which relay does not have; this works with a shared secret")
	}
	if user.For == 0 {
		user.For = time.Hour
	}
	claims, err := j.user.claims(user)
	if err != nil {
		return "", fmt.Errorf("minting a token: %w", err)
	}
	now := j.now()
	claims["iss"], claims["iat"], claims["exp"] = opt.Issuer, now.Unix(), now.Add(user.For).Unix()
	if aud := opt.Audience[0]; aud != AnyAudience {
		claims["aud"] = aud
	}
	token, err := jwt.NewWithClaims(jwt.GetSigningMethod(j.algs[0]), jwt.MapClaims(claims)).SignedString([]byte(opt.Secret))
	if err != nil {
		return "", fmt.Errorf("minting a token: %w", err)
	}
	j.from = Places{{Source: Header}}
	if _, err := j.Authenticate(context.Background(), Credentials{Bearer: map[Source]string{Header: token}}); err != nil {
		return "", fmt.Errorf("minting a token: it would be refused: %w", err)
	}
	return token, nil
}

// claims puts the user where the pointers look for it.
func (p userPointers) claims(user DevUser) (map[string]any, error) {
	if err := checkVouchedID(user.ID); err != nil {
		return nil, fmt.Errorf("user id: %w", err)
	}
	doc := make(map[string]any)
	text, err := json.Marshal(user.Claims) // a copy: the pointers may lead deep into it
	if err == nil {
		err = json.Unmarshal(text, &doc)
	}
	if err != nil {
		return nil, fmt.Errorf("claims: %w", err)
	}
	if doc == nil { // of null
		doc = make(map[string]any)
	}
	if err := p.id.set(doc, user.ID); err != nil {
		return nil, err
	}
	if user.Name != "" {
		if err := p.name.set(doc, user.Name); err != nil {
			return nil, err
		}
	}
	if len(user.Roles) == 0 {
		return doc, nil
	}
	if p.roles == nil {
		return nil, errors.New("roles: the configuration takes none from tokens; set user.roles to where they are")
	}
	return doc, p.roles.set(doc, user.Roles)
}
