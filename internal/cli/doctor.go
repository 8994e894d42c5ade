package cli

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/wsrelay/relay/config"
	"github.com/wsrelay/relay/internal/app"
)

func doctorCommand(env Env) *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "doctor [FILE]",
		Short: "Look at what a configuration needs around it: Redis, keys, files, ports",
		Long: `Look at what a configuration needs around it, on the machine it will run on:
Redis (reachable, its version, what it does when memory is full, its clock), the
keys of token issuers, the limit of open files, and whether the ports are free.
The exit status is 1 when something would keep relay from working.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			file := defaultFile
			if len(args) == 1 {
				file = args[0]
			}
			cfg, src, err := load(env, file)
			if err != nil {
				return err
			}
			if err := app.Check(cmd.Context(), cfg, src); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			d := &doctor{out: cmd.OutOrStdout()}
			d.say(good, "configuration", "%s is valid", file)
			d.examine(ctx, cfg)
			if d.bad > 0 {
				return quietError{fmt.Errorf("%d problems", d.bad)}
			}
			return nil
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 20*time.Second, "time for all of it")
	return cmd
}

type finding string

const (
	good finding = "ok  "
	odd  finding = "warn"
	bad  finding = "BAD "
)

type doctor struct {
	out io.Writer
	bad int
}

func (d *doctor) say(f finding, what, format string, args ...any) {
	if f == bad {
		d.bad++
	}
	fmt.Fprintf(d.out, "%s  %-14s %s\n", f, what, fmt.Sprintf(format, args...))
}

func (d *doctor) examine(ctx context.Context, cfg *config.Config) {
	d.redis(ctx, cfg.Redis)
	for _, name := range slices.Sorted(maps.Keys(cfg.Auth)) {
		if a := cfg.Auth[name]; a.Type == config.AuthJWT {
			d.issuer(ctx, name, a)
		}
	}
	d.files(cfg)
	d.port("listen", cfg.Listen)
	if cfg.Admin.Listen != "" {
		d.port("admin", cfg.Admin.Listen)
	}
}

func (d *doctor) redis(ctx context.Context, r *config.Redis) {
	if r == nil {
		d.say(odd, "redis", "not configured: one instance, and a restart forgets history")
		return
	}
	rep, err := app.InspectRedis(ctx, r)
	if err != nil {
		d.say(bad, "redis", "%v", err)
		return
	}
	d.say(good, "redis", "reached in %s, version %s, %s", rep.RoundTrip.Round(10*time.Microsecond), rep.Version, rep.Mode)
	if rep.Major() < 7 && rep.Mode == "cluster" {
		d.say(bad, "redis version", "%s: a cluster needs 7 or later for sharded pub/sub", rep.Version)
	}
	switch p := rep.EvictionPolicy; {
	case p == "noeviction":
		d.say(good, "redis memory", "noeviction: when full it refuses, and relay says unavailable")
	case p == "":
		d.say(odd, "redis memory", "the eviction policy cannot be read (CONFIG is not allowed); it should be noeviction")
	default:
		d.say(odd, "redis memory", "maxmemory-policy is %s: when full, Redis throws history away (clients get a notice); noeviction is better", p)
	}
	if off := rep.ClockOffset.Abs(); off > 5*time.Second {
		d.say(odd, "clock", "differs from Redis by %s: message times will look wrong; use NTP", off.Round(time.Second))
	} else {
		d.say(good, "clock", "within %s of Redis", max(off, time.Millisecond).Round(time.Millisecond))
	}
}

func (d *doctor) issuer(ctx context.Context, name string, a config.Auth) {
	what := "auth." + name
	if !a.Secret.IsZero() || a.PublicKey != "" {
		d.say(good, what, "has its key in the configuration")
		return
	}
	if err := app.CheckIssuer(ctx, name, a); err != nil {
		d.say(bad, what, "keys cannot be had: %v", err)
		return
	}
	d.say(good, what, "the keys of %s can be fetched", a.Issuer)
}

// files compares the limit of open files with the sockets that are allowed.
func (d *doctor) files(cfg *config.Config) {
	var lim syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		d.say(odd, "open files", "the limit cannot be read: %v", err)
		return
	}
	need := uint64(200)
	for _, e := range cfg.Endpoints {
		need += uint64(e.Limits.Connections)
	}
	if lim.Max < need {
		d.say(odd, "open files", "the limit is %d, the endpoints allow %d sockets: raise it (ulimit -n, LimitNOFILE) or lower limits.connections", lim.Max, need-200)
		return
	}
	d.say(good, "open files", "%d", lim.Max)
}

func (d *doctor) port(what, addr string) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		d.say(odd, what, "%v (relay may be running there)", err)
		return
	}
	_ = ln.Close() // it was only to see
	d.say(good, what, "%s is free", addr)
}
