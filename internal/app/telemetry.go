package app

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/wsrelay/relay/config"
	"github.com/wsrelay/relay/internal/bus/redisbus"
	"github.com/wsrelay/relay/internal/gateway/door"
	"github.com/wsrelay/relay/internal/gateway/socket"
	"github.com/wsrelay/relay/internal/room"
	"github.com/wsrelay/relay/internal/wire"
	"github.com/wsrelay/relay/telemetry"
)

// newTelemetry makes what the configuration asks for.
func newTelemetry(cfg *config.Config, opt Options, instance string, log *slog.Logger) (*telemetry.Telemetry, error) {
	o := telemetry.Options{Service: cfg.Telemetry.Service, Instance: instance, Version: opt.Version, Log: log}
	if t := cfg.Telemetry.Traces; t != nil {
		ca, err := authorities(t.CA)
		if err != nil {
			return nil, err
		}
		o.Traces = &telemetry.TracesOptions{
			OTLP:   telemetry.OTLP{Endpoint: t.OTLP, Protocol: telemetry.Protocol(t.Protocol), Headers: reveal(t.Headers), TLS: ca},
			Tuning: tuning(t),
		}
	}
	if m := cfg.Telemetry.Metrics; m.OTLP != "" {
		o.Metrics.OTLP = &telemetry.OTLP{Endpoint: m.OTLP, Protocol: telemetry.Protocol(m.Protocol)}
		if t := cfg.Telemetry.Traces; t != nil && m.Protocol == "" {
			o.Metrics.OTLP.Protocol = telemetry.Protocol(t.Protocol)
		}
	}
	return telemetry.New(o)
}

func tuning(t *config.Traces) telemetry.Tuning {
	return telemetry.Tuning{Promote: t.Promote.PerSecond(), Slow: t.Slow.Std(), Identify: telemetry.Identify(t.Identify), UI: t.UI}
}

// authorities reads the PEM file that a collector's certificate is checked
// against; nil without one: the system's.
func authorities(file string) (*tls.Config, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("ca: %w", err)
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: x509.NewCertPool()}
	if !c.RootCAs.AppendCertsFromPEM(pem) {
		return nil, errors.New("ca: no certificate in " + file)
	}
	return c, nil
}

// sampler is a share of the configuration; not given, it has no say.
func sampler(p config.Percent) telemetry.Sampler {
	share, given := p.Share()
	if !given {
		return 0
	}
	return telemetry.Share(share)
}

// entrance is an endpoint as tracing sees it.
func entrance(cfg *config.Config, e config.Endpoint) telemetry.EntranceOptions {
	o := telemetry.EntranceOptions{Sample: sampler(e.Trace.Sample)}
	if t := cfg.Telemetry.Traces; t != nil && o.Sample == 0 {
		if o.Sample = sampler(t.Sample); o.Sample == 0 {
			o.Sample = telemetry.DefaultShare()
		}
	}
	o.Client, _ = telemetry.ParseClientMode(e.Trace.Client) // config has checked the word
	return o
}

// rules are what rooms get of a configuration.
func (a *App) rules(cfg *config.Config, parts *compiled, filters []room.Filters) room.Rules {
	r := room.Rules{Policies: parts.policies, Filters: filters}
	for _, c := range cfg.Rooms {
		r.Samples = append(r.Samples, sampler(c.Trace.Sample))
		r.Meters = append(r.Meters, room.NewMeters(a.telemetry.Metrics, c.Match))
	}
	return r
}

// debugKey checks debug tokens; without admin.key no token is good.
func debugKey(cfg *config.Config) (telemetry.DebugKey, error) {
	if cfg.Admin.Key.IsZero() {
		return telemetry.DebugKey{}, nil
	}
	return telemetry.NewDebugKey(cfg.Admin.Key.Reveal())
}

// configHash tells configurations apart, without their secrets.
func configHash(cfg *config.Config) string {
	b, err := json.Marshal(cfg)
	if err != nil {
		return "unknown" // plain data always has a JSON form
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}

// bindMetrics lets the parts' counters be read. It is called once, when all of
// them are there.
func (a *App) bindMetrics() {
	m := a.telemetry.Metrics
	rs, ss := a.rooms.Stats(), a.sockets.Stats()
	m.Func(telemetry.Rooms, rs.Rooms.Load)
	m.Func(telemetry.Members, rs.Seats.Load)
	m.Func(telemetry.Refusals, rs.Refused.Load)
	m.Func(telemetry.JoinOverflows, rs.JoinOverflow.Load)
	m.Func(telemetry.Flags, rs.Flagged.Load)
	m.Func(telemetry.AuditsLost, rs.AsideDropped.Load)
	m.Func(telemetry.Deliveries, rs.Delivered.Load, "queued")
	m.Func(telemetry.BusReceived, rs.Received.Load, busSystem(a.cfg))
	m.Func(telemetry.BusUp, func() int64 { return one(a.bus.Health() == nil) })
	m.Each(telemetry.Audits, func(tell func(int64, ...string)) {
		rs.Audits(func(action string, n int64) { tell(n, action) })
	})
	m.Func(telemetry.PolicyErrors, func() int64 {
		f := a.live.Load().policies.Failures()
		return f.Missing.Load() + f.Cost.Load() + f.Other.Load()
	})
	bindSockets(m, ss)
	a.bindDoors(m)
	a.bindFilters(m)
	if b, ok := a.bus.(*redisbus.Bus); ok {
		bindRedis(m, b.Stats())
	}
}

func one(yes bool) int64 {
	if yes {
		return 1
	}
	return 0
}

func bindSockets(m *telemetry.Metrics, s *socket.Stats) {
	m.Func(telemetry.QueueBytes, s.QueuedBytes.Load)
	m.Func(telemetry.BytesIn, s.BytesIn.Load)
	m.Func(telemetry.BytesOut, s.BytesOut.Load)
	m.Func(telemetry.SocketWrites, s.Writes.Load)
	m.Func(telemetry.FramesShed, s.ShedSignals.Load, "signal")
	m.Func(telemetry.FramesShed, s.ShedMembers.Load, "member")
	m.Func(telemetry.FramesShed, s.ShedChats.Load, "chat")
	m.Func(telemetry.SlowConsumers, s.SlowCut.Load)
	m.Func(telemetry.Deliveries, s.ShedChats.Load, "shed")
	m.Func(telemetry.Deliveries, s.CutChats.Load, "cut")
	m.Each(telemetry.ConnectionsClosed, func(tell func(int64, ...string)) {
		s.Closed(func(code wire.CloseCode, n int64) { tell(n, code.Label(), code.Meaning()) })
	})
}

// bindDoors counts handshakes by endpoint, those that a reload brings included.
func (a *App) bindDoors(m *telemetry.Metrics) {
	each := func(f func(path string, d *door.Door)) {
		for _, ep := range a.live.Load().endpoints {
			f(ep.Path, ep.Door)
		}
	}
	m.Each(telemetry.Connections, func(tell func(int64, ...string)) {
		each(func(path string, d *door.Door) { tell(int64(d.Open()), path) })
	})
	m.Each(telemetry.ConnectionsOpened, func(tell func(int64, ...string)) {
		each(func(path string, d *door.Door) { tell(d.Stats().Admitted.Load(), path) })
	})
	m.Each(telemetry.ConnectionsRefused, func(tell func(int64, ...string)) {
		each(func(path string, d *door.Door) {
			s := d.Stats()
			tell(s.Host.Load(), path, "host")
			tell(s.Origin.Load(), path, "origin")
			tell(s.Full.Load(), path, "full")
			tell(s.PerIP.Load(), path, "per_ip")
			tell(s.Rate.Load(), path, "rate")
		})
	})
}

func bindRedis(m *telemetry.Metrics, s *redisbus.Stats) {
	m.Func(telemetry.BusRoundTrip, func() int64 { return int64(s.RoundTrip()) })
	m.Func(telemetry.BusSent, s.Published.Load, "redis", "")
	m.Func(telemetry.BusSent, s.Refused.Load, "redis", "unavailable")
	m.Func(telemetry.BusSent, s.Unknown.Load, "redis", "unknown_outcome")
	m.Func(telemetry.BusPipelines, s.Pipelines.Load)
	m.Func(telemetry.BusErrors, s.Errors.Load)
	m.Func(telemetry.BusReconnects, s.Reconnects.Load)
	m.Func(telemetry.BusResent, s.Resent.Load)
	m.Func(telemetry.BusUnknown, s.Unknown.Load)
	m.Func(telemetry.BusHealed, s.Healed.Load)
	m.Func(telemetry.BusLost, s.Lost.Load)
	m.Func(telemetry.BusGaps, s.Gaps.Load)
	m.Func(telemetry.BusEpochs, s.Epochs.Load)
	m.Func(telemetry.BusRepeated, s.Repeated.Load)
	m.Func(telemetry.BusForeign, s.Foreign.Load)
	m.Func(telemetry.BusHeldDropped, s.Dropped.Load)
	m.Func(telemetry.BusSignalsDropped, s.Signals.Load)
	m.Func(telemetry.BusReaped, s.Reaped.Load)
	m.Func(telemetry.BusReborn, s.Reborn.Load)
	m.Func(telemetry.BusMissing, s.Missing.Load)
	m.Func(telemetry.BusLeftovers, s.Leftover.Load)
}

func (a *App) bindFilters(m *telemetry.Metrics) {
	m.Each(telemetry.FilterVerdicts, func(tell func(int64, ...string)) {
		for _, s := range a.filters.Status() {
			for _, r := range s.Results {
				tell(int64(r.Count), s.Filter, r.Mode.String(), r.Result)
			}
		}
	})
	m.Each(telemetry.FilterRestarts, func(tell func(int64, ...string)) {
		for _, s := range a.filters.Status() {
			if !s.Builtin {
				tell(int64(s.Failures), s.Filter)
			}
		}
	})
	m.Each(telemetry.FilterBreaker, func(tell func(int64, ...string)) {
		for _, s := range a.filters.Status() {
			tell(map[string]int64{"half-open": 1, "open": 2}[s.Breaker], s.Filter)
		}
	})
	m.Each(telemetry.FilterUp, func(tell func(int64, ...string)) {
		for _, s := range a.filters.Status() {
			tell(one(s.Builtin || s.PID != 0), s.Filter)
		}
	})
}
