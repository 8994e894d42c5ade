package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"

	"github.com/wsrelay/relay/auth"
	"github.com/wsrelay/relay/config"
	"github.com/wsrelay/relay/internal/gateway"
	"github.com/wsrelay/relay/internal/gateway/door"
	"github.com/wsrelay/relay/internal/gateway/socket"
	"github.com/wsrelay/relay/internal/room/policy"
	"github.com/wsrelay/relay/plugins"
	"github.com/wsrelay/relay/telemetry"
)

// compiled is the part of a configuration that a reload replaces.
type compiled struct {
	policies  *policy.Set
	filters   []plugins.Options
	auths     map[string]auth.Authenticator
	endpoints []*gateway.Endpoint
	byPath    map[string]*gateway.Endpoint
}

func (c *compiled) close() error {
	var errs []error
	for _, a := range c.auths {
		errs = append(errs, a.Close())
	}
	return errors.Join(errs...)
}

// Check reports every problem that New and Start would find in the
// configuration, without keeping anything. Plugins are started to ask them about
// theirs, and ended again.
func Check(ctx context.Context, cfg *config.Config, src *config.Source) error {
	log := slog.New(slog.DiscardHandler)
	c, err := compile(cfg, src, log, nil)
	if err != nil {
		return err
	}
	host := plugins.New(plugins.HostOptions{Log: log, Instance: "check"})
	err = host.Check(ctx, c.filters)
	if err != nil {
		err = filterProblems(src, err)
	}
	return errors.Join(err, host.Close(ctx), c.close())
}

// compile makes the parts that a reload replaces. Doors of endpoints that old
// has too are not made anew, so that who is in stays counted; they are updated
// when the parts are put in force.
func compile(cfg *config.Config, src *config.Source, log *slog.Logger, old *compiled) (*compiled, error) {
	p := &problems{src: src}
	c := &compiled{byPath: make(map[string]*gateway.Endpoint)}
	c.auths = authenticators(cfg, p, log)
	c.policies = policies(cfg, p)
	c.filters = filterOptions(cfg, p)
	for i, e := range cfg.Endpoints {
		ep := endpoint(cfg, i, e, c.auths, p)
		if old != nil && old.byPath[e.Path] != nil {
			ep.Door, ep.Trace = old.byPath[e.Path].Door, old.byPath[e.Path].Trace
		} else {
			ep.Door, ep.Trace = door.New(doorOptions(cfg, i, e)), telemetry.NewEntrance(entrance(cfg, e))
		}
		c.endpoints = append(c.endpoints, ep)
		c.byPath[e.Path] = ep
	}
	if err := p.err(); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

// Policies compiles the room policies alone, for `relay check --as`.
func Policies(cfg *config.Config, src *config.Source) (*policy.Set, error) {
	p := &problems{src: src}
	set := policies(cfg, p)
	return set, p.err()
}

func policies(cfg *config.Config, p *problems) *policy.Set {
	specs := make([]policy.Spec, len(cfg.Rooms))
	for i, r := range cfg.Rooms {
		specs[i] = policy.Spec{
			Match: r.Match, Create: r.Create, Join: r.Join, Publish: r.Publish, Moderate: r.Moderate,
			Settings: policy.Settings{
				MembersMax: r.Members.Max, Presence: r.Members.Presence, Announce: r.Members.Announce, Grace: r.Members.Grace.Std(),
				MaxMessage: r.Messages.MaxSize.Bytes(), Rate: r.Messages.Rate.PerSecond(), Burst: r.Messages.Burst, Echo: r.Messages.Echo, Text: textOf(r.Messages),
				Idle: r.Idle.Std(),
			},
		}
		if h := r.History; h != nil {
			specs[i].History = &policy.History{Keep: h.Keep, For: h.For.Std()}
		}
	}
	paths := make([]string, len(cfg.Endpoints))
	for i, e := range cfg.Endpoints {
		paths[i] = e.Path
	}
	set, bad := policy.Compile(specs, paths...)
	for _, b := range bad {
		p.add(fmt.Sprintf("rooms[%d].%s", b.Index, b.Field), "%s", b.Message)
	}
	return set
}

func authenticators(cfg *config.Config, p *problems, log *slog.Logger) map[string]auth.Authenticator {
	vouched := false
	for _, a := range cfg.Auth {
		vouched = vouched || a.Type != config.AuthAnonymous
	}
	made := make(map[string]auth.Authenticator, len(cfg.Auth))
	for name, a := range cfg.Auth {
		made[name] = auth.NewAnonymous(auth.AnonymousOptions{Name: name, Prefix: vouched})
		var err error
		switch a.Type {
		case config.AuthJWT:
			var j *auth.JWT
			if j, err = auth.NewJWT(JWTOptions(name, a, log)); err == nil {
				made[name] = j
			}
		case config.AuthAPIKey:
			keys := make(map[string]auth.APIKey, len(a.Keys))
			for holder, k := range a.Keys {
				keys[holder] = auth.APIKey{Hash: k.Hash.Reveal(), Roles: k.Roles}
			}
			var k *auth.APIKeys
			if k, err = auth.NewAPIKeys(auth.APIKeyOptions{Name: name, Keys: keys, From: a.From}); err == nil {
				made[name] = k
			}
		}
		p.options("auth."+name, err)
	}
	return made
}

// JWTOptions are what a jwt authenticator of relay.yaml becomes.
func JWTOptions(name string, a config.Auth, log *slog.Logger) auth.JWTOptions {
	return auth.JWTOptions{
		Name: name, Issuer: a.Issuer, Audience: a.Audience, Algorithms: a.Algorithms, JWKS: a.JWKS,
		Secret: auth.Secret(a.Secret.Reveal()), PublicKey: a.PublicKey, From: a.From,
		User: auth.UserClaims{ID: a.User.ID, Name: a.User.Name, Data: a.User.Data, Roles: a.User.Roles},
		Log:  log,
	}
}

func endpoint(cfg *config.Config, i int, e config.Endpoint, auths map[string]auth.Authenticator, p *problems) *gateway.Endpoint {
	var chain []auth.Authenticator
	for _, name := range e.Auth {
		if a := auths[name]; a != nil {
			chain = append(chain, a)
		}
	}
	rooms, bad := policy.CompileList(e.Rooms)
	for k, err := range bad {
		if err != nil {
			p.add(fmt.Sprintf("endpoints[%d].rooms[%d]", i, k), "%v", err)
		}
	}
	slow := socket.Disconnect
	if e.Queue.Slow == config.SlowShed {
		slow = socket.Shed
	}
	return &gateway.Endpoint{
		Path: e.Path, Auth: auth.NewChain(chain...), Rooms: rooms,
		RoomsPerConnection: e.Limits.RoomsPerConnection, Requests: e.Limits.Requests.PerSecond(),
		Socket: socket.Options{
			MaxMessage: e.Limits.FrameSize.Bytes(), MaxQueue: int(e.Queue.MaxBytes.Bytes()), Slow: slow, Compression: e.Compression,
			PingEvery: e.Heartbeat.Every.Std(), PongTimeout: e.Heartbeat.Timeout.Std(),
		},
	}
}

func doorOptions(cfg *config.Config, i int, e config.Endpoint) door.Options {
	opt := door.Options{
		Rule: fmt.Sprintf("endpoints[%d]", i), Hosts: cfg.Hosts, LoopbackOnly: loopback(cfg.Listen), Origins: e.Origins,
		Connections: e.Limits.Connections, PerIP: e.Limits.PerIP, Connects: e.Limits.Connects.PerSecond(),
	}
	for _, cidr := range cfg.TrustedProxies {
		if prefix, err := netip.ParsePrefix(cidr); err == nil { // config has checked them
			opt.TrustedProxies = append(opt.TrustedProxies, prefix)
		}
	}
	for _, name := range e.Auth {
		for _, from := range cfg.Auth[name].From {
			if place, err := auth.ParsePlace(from); err == nil && place.Source == auth.Cookie {
				opt.CookieAuth = true
			}
		}
	}
	return opt
}

func loopback(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// problems collects what is wrong with a configuration beyond its syntax, at
// the lines it stands on.
type problems struct {
	src  *config.Source
	list []config.Problem
}

func (p *problems) add(path, format string, args ...any) {
	p.list = append(p.list, p.src.Problem(path, fmt.Sprintf(format, args...)))
}

// options adds what a constructor says of its options, field by field.
func (p *problems) options(path string, err error) {
	var several auth.OptionErrors
	var one *auth.OptionError
	switch {
	case err == nil:
	case errors.As(err, &several):
		for _, e := range several {
			p.add(path+"."+e.Field, "%v", e.Err)
		}
	case errors.As(err, &one):
		p.add(path+"."+one.Field, "%v", one.Err)
	default:
		p.add(path, "%v", err)
	}
}

func (p *problems) err() error {
	if len(p.list) == 0 {
		return nil
	}
	return config.NewErrors(p.list)
}

// problem is a single error at a path of the configuration.
func problem(src *config.Source, path string, err error) error {
	p := &problems{src: src}
	p.add(path, "%v", err)
	return p.err()
}
