// Package gateway is where clients and rooms meet: WebSocket endpoints, and the
// session that interprets what a client asks for.
//
// A message enters here: socket reads it, session parses it (wire), knows who
// speaks (auth), and hands it to the room. It leaves here too: the room queues
// frames to the session's socket.
package gateway

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wsrelay/relay/auth"
	"github.com/wsrelay/relay/internal/gateway/door"
	"github.com/wsrelay/relay/internal/gateway/socket"
	"github.com/wsrelay/relay/internal/room"
	"github.com/wsrelay/relay/internal/room/policy"
	"github.com/wsrelay/relay/internal/wire"
)

// Endpoint is one path that clients connect to.
type Endpoint struct {
	Path   string
	Auth   *auth.Chain
	Rooms  *policy.AccessList
	Door   *door.Door
	Socket socket.Options

	RoomsPerConnection int
	Requests           float64 // per second and connection; 0: no bound
}

// Options of a Gateway.
type Options struct {
	Instance  string // name of this instance, part of every connection id
	Rooms     *room.Registry
	Sockets   *socket.Group
	Log       *slog.Logger
	Dev       bool          // errors carry hints that name the line of relay.yaml
	OpTimeout time.Duration // bound on a request that needs the bus
	Endpoints []*Endpoint
}

// Gateway serves all endpoints of this instance.
type Gateway struct {
	opt       Options
	endpoints atomic.Pointer[map[string]*Endpoint]
	nextConn  atomic.Uint64
	work      sync.WaitGroup // sessions that still clean up

	mu       sync.Mutex
	sessions map[*session]struct{} // guarded by mu
	draining bool                  // guarded by mu
}

// New makes a gateway; it serves as soon as its handler is called.
func New(opt Options) *Gateway {
	if opt.OpTimeout == 0 {
		opt.OpTimeout = 5 * time.Second
	}
	if opt.Instance == "" {
		opt.Instance = NewInstanceName()
	}
	g := &Gateway{opt: opt, sessions: make(map[*session]struct{})}
	g.setEndpoints(opt.Endpoints)
	return g
}

// NewInstanceName makes a name for an instance: 60 random bits.
func NewInstanceName() string { return randomName(12) }

func randomName(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails since Go 1.24
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b))[:n]
}

func (g *Gateway) setEndpoints(list []*Endpoint) {
	m := make(map[string]*Endpoint, len(list))
	for _, e := range list {
		m[e.Path] = e
	}
	g.endpoints.Store(&m)
}

// Paths lists the paths that are served.
func (g *Gateway) Paths() []string {
	var p []string
	for path := range *g.endpoints.Load() {
		p = append(p, path)
	}
	slices.Sort(p)
	return p
}

// Serves reports whether a request is for one of the endpoints: its path is,
// and it asks for an upgrade.
func (g *Gateway) Serves(r *http.Request) bool {
	_, ok := (*g.endpoints.Load())[r.URL.Path]
	return ok && strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
}

// ServeHTTP admits, identifies and upgrades.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ep := (*g.endpoints.Load())[r.URL.Path]
	if ep == nil {
		http.NotFound(w, r)
		return
	}
	if g.isDraining() {
		w.Header().Set("Retry-After", "1")
		http.Error(w, "this instance is shutting down; connect again", http.StatusServiceUnavailable)
		return
	}
	adm, refusal := ep.Door.Admit(r)
	if refusal != nil {
		refusal.Write(w)
		return
	}
	s := &session{gw: g, ep: ep, id: g.connectionID(), ip: adm.ClientIP.String(), leave: adm.Release}
	s.begin(r)
	conn, err := socket.Upgrade(w, r, ep.Socket, g.opt.Sockets, s)
	if err != nil {
		adm.Release()
		g.opt.Log.Debug("handshake refused", "endpoint", ep.Path, "ip", s.ip, "error", err)
		return
	}
	_ = conn
}

// connectionID names a socket: the instance, so that any other can find it, and
// a number that is not used twice.
func (g *Gateway) connectionID() string {
	return g.opt.Instance + "-" + base36(g.nextConn.Add(1))
}

func base36(n uint64) string {
	const digits = "0123456789abcdefghijklmnopqrstuvwxyz"
	var b [13]byte
	i := len(b)
	for {
		i--
		b[i] = digits[n%36]
		if n /= 36; n == 0 {
			return string(b[i:])
		}
	}
}

func (g *Gateway) isDraining() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.draining
}

// ErrDrainCut is returned by Drain when its time ran out before every session
// had ended in order.
var ErrDrainCut = errors.New("drain ran out of time")

// authFailure turns an error of an authenticator into what the client sees.
// The reason goes to the log alone: it helps whoever forges tokens.
func authFailure(err error) (*wire.Error, wire.CloseCode) {
	if errors.Is(err, auth.ErrUnavailable) {
		return &wire.Error{Code: wire.Unavailable, Message: "credentials cannot be checked right now; try again", Retry: true}, wire.CloseOverload
	}
	return &wire.Error{Code: wire.Unauthenticated, Message: "no valid credential"}, wire.CloseUnauthenticated
}

func (g *Gateway) opContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), g.opt.OpTimeout)
}
