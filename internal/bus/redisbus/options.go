package redisbus

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Options say which Redis to use and how. One of URL, Sentinel and Cluster
// names it.
type Options struct {
	// URL of a single server: redis://[user[:password]@]host[:port][/db], or
	// rediss:// for TLS, or unix:///path?db=1. User, Password, DB and TLS below
	// win over what it says.
	URL      string
	Sentinel *Sentinel
	Cluster  []string // host:port of some masters; needs Redis 7 for sharded pub/sub

	// The user needs, of Redis's access control, keys ~prefix:* and channels
	// &prefix:*, +@connection +@pubsub +@scripting +@read +@write +@transaction
	// +time and +info.
	User     string
	Password string
	TLS      *tls.Config // nil: no TLS, unless the URL says rediss
	DB       int         // not on a cluster

	// Prefix begins every key and channel; default "relay". Deployments with
	// different prefixes may share a Redis. It must not hold braces.
	Prefix string
	// Instance names this instance in its lease, for people to read. What tells
	// instances apart is drawn at random at each start.
	Instance string
	Logger   *slog.Logger // default: discards

	// MaxQueued bounds the bytes of messages that wait for Redis (in each
	// partition's queue on a cluster, 1/64 of it but at least 1 MiB); above it
	// Publish refuses. Default 64 MiB.
	MaxQueued int
	// MaxSanctions bounds the sanctions in force, over all instances, which should
	// agree; default 100,000. More are refused with bus.ErrTooManySanctions.
	MaxSanctions int
	// MaxHeld bounds the bytes of events held back in one room while a gap
	// before them is read back; above it the held ones are read back as well.
	// Default 1 MiB.
	MaxHeld int

	Timings Timings
}

// String names the server and nothing else: options hold secrets.
func (o Options) String() string {
	u, err := o.resolve()
	if err != nil {
		return "redis options"
	}
	return "redis options for " + o.where(u)
}

// GoString is String.
func (o Options) GoString() string { return o.String() }

// Sentinel names a set of sentinels and the primary they watch.
type Sentinel struct {
	Master         string
	Addrs          []string
	User, Password string // of the sentinels themselves
}

// Timings may be shortened in tests. Zero fields take the default.
type Timings struct {
	Lease   time.Duration // 10 s: how long an instance is believed alive without a word
	Probe   time.Duration // 1 s: between two probes of each path
	Silence time.Duration // 5 s: after which a path that heard no probe is given up
	Linger  time.Duration // 5 s: how long a subscription outlives its last user
	Compare time.Duration // 30 s: how often each occupied room's position is compared, and the sanctions
	Sweep   time.Duration // 1 s: how often ended graces are looked for
	GiveUp  time.Duration // 10 s: after which a message without an answer is of unknown outcome
	Dial    time.Duration // 2 s: connecting, and each step of the handshake
	Reply   time.Duration // 2 s: the answer to a command
}

func or[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

func (t *Timings) defaults() {
	or(&t.Lease, 10*time.Second)
	or(&t.Probe, time.Second)
	or(&t.Silence, 5*time.Second)
	or(&t.Linger, 5*time.Second)
	or(&t.Compare, 30*time.Second)
	or(&t.Sweep, time.Second)
	or(&t.GiveUp, 10*time.Second)
	or(&t.Dial, 2*time.Second)
	or(&t.Reply, 2*time.Second)
}

func (o Options) withDefaults() Options {
	or(&o.Prefix, "relay")
	or(&o.MaxQueued, 64<<20)
	or(&o.MaxHeld, 1<<20)
	or(&o.MaxSanctions, 100_000)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Timings.defaults()
	return o
}

// resolve checks the options and puts them into the library's words.
func (o *Options) resolve() (*redis.UniversalOptions, error) {
	named := 0
	for _, is := range []bool{o.URL != "", o.Sentinel != nil, len(o.Cluster) > 0} {
		if is {
			named++
		}
	}
	if named != 1 {
		return nil, errors.New("name exactly one of a URL, a sentinel set or a cluster")
	}
	if strings.ContainsAny(o.Prefix, "{}") {
		return nil, fmt.Errorf("prefix %q: braces are not allowed, they would change where keys live on a cluster", o.Prefix)
	}
	u := &redis.UniversalOptions{
		Username: o.User, Password: o.Password, TLSConfig: o.TLS, DB: o.DB, ClientName: "relay",
		// The pushes of RESP3 are not used, and looking for them costs.
		Protocol: 2, DisableIdentity: true, MaxRetries: -1, DialerRetries: 1,
		DialTimeout: o.Timings.Dial, ReadTimeout: o.Timings.Reply, WriteTimeout: o.Timings.Reply,
		PoolTimeout: o.Timings.Reply, ContextTimeoutEnabled: true, PoolSize: 24,
	}
	switch {
	case o.Sentinel != nil:
		if o.Sentinel.Master == "" || len(o.Sentinel.Addrs) == 0 {
			return nil, errors.New("sentinel: the master's name and at least one address are needed")
		}
		u.MasterName, u.Addrs = o.Sentinel.Master, o.Sentinel.Addrs
		u.SentinelUsername, u.SentinelPassword = o.Sentinel.User, o.Sentinel.Password
	case len(o.Cluster) > 0:
		if o.DB != 0 {
			return nil, fmt.Errorf("db %d: a cluster has only database 0", o.DB)
		}
		u.Addrs, u.IsClusterMode = o.Cluster, true
		u.PoolSize += partitions + 1 // each has a publisher's connection, at worst all at one node
	default:
		if err := o.parseURL(u); err != nil {
			return nil, err
		}
	}
	u.Dialer = dialer(o.Timings.Dial, u.TLSConfig)
	return u, nil
}

// dialer makes all connections, those that the library keeps and ours (link).
func dialer(within time.Duration, secure *tls.Config) func(ctx context.Context, network, addr string) (net.Conn, error) {
	d := &net.Dialer{Timeout: within, KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 5 * time.Second, Count: 3}}
	return func(ctx context.Context, network, addr string) (c net.Conn, err error) {
		if secure != nil {
			c, err = (&tls.Dialer{NetDialer: d, Config: secure}).DialContext(ctx, network, addr)
		} else if c, err = d.DialContext(ctx, network, addr); err == nil {
			c = quietly(c)
		}
		return c, err
	}
}

// parseURL never repeats the URL in an error: it may hold a password.
func (o *Options) parseURL(u *redis.UniversalOptions) error {
	parsed, err := url.Parse(o.URL)
	if err != nil {
		return errors.New("url: not a URL; expected redis://[user:password@]host:port/db (a % in a password is written %25, an @ %40)")
	}
	single, err := redis.ParseURL(o.URL)
	if err != nil {
		return fmt.Errorf("url: scheme %q, host %q: expected redis://[user:password@]host:port/db, or rediss:// for TLS", parsed.Scheme, parsed.Host)
	}
	u.Addrs = []string{single.Addr}
	or(&u.Username, single.Username)
	or(&u.Password, single.Password)
	or(&u.DB, single.DB)
	if u.TLSConfig == nil {
		u.TLSConfig = single.TLSConfig
	} else if parsed.Scheme == "rediss" && u.TLSConfig.ServerName == "" {
		c := u.TLSConfig.Clone()
		c.ServerName = single.TLSConfig.ServerName
		u.TLSConfig = c
	}
	return nil
}

// where describes the server in logs and errors, without credentials.
func (o *Options) where(u *redis.UniversalOptions) string {
	switch {
	case o.Sentinel != nil:
		return fmt.Sprintf("primary %q of the sentinels at %s", o.Sentinel.Master, strings.Join(u.Addrs, ", "))
	case len(o.Cluster) > 0:
		return "cluster at " + strings.Join(u.Addrs, ", ")
	}
	return u.Addrs[0]
}
