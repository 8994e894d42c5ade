package app

import (
	"context"
	"log/slog"

	"github.com/wsrelay/relay/auth"
	"github.com/wsrelay/relay/config"
	"github.com/wsrelay/relay/internal/bus/redisbus"
)

// InspectRedis connects as an instance would and tells what it found.
func InspectRedis(ctx context.Context, r *config.Redis) (*redisbus.Report, error) {
	opt, err := RedisOptions(r)
	if err != nil {
		return nil, err
	}
	return redisbus.Inspect(ctx, opt)
}

// CheckIssuer fetches the keys of a jwt authenticator as an instance would.
func CheckIssuer(ctx context.Context, name string, a config.Auth) error {
	j, err := auth.NewJWT(JWTOptions(name, a, slog.New(slog.DiscardHandler)))
	if err != nil {
		return err
	}
	defer j.Close()
	return j.Check(ctx)
}
