package redisbus

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Report is what Inspect found out about a Redis.
type Report struct {
	Version        string
	Mode           string // standalone, sentinel or cluster, as Redis calls it
	EvictionPolicy string // empty where CONFIG is not allowed
	RoundTrip      time.Duration
	ClockOffset    time.Duration // of Redis, against this machine
}

// Major is the first number of the version, 0 if there is none.
func (r *Report) Major() int {
	first, _, _ := strings.Cut(r.Version, ".")
	n, _ := strconv.Atoi(first)
	return n
}

// Inspect connects with the options of a Bus and looks around. It changes
// nothing. An error says what was tried.
func Inspect(ctx context.Context, o Options) (*Report, error) {
	o = o.withDefaults()
	u, err := o.resolve()
	if err != nil {
		return nil, err
	}
	client := redis.NewUniversalClient(u)
	defer func() { _ = client.Close() }() // nothing was written
	start := time.Now()
	now, err := client.Time(ctx).Result()
	if err != nil {
		return nil, fmt.Errorf("asking %s for the time: %w", o.where(u), err)
	}
	trip := time.Since(start)
	r := &Report{RoundTrip: trip, ClockOffset: now.Sub(start.Add(trip / 2))}
	info, err := client.Info(ctx, "server").Result()
	if err != nil {
		return nil, fmt.Errorf("asking %s for INFO: %w", o.where(u), err)
	}
	for line := range strings.Lines(info) {
		switch k, v, _ := strings.Cut(strings.TrimSpace(line), ":"); k {
		case "redis_version":
			r.Version = v
		case "redis_mode":
			r.Mode = v
		}
	}
	// Managed services often do not allow CONFIG: not knowing is no error.
	if policy, err := client.ConfigGet(ctx, "maxmemory-policy").Result(); err == nil {
		r.EvictionPolicy = policy["maxmemory-policy"]
	}
	return r, nil
}
