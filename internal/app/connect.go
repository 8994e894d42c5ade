package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/wsrelay/relay/config"
	"github.com/wsrelay/relay/internal/bus"
	"github.com/wsrelay/relay/internal/bus/redisbus"
)

// ErrAlone: instances without Redis cannot be reached from outside.
var ErrAlone = errors.New("no redis is configured: rooms and sanctions live in the memory of the running relay alone, and end with it")

// Connect joins the instances of a configuration without being one that serves:
// for commands that act on all of them. The caller closes the bus.
func Connect(ctx context.Context, cfg *config.Config, log *slog.Logger) (bus.Bus, error) {
	if cfg.Redis == nil {
		return nil, ErrAlone
	}
	opt, err := RedisOptions(cfg.Redis)
	if err != nil {
		return nil, err
	}
	opt.Instance, opt.Logger = "command", log
	b, err := redisbus.New(opt)
	if err != nil {
		return nil, err
	}
	if err := b.Start(ctx, deaf{}); err != nil {
		if cerr := b.Close(ctx); cerr != nil {
			err = fmt.Errorf("%w (and %w)", err, cerr)
		}
		return nil, err
	}
	return b, nil
}

// deaf is told everything and does nothing.
type deaf struct{ bus.AtOnce }

func (deaf) Deliver(*bus.Event)       {}
func (deaf) Sanctioned(*bus.Sanction) {}
func (deaf) Lifted(*bus.Sanction)     {}
