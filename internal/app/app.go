// Package app puts the parts together and gives them a life: New, Start,
// Reload, Stop.
//
// It is the only package that reads the configuration; everything below it
// takes a small Options struct. Several Apps can live in one process.
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wsrelay/relay/config"
	"github.com/wsrelay/relay/internal/bus"
	"github.com/wsrelay/relay/internal/gateway"
	"github.com/wsrelay/relay/internal/gateway/door"
	"github.com/wsrelay/relay/internal/gateway/socket"
	"github.com/wsrelay/relay/internal/room"
	"github.com/wsrelay/relay/plugins"
	"github.com/wsrelay/relay/telemetry"
)

// Options are what an App gets from its surroundings rather than from
// relay.yaml.
type Options struct {
	Log     *telemetry.Log
	Version string
	Dev     bool         // serve the page to try it, and take the next port when one is busy
	Page    http.Handler // what Dev serves at /
}

// App is one instance of relay.
type App struct {
	opt      Options
	instance string
	log      *slog.Logger

	bus       bus.Bus
	rooms     *room.Registry
	filters   *plugins.Host
	telemetry *telemetry.Telemetry
	sockets   *socket.Group
	gateway   atomic.Pointer[gateway.Gateway] // set by Start
	certs     *door.Certificates
	public    *door.Front
	admin     *http.Server

	publicAddr, adminAddr, metricsAddr net.Addr // set by Start

	reloading sync.Mutex               // one Reload or Stop at a time
	running   *compiled                // guarded by reloading
	live      atomic.Pointer[compiled] // running, for those that must not wait for a reload
	cfg       *config.Config
	src       *config.Source

	started  atomic.Bool
	stopping atomic.Bool
	stopOnce sync.Once
	stopErr  error
	servers  sync.WaitGroup
	failed   chan error
	undo     []cleanup // run last in, first out
}

// cleanup undoes one step of New or Start.
type cleanup struct {
	name string
	run  func(context.Context) error
}

// New checks all that can be checked without the network and builds the parts.
// Problems of the configuration come as *config.Errors.
func New(cfg *config.Config, src *config.Source, opt Options) (*App, error) {
	a := &App{opt: opt, instance: gateway.NewInstanceName(), cfg: cfg, src: src, failed: make(chan error, 2)}
	a.log = opt.Log.Logger.With("instance", a.instance)
	parts, err := compile(cfg, src, a.log, nil)
	if err != nil {
		return nil, err
	}
	a.running = parts
	a.live.Store(parts)
	a.onStop("authenticators", func(context.Context) error { return a.running.close() })

	if cfg.TLS != nil {
		if a.certs, err = door.LoadCertificates(cfg.TLS.Cert, cfg.TLS.Key, a.log); err != nil {
			return nil, errors.Join(problem(src, "tls", err), a.cleanup(context.Background()))
		}
	}
	if a.telemetry, err = newTelemetry(cfg, opt, a.instance, a.log); err != nil {
		return nil, errors.Join(problem(src, "telemetry", err), a.cleanup(context.Background()))
	}
	a.onStop("telemetry", a.telemetry.Stop)
	if a.bus, err = newBus(cfg, a.instance, a.log); err != nil {
		return nil, errors.Join(problem(src, "redis", err), a.cleanup(context.Background()))
	}
	a.filters = plugins.New(plugins.HostOptions{Log: a.log, Instance: a.instance, Version: opt.Version})
	a.sockets = socket.NewGroup(a.bus)
	a.onStop("sockets", func(ctx context.Context) error { a.sockets.Stop(ctx); return nil }) // for who never starts: sessions ends them in order
	a.rooms = room.New(room.Options{
		Bus: a.bus, Rules: a.rules(cfg, parts, nil), Log: a.log, Traces: a.telemetry.Traces, Metrics: a.telemetry.Metrics, Hints: opt.Dev, Output: a.sockets,
		System: busSystem(cfg), Publish: busOperations(cfg), Everywhere: func(s *bus.Sanction) {
			if g := a.gateway.Load(); g != nil {
				g.Sanctioned(s)
			}
		},
	})
	return a, nil
}

func (a *App) onStop(name string, f func(context.Context) error) {
	a.undo = append(a.undo, cleanup{name, f})
}

// cleanup runs what was deferred, last in first out, and joins the errors.
func (a *App) cleanup(ctx context.Context) error {
	var errs []error
	for i := len(a.undo) - 1; i >= 0; i-- {
		if err := a.undo[i].run(ctx); err != nil {
			errs = append(errs, fmt.Errorf("stopping %s: %w", a.undo[i].name, err))
		}
	}
	a.undo = nil
	return errors.Join(errs...)
}

// Start connects the bus and opens the listeners, the last thing first: whoever
// gets through finds everything in place. It returns when clients can connect.
// After an error, Stop is still to be called.
func (a *App) Start(ctx context.Context) error {
	if !a.started.CompareAndSwap(false, true) {
		return errors.New("starting: already started")
	}
	a.onStop("bus", a.bus.Close)
	if err := a.bus.Start(ctx, a.rooms); err != nil {
		return fmt.Errorf("starting the bus: %w", err)
	}
	a.onStop("filters", a.filters.Close)
	if err := a.startFilters(ctx); err != nil {
		return err
	}
	a.onStop("rooms", a.rooms.Close)
	debug, err := debugKey(a.cfg)
	if err != nil {
		return err
	}
	a.gateway.Store(gateway.New(gateway.Options{
		Instance: a.instance, Rooms: a.rooms, Sockets: a.sockets, Log: a.log, Endpoints: a.running.endpoints, Traces: a.telemetry.Traces, Debug: debug,
	}))
	a.bindMetrics()
	a.telemetry.Metrics.Config(configHash(a.cfg), true)
	a.telemetry.Start()
	if err := a.serveAdmin(); err != nil {
		return err
	}
	a.onStop("sessions", func(ctx context.Context) error { return a.gateway.Load().Drain(ctx, a.drainOver()) })
	return a.servePublic()
}

// startFilters starts the plugins and puts their chains in force.
func (a *App) startFilters(ctx context.Context) error {
	set, list, err := a.prepareFilters(ctx, a.cfg, a.src, a.running)
	if err != nil {
		return err
	}
	a.rooms.Reload(ctx, a.rules(a.cfg, a.running, list))
	a.filters.Commit(set)
	return nil
}

func (a *App) drainOver() time.Duration {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	return a.cfg.Drain.Over.Std()
}

// Failed delivers an error when a listener breaks while it serves.
func (a *App) Failed() <-chan error { return a.failed }

// Addr is where clients connect, after Start.
func (a *App) Addr() net.Addr { return a.publicAddr }

// AdminAddr is where health is served, after Start; nil when it is not.
func (a *App) AdminAddr() net.Addr { return a.adminAddr }

// MetricsAddr is where metrics are served, after Start; nil when they have no
// listener of their own.
func (a *App) MetricsAddr() net.Addr { return a.metricsAddr }

// Instance is this instance's name.
func (a *App) Instance() string { return a.instance }

// Paths lists the endpoints.
func (a *App) Paths() []string { return a.gateway.Load().Paths() }

// Stop ends the instance in order: it is not ready any more, takes no new
// sockets, closes the ones it has over drain.over, publishes what it accepted,
// and joins everything that was started. ctx bounds all of it. Idempotent, and
// safe before Start.
func (a *App) Stop(ctx context.Context) error {
	a.stopOnce.Do(func() {
		a.stopping.Store(true)
		a.stopErr = a.cleanup(ctx)
		a.servers.Wait()
	})
	return a.stopErr
}
