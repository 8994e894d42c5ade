package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/wsrelay/relay/internal/gateway/door"
	"github.com/wsrelay/relay/internal/gateway/socket"
)

func (a *App) servePublic() error {
	ln, err := a.listen(a.cfg.Listen)
	if err != nil {
		return fmt.Errorf("listening on %s: %w", a.cfg.Listen, err)
	}
	a.publicAddr = ln.Addr()
	if a.certs != nil {
		ln = tls.NewListener(socket.Prompt(ln), a.certs.Config())
	}
	a.public = door.NewFront(http.HandlerFunc(a.handle), a.log)
	a.serve("listener", a.public, ln)
	return nil
}

// listen opens a listener; with Dev, on one of the next ports if this one is
// taken.
func (a *App) listen(addr string) (net.Listener, error) {
	ln, err := door.Listen(addr)
	if err == nil || !a.opt.Dev {
		return ln, err
	}
	host, port, splitErr := net.SplitHostPort(addr)
	n, convErr := strconv.Atoi(port)
	if splitErr != nil || convErr != nil || n == 0 {
		return nil, err
	}
	for i := 1; i <= 20; i++ {
		if ln, next := door.Listen(net.JoinHostPort(host, strconv.Itoa(n+i))); next == nil {
			return ln, nil
		}
	}
	return nil, err
}

// handle sends upgrades to the gateway, and in dev mode everybody else to the
// page.
func (a *App) handle(w http.ResponseWriter, r *http.Request) {
	if a.opt.Dev && a.opt.Page != nil && r.URL.Path == "/" && !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		a.opt.Page.ServeHTTP(w, r)
		return
	}
	a.gateway.Load().ServeHTTP(w, r)
}

func (a *App) serveAdmin() error {
	if err := a.serveMetrics(); err != nil || a.cfg.Admin.Listen == "" {
		return err
	}
	ln, err := a.listen(a.cfg.Admin.Listen)
	if err != nil {
		return fmt.Errorf("listening on %s for admin: %w", a.cfg.Admin.Listen, err)
	}
	a.adminAddr = ln.Addr()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", a.ready)
	if m := a.cfg.Telemetry.Metrics; m.Path != "" && m.Listen == "" {
		mux.Handle("GET "+m.Path, a.telemetry.Metrics.Handler())
	}
	a.admin = door.Server(mux, a.log)
	a.serve("admin listener", a.admin, ln)
	return nil
}

// serveMetrics opens the listener that metrics have for themselves, if they do.
func (a *App) serveMetrics() error {
	m := a.cfg.Telemetry.Metrics
	if m.Listen == "" || m.Path == "" {
		return nil
	}
	ln, err := a.listen(m.Listen)
	if err != nil {
		return fmt.Errorf("listening on %s for metrics: %w", m.Listen, err)
	}
	a.metricsAddr = ln.Addr()
	mux := http.NewServeMux()
	mux.Handle("GET "+m.Path, a.telemetry.Metrics.Handler())
	a.serve("metrics listener", door.Server(mux, a.log), ln)
	return nil
}

// server is an http.Server, or a door.Front.
type server interface {
	Serve(ln net.Listener) error
	Shutdown(ctx context.Context) error
	Close() error
}

// serve runs a server until Stop closes it.
func (a *App) serve(name string, srv server, ln net.Listener) {
	a.onStop(name, func(ctx context.Context) error {
		err := srv.Shutdown(ctx) // sockets are hijacked: it waits for handshakes and plain requests only
		if err != nil {
			return errors.Join(err, srv.Close())
		}
		return nil
	})
	a.servers.Go(func() {
		if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			select {
			case a.failed <- fmt.Errorf("serving on %s: %w", ln.Addr(), err):
			default: // one is enough to end the process
			}
		}
	})
}

// ready tells whether this instance should get new clients. ?exclude=redis
// leaves the bus out, for balancers that must not empty when Redis is away.
func (a *App) ready(w http.ResponseWriter, r *http.Request) {
	checks := []struct {
		name string
		err  error
	}{{"drain", nil}, {"redis", a.bus.Health()}}
	if a.stopping.Load() {
		checks[0].err = errors.New("shutting down")
	}
	var out strings.Builder
	status := http.StatusOK
	for _, c := range checks {
		excluded := false
		for _, e := range r.URL.Query()["exclude"] {
			excluded = excluded || e == c.name
		}
		switch {
		case c.err == nil:
			fmt.Fprintf(&out, "[+] %s ok\n", c.name)
		case excluded:
			fmt.Fprintf(&out, "[-] %s excluded: %v\n", c.name, c.err)
		default:
			fmt.Fprintf(&out, "[-] %s: %v\n", c.name, c.err)
			status = http.StatusServiceUnavailable
		}
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(out.String())) // who asked is gone
}
