package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/wsrelay/relay/config"
	"github.com/wsrelay/relay/examples/browser"
	"github.com/wsrelay/relay/internal/app"
	"github.com/wsrelay/relay/telemetry"
)

// defaultFile is read when no file is named and it is there.
const defaultFile = "relay.yaml"

type serveCommand struct {
	env     Env
	file    string
	dev     bool
	filters []string
	plugins *devFilters
}

func (s *serveCommand) flags(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&s.file, "config", "c", "", "configuration file; default: relay.yaml in this folder, else dev mode")
	cmd.Flags().BoolVar(&s.dev, "dev", false, "dev mode: loopback only, open to everyone there, with a page to try it")
	cmd.Flags().StringArrayVar(&s.filters, "filter", nil, "in dev mode: a plugin that judges all rooms: a program, a .py or .js file, or a folder with a Go program; replaced whenever it changes. May be repeated")
}

func (s *serveCommand) command() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run an instance",
		Long: `Run an instance until SIGTERM or Ctrl-C, which ends it in order; a second one ends
it at once. SIGHUP, or a change of the file, reloads the configuration: a bad one
is reported and the old one stays.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return s.run(cmd.Context()) },
	}
	s.flags(cmd)
	return cmd
}

// configuration finds what to run. src is nil in dev mode.
func (s *serveCommand) configuration(ctx context.Context) (*config.Config, *config.Source, error) {
	if s.dev {
		if s.file != "" {
			return nil, nil, errors.New("--dev and --config exclude each other: dev mode has a configuration of its own")
		}
		return s.devConfig(ctx)
	}
	if s.file == "" {
		// The repository's own relay.yaml is the sample; a checkout is tried in
		// dev mode all the same.
		b, err := os.ReadFile(defaultFile)
		if errors.Is(err, fs.ErrNotExist) || err == nil && string(b) == string(s.env.Sample) {
			s.dev = true
			return s.devConfig(ctx)
		}
		s.file = defaultFile
	}
	if len(s.filters) > 0 {
		return nil, nil, fmt.Errorf("--filter is for dev mode: list the filter in %s instead", s.file)
	}
	return load(s.env, s.file)
}

// devConfig is what dev mode runs, with its filters built.
func (s *serveCommand) devConfig(ctx context.Context) (*config.Config, *config.Source, error) {
	cfg := config.Dev()
	for _, kv := range s.env.Environ {
		name, to, _ := strings.Cut(kv, "=")
		if (name == "OTEL_EXPORTER_OTLP_ENDPOINT" || name == "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") && to != "" {
			cfg.DevTraces() // whoever has a collector wants to see something
		}
	}
	if s.plugins == nil {
		var err error
		if s.plugins, err = newDevFilters(s.filters); err != nil {
			return nil, nil, err
		}
	}
	s.plugins.changed() // what is built now has been seen
	return cfg, nil, s.plugins.into(ctx, cfg)
}

func load(env Env, file string) (*config.Config, *config.Source, error) {
	return config.Load(file, env.Environ)
}

func (s *serveCommand) run(ctx context.Context) error {
	cfg, src, err := s.configuration(ctx)
	if s.plugins != nil {
		defer s.plugins.close()
	}
	if err != nil {
		return err
	}
	log, err := telemetry.NewLog(telemetry.LogOptions{
		Level: cfg.Telemetry.Log.Level, Format: cfg.Telemetry.Log.Format, Service: cmp.Or(cfg.Telemetry.Service, os.Getenv("OTEL_SERVICE_NAME"), "relay"), Output: s.env.Err,
	})
	if err != nil {
		return err
	}
	defer spareGarbage()()
	a, err := app.New(cfg, src, app.Options{Log: log, Version: Version(), Dev: s.dev, Page: browser.Handler()})
	if err != nil {
		return err
	}
	if err := a.Start(ctx); err != nil {
		stop, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		return errors.Join(err, a.Stop(stop))
	}
	s.hello(a)
	log.Info("serving", "instance", a.Instance(), "listen", a.Addr().String(), "endpoints", strings.Join(a.Paths(), " "), "version", Version())
	err = s.wait(ctx, a, log)
	return errors.Join(err, s.stop(a, cfg, log))
}

// wait returns when the instance is to end: asked to, with nil, or because it
// broke.
func (s *serveCommand) wait(ctx context.Context, a *app.App, log *telemetry.Log) error {
	changed, every := s.watched()
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-a.Failed():
			return err
		case <-hup:
			changed()
		case <-ticker.C:
			if !changed() {
				continue
			}
		}
		s.reload(ctx, a, log)
	}
}

// watched is what makes a reload when it changes: the file, or in dev mode the
// plugins.
func (s *serveCommand) watched() (changed func() bool, every time.Duration) {
	if s.file == "" {
		return s.plugins.changed, devWatchEvery
	}
	return newWatch(s.file).changed, watchEvery
}

func (s *serveCommand) reload(ctx context.Context, a *app.App, log *telemetry.Log) {
	cfg, src, err := s.configuration(ctx)
	if err != nil {
		a.RefusedReload()
		log.Error("configuration not reloaded, the old one stays in force", "error", err)
		return
	}
	ignored, err := a.Reload(ctx, cfg, src)
	if err != nil {
		log.Error("configuration not reloaded, the old one stays in force", "error", err)
		return
	}
	if len(ignored) > 0 {
		log.Warn("configuration reloaded; some changes need a restart", "keys", strings.Join(ignored, " "))
		return
	}
	if s.file == "" {
		log.Info("filters replaced", "filters", strings.Join(s.filters, " "))
		return
	}
	log.Info("configuration reloaded", "file", s.file)
}

func (s *serveCommand) stop(a *app.App, cfg *config.Config, log *telemetry.Log) error {
	log.Info("stopping", "over", cfg.Drain.Over.String(), "timeout", cfg.Drain.Timeout.String())
	ctx, cancel := context.WithTimeout(context.Background(), cfg.Drain.Timeout.Std())
	defer cancel()
	if err := a.Stop(ctx); err != nil {
		return fmt.Errorf("stopping: %w", err)
	}
	log.Info("stopped")
	return nil
}

// hello tells someone who just tries it where to go.
func (s *serveCommand) hello(a *app.App) {
	if !s.dev {
		return
	}
	_, port, err := net.SplitHostPort(a.Addr().String())
	if err != nil {
		return
	}
	fmt.Fprintf(s.env.Out, `
  relay is running, for this machine only.

    page       http://localhost:%[1]s/        (open it twice and chat)
    WebSocket  ws://localhost:%[1]s/
    terminal   relay chat ws://localhost:%[1]s/ --name Ann

  Or paste this into a browser's console on that page:

    ws = new WebSocket("ws://localhost:%[1]s/", ["relay.v1"])
    ws.onmessage = (m) => console.log(m.data)
    ws.onopen = () => ws.send('{"type":"join","roomId":"lobby","user":{"id":"me","name":"Me"}}')

  and, when it says joined:

    ws.send('{"type":"chat","roomId":"lobby","user":{"id":"me"},"message":"hello"}')

  Your own configuration: relay init. Ctrl-C ends it.

`, port)
}
