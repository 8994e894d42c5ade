package redisbus

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// The library has one logger for the whole process, which writes to standard
// error in a format of its own, and tells of things that this package notices
// and tells itself, with words about what they mean for relay.
func init() { redis.SetLogger(silent{}) }

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}
