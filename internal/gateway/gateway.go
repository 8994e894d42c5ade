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
	"github.com/wsrelay/relay/telemetry"
)

// Endpoint is one path that clients connect to. It is immutable; a reload makes
// another, which may share the Door.
type Endpoint struct {
	Path   string
	Auth   *auth.Chain
	Rooms  *policy.AccessList
	Door   *door.Door
	Socket socket.Options

	Trace *telemetry.Entrance // which messages become traces; nil: none

	RoomsPerConnection int
	Requests           float64 // per second and connection; 0: no bound
}

func (e *Endpoint) limits() wire.Limits {
	return wire.Limits{FrameSize: e.Socket.MaxMessage, RequestsPerSecond: e.Requests, Rooms: e.RoomsPerConnection}
}

// Options of a Gateway.
type Options struct {
	Instance  string // name of this instance, part of every connection id
	Rooms     *room.Registry
	Sockets   *socket.Group
	Log       *slog.Logger
	Traces    *telemetry.Traces // nil: none
	Debug     telemetry.DebugKey
	OpTimeout time.Duration // bound on a request that needs the bus; default 5 s
	Endpoints []*Endpoint
}

// Gateway serves all endpoints of this instance.
type Gateway struct {
	opt       Options
	made      time.Time // what the clocks of sessions count from
	endpoints atomic.Pointer[map[string]*Endpoint]
	nextConn  atomic.Uint64
	work      sync.WaitGroup // requests under way and sessions that clean up
	leaving   crew           // of sessions whose socket is gone

	mu       sync.Mutex
	sessions map[*session]struct{} // guarded by mu
	draining bool                  // guarded by mu
}

// maxLeaving is how many sessions leave their rooms at a time. Those that wait
// have their time running: the bus carries a leave out later that it gets too late.
const maxLeaving = 256

// New makes a gateway; it serves as soon as its handler is called.
func New(opt Options) *Gateway {
	if opt.OpTimeout == 0 {
		opt.OpTimeout = 5 * time.Second
	}
	g := &Gateway{opt: opt, made: time.Now(), leaving: crew{most: maxLeaving}, sessions: make(map[*session]struct{})}
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

// ServeHTTP admits, identifies and upgrades. Who is not let in for who they are
// is told after the upgrade, because a browser would not get to see it before.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ep := (*g.endpoints.Load())[r.URL.Path]
	if ep == nil {
		http.Error(w, "no endpoint here: see endpoints in relay.yaml", http.StatusNotFound)
		return
	}
	if g.isDraining() {
		(&door.Refusal{Status: http.StatusServiceUnavailable, RetryAfter: time.Second, Body: "this instance is shutting down; connect again"}).Write(w)
		return
	}
	seen := telemetry.Handshake{Path: ep.Path, Start: time.Now(), Header: r.Header}
	adm, refusal := ep.Door.Admit(r)
	if refusal != nil {
		g.refused(ep, seen, refusal.Status, refusal.Reason)
		refusal.Write(w)
		return
	}
	id, authErr := g.present(r, ep)
	s := &session{gw: g, id: g.connectionID(), place: adm}
	s.ep.Store(ep)
	conn, err := g.opt.Sockets.Upgrade(w, r, ep.Socket)
	if err != nil {
		adm.Release()
		g.refused(ep, seen, http.StatusBadRequest, "bad_handshake")
		g.opt.Log.Debug("handshake refused", "endpoint", ep.Path, "ip", adm.ClientIP, "error", err)
		return
	}
	s.conn = conn
	seen.End, seen.Status, seen.Connection = time.Now(), http.StatusSwitchingProtocols, s.id
	if authErr != nil {
		seen.Error = string(authFailure(authErr).Code)
	}
	if until := g.opt.Debug.Until(r.Header.Get("Relay-Debug"), seen.Start); !until.IsZero() {
		s.debug, seen.Debug = &until, true
	}
	if c := g.opt.Traces.Handshake(ep.Trace, seen); !c.IsZero() {
		s.handshake = &c
	}
	g.opt.Sockets.Gather() // the client waits for this answer: to wake somebody up who writes it costs more
	defer g.opt.Sockets.Flush()
	switch {
	case authErr != nil:
		s.refuse(nil, authErr)
	case !g.remember(s):
		s.conn.Close(wire.CloseRestart, "restart")
	default:
		s.open(id)
	}
	conn.Start(s)
}

// refused tells the trace of a handshake that came to nothing.
func (g *Gateway) refused(ep *Endpoint, seen telemetry.Handshake, status int, why string) {
	seen.End, seen.Status, seen.Error = time.Now(), status, why
	g.opt.Traces.Handshake(ep.Trace, seen)
}

// present judges the credential of a handshake. A nil Identity without an error
// means that there was none, and that more may come.
func (g *Gateway) present(r *http.Request, ep *Endpoint) (*auth.Identity, error) {
	cred := ep.Auth.Places().Collect(r)
	if !ep.Auth.Presented(cred) && (ep.Auth.Guests() || ep.Auth.Deadline() > 0) {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(r.Context(), g.opt.OpTimeout)
	defer cancel()
	return ep.Auth.Authenticate(ctx, cred)
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

// authFailure turns an error of an authenticator into what the client sees. The
// reason goes to the log alone: it would help whoever forges tokens.
func authFailure(err error) *wire.Error {
	switch {
	case errors.Is(err, auth.ErrUnavailable):
		return &wire.Error{Code: wire.Unavailable, Message: "credentials cannot be checked right now; try again", Retry: true, Close: wire.CloseOverload}
	case errors.Is(err, auth.ErrNoCredential):
		return &wire.Error{Code: wire.Unauthenticated, Message: "no credential; see docs/protocol.md for the places to put one", Close: wire.CloseUnauthenticated}
	default:
		return &wire.Error{Code: wire.Unauthenticated, Message: "the credential is not valid", Close: wire.CloseUnauthenticated}
	}
}

func (g *Gateway) opContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), g.opt.OpTimeout)
}
