package app

import (
	"context"
	"errors"
	"reflect"

	"github.com/wsrelay/relay/config"
)

// Reload puts another configuration in force without dropping a socket. All
// that can fail is done first: after an error the old one is in force as if
// nothing had happened. It returns the keys whose change needs a restart and so
// was not carried out.
func (a *App) Reload(ctx context.Context, cfg *config.Config, src *config.Source) (ignored []string, err error) {
	ignored, err = a.reload(ctx, cfg, src)
	if err != nil {
		a.RefusedReload()
		return ignored, err
	}
	a.telemetry.Metrics.Config(configHash(cfg), true)
	return ignored, nil
}

// RefusedReload counts a configuration that was so bad that it never came to
// Reload.
func (a *App) RefusedReload() { a.telemetry.Metrics.Config("", false) }

func (a *App) reload(ctx context.Context, cfg *config.Config, src *config.Source) (ignored []string, err error) {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	if a.stopping.Load() {
		return nil, errors.New("reloading: shutting down")
	}
	parts, err := compile(cfg, src, a.log, a.running)
	if err != nil {
		return nil, err
	}
	set, list, err := a.prepareFilters(ctx, cfg, src, parts)
	if err != nil {
		return nil, errors.Join(err, parts.close())
	}
	ignored = fixed(a.cfg, cfg)
	for i, e := range cfg.Endpoints {
		if ep := parts.byPath[e.Path]; ep != nil {
			opt := doorOptions(cfg, i, e)
			opt.LoopbackOnly = loopback(a.cfg.Listen)
			ep.Door.Update(opt)
			ep.Trace.Update(entrance(cfg, e))
		}
	}
	old := a.running
	a.running = parts
	a.live.Store(parts)
	a.gateway.Load().Update(parts.endpoints)
	a.rooms.Reload(ctx, a.rules(cfg, parts, list))
	a.filters.Commit(set) // after the rooms have let go of the old ones
	if t := cfg.Telemetry.Traces; t != nil {
		if err := a.telemetry.Traces.Tune(tuning(t)); err != nil {
			a.log.Warn("traces stay as they were", "error", err) // config has checked it
		}
	}
	if err := a.opt.Log.SetLevel(cfg.Telemetry.Log.Level); err != nil {
		a.log.Warn("log level stays", "error", err)
	}
	// What cannot change keeps describing what runs.
	next := *cfg
	next.Listen, next.TLS, next.Admin, next.Redis = a.cfg.Listen, a.cfg.TLS, a.cfg.Admin, a.cfg.Redis
	next.Telemetry.Service, next.Telemetry.Metrics = a.cfg.Telemetry.Service, a.cfg.Telemetry.Metrics
	next.Telemetry.Log.Format = a.cfg.Telemetry.Log.Format
	next.Telemetry.Traces = sameWay(a.cfg.Telemetry.Traces, cfg.Telemetry.Traces)
	a.cfg = &next
	return ignored, old.close()
}

// fixed lists what differs and cannot change in a running instance.
func fixed(old, fresh *config.Config) (keys []string) {
	for _, k := range []struct {
		name string
		same bool
	}{
		{"listen", old.Listen == fresh.Listen},
		{"tls", reflect.DeepEqual(old.TLS, fresh.TLS)},
		{"admin", old.Admin == fresh.Admin},
		{"redis", reflect.DeepEqual(old.Redis, fresh.Redis)},
		{"telemetry.service", old.Telemetry.Service == fresh.Telemetry.Service},
		{"telemetry.traces (where to)", reflect.DeepEqual(whereTo(old.Telemetry.Traces), whereTo(fresh.Telemetry.Traces))},
		{"telemetry.metrics", old.Telemetry.Metrics == fresh.Telemetry.Metrics},
		{"telemetry.log.format", old.Telemetry.Log.Format == fresh.Telemetry.Log.Format},
	} {
		if !k.same {
			keys = append(keys, k.name)
		}
	}
	return keys
}

// sameWay is fresh with what cannot change as it was.
func sameWay(old, fresh *config.Traces) *config.Traces {
	if old == nil || fresh == nil {
		return old
	}
	t := *fresh
	t.OTLP, t.Protocol, t.Headers, t.CA = old.OTLP, old.Protocol, old.Headers, old.CA
	return &t
}

// whereTo is the part of traces that cannot change in a running instance.
func whereTo(t *config.Traces) any {
	if t == nil {
		return nil
	}
	return [...]any{t.OTLP, t.Protocol, reveal(t.Headers), t.CA}
}
