package cli

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/wsrelay/relay/auth"
	"github.com/wsrelay/relay/config"
	"github.com/wsrelay/relay/internal/app"
)

// tokenRequest is a development token to be made.
type tokenRequest struct {
	auth, user, name string
	roles            []string
	claims           map[string]any
	ttl              time.Duration
}

func (t *tokenRequest) sign(cfg *config.Config) (string, error) {
	name, err := t.authenticator(cfg)
	if err != nil {
		return "", err
	}
	return auth.DevToken(app.JWTOptions(name, cfg.Auth[name], slog.New(slog.DiscardHandler)), auth.DevUser{
		ID: t.user, Name: t.name, Roles: t.roles, Claims: t.claims, For: t.ttl,
	})
}

// authenticator finds the one to make a token for.
func (t *tokenRequest) authenticator(cfg *config.Config) (string, error) {
	var with []string
	for _, name := range slices.Sorted(maps.Keys(cfg.Auth)) {
		if !cfg.Auth[name].Secret.IsZero() {
			with = append(with, name)
		}
	}
	switch {
	case t.auth != "" && slices.Contains(with, t.auth):
		return t.auth, nil
	case t.auth != "":
		return "", fmt.Errorf("auth.%s has no secret to sign with; those that do: %s", t.auth, strings.Join(with, ", "))
	case len(with) == 1:
		return with[0], nil
	case len(with) == 0:
		return "", errors.New("no authenticator has a shared secret to sign with; add one for development, such as\n  dev: {type: jwt, issuer: dev, audience: relay, secret: \"${DEV_SECRET}\"}")
	default:
		return "", fmt.Errorf("several authenticators have a secret; say which with --auth: %s", strings.Join(with, ", "))
	}
}
