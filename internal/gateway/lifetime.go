package gateway

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/wsrelay/relay/internal/gateway/socket"
	"github.com/wsrelay/relay/internal/wire"
)

// expiryWarning is how long before the end of a credential the client is told,
// or half of what was left when it came, if that is less.
const expiryWarning = time.Minute

// armExpiry sets the clock to the end of the credential now in force.
func (s *session) armExpiry(at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.term++
	s.warned = false
	if at.IsZero() {
		s.rearm(0, nil)
		return
	}
	term, left := s.term, time.Until(at)
	s.rearm(left-min(expiryWarning, left/2), func() { s.expire(term, at) })
}

// expire warns first and closes at the end. A timer that a fresh credential came
// too late to stop is of another term, and does neither.
func (s *session) expire(term uint32, at time.Time) {
	s.mu.Lock()
	if term != s.term {
		s.mu.Unlock()
		return
	}
	left := time.Until(at)
	warn := !s.warned && left > 0
	s.warned = true
	if warn {
		s.rearm(left, func() { s.expire(term, at) })
	}
	s.mu.Unlock()
	if warn {
		s.conn.Send(wire.Expiring{In: left}.Frame())
		return
	}
	s.conn.Send((&wire.Error{Code: wire.Unauthenticated, Message: "the credential has expired"}).Frame(nil))
	s.end(wire.CloseUnauthenticated, "credential expired")
}

func (s *session) authLate() {
	if s.actor.Load() != nil {
		return
	}
	s.conn.Send((&wire.Error{Code: wire.Unauthenticated, Message: "no auth request came in time"}).Frame(nil))
	s.end(wire.CloseUnauthenticated, "no credential in time")
}

// after has f called at a time, in place of what the session's one timer was for.
func (s *session) after(d time.Duration, f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rearm(d, f)
}

// rearm replaces the session's one timer; a nil f only stops it. mu is held.
func (s *session) rearm(d time.Duration, f func()) {
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
	if f != nil && !s.closed {
		s.timer = time.AfterFunc(max(d, 0), f)
	}
}

// end closes the socket for a reason that the client should know. Only a
// restart leaves the door open for grace.
func (s *session) end(code wire.CloseCode, reason string) {
	s.mu.Lock()
	if code == wire.CloseForbidden {
		s.forGood = true
	}
	s.mu.Unlock()
	s.conn.Close(code, reason)
}

func (g *Gateway) remember(s *session) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.draining {
		return false
	}
	g.sessions[s] = struct{}{}
	return true
}

func (g *Gateway) forget(s *session) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.sessions, s)
}

// Update puts other endpoints in force. Sockets stay; those of an endpoint that
// is gone are closed with 1012. What their credential was worth is not asked
// again, but an authenticator that is gone from an endpoint refreshes no token.
func (g *Gateway) Update(list []*Endpoint) {
	g.setEndpoints(list)
	now := *g.endpoints.Load()
	for _, s := range g.all() {
		if ep := now[s.ep.Load().Path]; ep != nil {
			s.ep.Store(ep)
		} else {
			s.conn.Close(wire.CloseRestart, "endpoint removed")
		}
	}
}

// ErrDrainCut is returned by Drain when its time ran out before every session
// had left its rooms in order.
var ErrDrainCut = errors.New("drain ran out of time")

// Drain ends all sessions in order: each is told when to come back, each keeps
// its place until its accepted messages are answered, and they are closed with
// 1012 spread over `over`, so that they do not all reconnect at once. New
// handshakes are refused from the first moment. Drain returns when the last
// session has left its rooms, or when ctx ends.
func (g *Gateway) Drain(ctx context.Context, over time.Duration) error {
	g.mu.Lock()
	g.draining = true
	g.mu.Unlock()
	list := g.all()

	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	start := time.Now()
	at := make([]time.Duration, len(list))
	for i, s := range list {
		at[i] = spread(over, i, len(list))
		s.conn.Send(wire.Closing{ReconnectAfter: at[i]}.Frame())
	}
	var retiring sync.WaitGroup
	for i, s := range list {
		if !sleep(ctx, at[i]-time.Since(start)) {
			break
		}
		retiring.Go(func() { s.retire(ctx) })
	}
	retiring.Wait()
	g.opt.Sockets.Stop(ctx) // whoever the loop did not reach, and the closing handshakes
	done := make(chan struct{})
	go func() { g.work.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ErrDrainCut
	}
}

// spread gives the i-th of n its moment within over, somewhere in its slot.
func spread(over time.Duration, i, n int) time.Duration {
	slot := over / time.Duration(n)
	return time.Duration(i)*slot + time.Duration(rand.Int64N(int64(slot)+1))
}

// retire closes the session once its messages are answered. What the client
// sends from here on it has to send again, to the instance it comes back to.
func (s *session) retire(ctx context.Context) {
	s.conn.Pause()
	for _, seat := range s.snapshot() {
		_ = seat.Drained(ctx) // out of time: close all the same
	}
	if l := s.outside.Load(); l != nil {
		_ = l.Drained(ctx)
	}
	s.conn.Close(wire.CloseRestart, "restart")
}

func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// logClosed writes the line that the one on call looks for. Those who come and
// go as they should are told of at level debug only.
func (g *Gateway) logClosed(s *session, cause socket.Cause) {
	level := slog.LevelDebug
	if cause.By == socket.Server && cause.Code.Fault() {
		level = slog.LevelInfo
	}
	if !g.opt.Log.Enabled(context.Background(), level) {
		return
	}
	user := ""
	if a := s.actor.Load(); a != nil {
		user = a.Identity.ID
	}
	g.opt.Log.Log(context.Background(), level, "connection closed", "connection", s.id, "endpoint", s.ep.Load().Path, "ip", s.place.ClientIP, "user", user,
		"code", int(cause.Code), "reason", cause.Reason, "runbook", cause.Code.Runbook())
}
