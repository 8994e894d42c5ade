package gateway

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wsrelay/relay/auth"
	"github.com/wsrelay/relay/internal/bus"
	"github.com/wsrelay/relay/internal/gateway/door"
	"github.com/wsrelay/relay/internal/gateway/socket"
	"github.com/wsrelay/relay/internal/room"
	"github.com/wsrelay/relay/internal/wire"
	"github.com/wsrelay/relay/telemetry"
)

// maxInFlight bounds the messages of one socket that the bus has not resolved.
// At the bound the socket is not read until half of them are: the client feels
// it as a full TCP window.
const maxInFlight = 256

// session is one client: who it is, where it sits, what it asked for. It is kept
// small: most are quiet.
type session struct {
	gw    *Gateway
	id    string
	conn  socket.Conn
	place *door.Admission

	handshake *telemetry.Context // nil: it was not traced
	debug     *time.Time         // until when a debug token of the handshake is good; nil: there was none

	ep    atomic.Pointer[Endpoint]   // replaced by a reload
	actor atomic.Pointer[room.Actor] // nil until the client is known

	// Touched by Message and what it starts while the socket is paused; never by
	// two goroutines at once.
	rate    bucket
	claimed bool // the client's own word for itself has been heard
	bare    bool // a guest gave itself its id without auth.GuestPrefix, and may go on to

	stalled  atomic.Bool               // paused because of inFlight
	inFlight atomic.Int32              // messages handed to filters or the bus
	outside  atomic.Pointer[room.Lane] // messages for rooms that the session is not in; nil: none yet

	mu      sync.Mutex
	seats   seats       // guarded by mu
	timer   *time.Timer // deadline of the first auth, then the credential's end; guarded by mu
	term    uint32      // counts the credentials that had a clock; guarded by mu
	closed  bool        // guarded by mu
	warned  bool        // expiring was sent for the current credential; guarded by mu
	forGood bool        // we closed the socket for good, so that grace does not apply; guarded by mu
}

// ID is the connection's id; socket names it to those who follow a frame.
func (s *session) ID() string { return s.id }

// open sends the welcome and starts the clocks. pending is the identity found
// at the handshake, or nil where the client has yet to say who it is.
func (s *session) open(id *auth.Identity) {
	ep := s.ep.Load()
	w := &wire.Welcome{ConnectionID: s.id, Instance: s.gw.opt.Instance, Heartbeat: ep.Socket.PingEvery, Limits: ep.limits()}
	if id != nil {
		if e := s.become(id); e != nil {
			s.fail(nil, e)
			return
		}
		w.User = s.actor.Load().User
	}
	s.conn.Send(w.Frame())
	if id == nil && !ep.Auth.Guests() {
		s.after(ep.Auth.Deadline(), s.authLate)
	}
}

// refuse tells why the credential is no good, and ends the socket.
func (s *session) refuse(reqID []byte, err error) {
	s.gw.opt.Log.Info("credential refused", "connection", s.id, "endpoint", s.ep.Load().Path, "ip", s.place.ClientIP, "error", err)
	s.fail(reqID, authFailure(err))
}

// become takes an identity on, unless it is banned everywhere. Everything that
// was joined under an older one keeps its seat or loses it in recheck.
func (s *session) become(id *auth.Identity) *wire.Error {
	a := &room.Actor{
		Identity: id, User: wire.UserJSON(id.ID, id.Name, id.Data, id.Guest),
		Conn: s.id, Endpoint: s.ep.Load().Path, IP: s.place.ClientIP.String(),
	}
	switch {
	case !id.Guest:
	case s.place.ClientIP.Is6():
		a.Bound = bus.BoundAddr(s.place.ClientIP)
	default:
		a.Bound = a.IP
	}
	s.actor.Store(a) // before the look: a ban that comes meanwhile finds the session by it
	if ban := s.gw.opt.Rooms.Sanction(a, "", bus.Ban); ban != nil {
		e := room.SanctionError(ban, "")
		e.Close = wire.CloseForbidden
		return e
	}
	s.armExpiry(id.Expires)
	return nil
}

// requests are what requests are read into: a quiet session holds none. Nothing of
// one is kept after Message, or after what async runs.
var requests = sync.Pool{New: func() any { return new(wire.Request) }}

// seats are where a session sits. Most sit in one room or a few, and most sessions
// are quiet: a list is smaller than a map, and found as fast.
type seats []*room.Seat

func find[T string | []byte](l seats, roomID T) *room.Seat {
	for _, s := range l {
		if s.Room() == string(roomID) {
			return s
		}
	}
	return nil
}

func (l *seats) remove(seat *room.Seat) {
	if i := slices.Index(*l, seat); i >= 0 {
		*l = slices.Delete(*l, i, i+1)
	}
}

// Message implements socket.Handler: one request.
func (s *session) Message(data []byte) {
	req := requests.Get().(*wire.Request)
	defer requests.Put(req)
	e := wire.Parse(data, req)
	sound := e == nil
	now := time.Now()
	if wait := s.rate.take(s.ep.Load().Requests, now.Sub(s.gw.made)); wait > 0 { // what makes no sense counts as well
		e = &wire.Error{Code: wire.RateLimited, RoomID: string(req.RoomID), Message: "too many requests on this connection", Retry: true, RetryAfter: wait}
		if sound {
			s.refused(req, now, e)
		}
	} else if sound {
		e = s.dispatch(req, now)
	}
	if e != nil {
		s.fail(req.ID, e)
	}
}

// fail answers with an error, and closes the socket where the error says so.
func (s *session) fail(id []byte, e *wire.Error) {
	s.conn.Send(e.Frame(id))
	if e.Close != 0 {
		s.end(e.Close, e.Message)
	}
}

// dispatch runs what can be answered at once, and hands what needs the bus to
// a goroutine while the socket is paused: requests of one socket are carried
// out in their order, and no reader waits for Redis.
func (s *session) dispatch(req *wire.Request, now time.Time) *wire.Error {
	switch req.Type {
	case wire.TypePing:
		s.conn.Send(wire.Pong{ID: req.ID}.Frame())
		return nil
	case wire.TypeAuth:
		s.async(req, s.authenticate)
		return nil
	}
	if e := s.identify(req); e != nil {
		if e.Code == wire.UserMismatch {
			s.refused(req, now, e)
		}
		return e
	}
	switch req.Type {
	case wire.TypeChat:
		return s.chat(req, now)
	case wire.TypeSignal:
		return s.signal(req)
	case wire.TypeCreate:
		s.async(req, s.create)
	case wire.TypeJoin:
		s.async(req, s.join)
	case wire.TypeExit:
		s.async(req, s.exit)
	case wire.TypeMembers:
		s.async(req, s.members)
	case wire.TypeHistory:
		s.async(req, s.history)
	case wire.TypeRedact:
		s.async(req, s.redact)
	default:
		return &wire.Error{Code: wire.UnknownType, Message: "type: no request is called " + strconv.Quote(string(req.TypeName))}
	}
	return nil
}

// async runs f beside the reader, with the socket paused until it is done. f
// gets a request of its own: the reader's buffer is not ours after Message.
func (s *session) async(shared *wire.Request, f func(context.Context, *wire.Request) *wire.Error) {
	req := requests.Get().(*wire.Request)
	_ = wire.Parse(bytes.Clone(shared.Raw), req) // it parsed a moment ago
	s.conn.Pause()
	s.gw.work.Add(1)
	go func() {
		defer s.gw.work.Done()
		defer s.conn.Resume()
		defer requests.Put(req)
		ctx, cancel := s.gw.opContext()
		defer cancel()
		if e := f(ctx, req); e != nil {
			s.fail(req.ID, e)
		}
	}()
}

// identify makes sure that the session has an identity, and that the request
// does not claim another. The first `user` names a guest for good, and may add
// name and data to an identity that has none.
func (s *session) identify(req *wire.Request) *wire.Error {
	a := s.actor.Load()
	if a != nil && (s.claimed || !req.User.Present) {
		if id := string(req.User.ID); id != "" && id != a.Identity.ID && !(s.bare && auth.GuestPrefix+id == a.Identity.ID) {
			return mismatch(req)
		}
		return nil
	}
	claim := auth.Claim{ID: string(req.User.ID), Name: string(req.User.Name), Data: bytes.Clone(req.User.Data)}
	var id *auth.Identity
	var err error
	switch ep := s.ep.Load(); {
	case a != nil:
		id, err = a.Identity.WithClaim(claim)
	case ep.Auth.Guests():
		id, err = ep.Auth.Authenticate(context.Background(), auth.Credentials{Claim: claim}) // guests need no network
		s.bare = err == nil && claim.ID != "" && claim.ID != id.ID
	default:
		return &wire.Error{Code: wire.Unauthenticated, RoomID: string(req.RoomID), Message: "send an auth request with a token first"}
	}
	var fault *auth.ClaimError
	switch {
	case errors.As(err, &fault):
		return &wire.Error{Code: wire.BadRequest, RoomID: string(req.RoomID), Message: fault.Error()}
	case errors.Is(err, auth.ErrUserMismatch):
		return mismatch(req)
	case err != nil:
		return authFailure(err)
	}
	s.claimed = req.User.Present
	if a == nil || id != a.Identity {
		return s.become(id)
	}
	return nil
}

func mismatch(req *wire.Request) *wire.Error {
	return &wire.Error{Code: wire.UserMismatch, RoomID: string(req.RoomID), Message: "user.id: this connection belongs to another user"}
}

// Closed implements socket.Handler: the socket is gone, the member may not be.
func (s *session) Closed(cause socket.Cause) {
	s.mu.Lock()
	s.closed = true
	seats := s.seats
	s.seats = nil
	if s.timer != nil {
		s.timer.Stop()
	}
	grace := !s.forGood && !cause.Normal()
	s.mu.Unlock()
	s.place.Release()
	s.gw.logClosed(s, cause)
	if len(seats) == 0 {
		s.gw.forget(s)
		return
	}
	s.gw.work.Add(1) // the socket group still counts us: Drain waits for that first
	until := time.Now().Add(s.gw.opt.OpTimeout)
	s.gw.leaving.do(func() {
		defer s.gw.work.Done()
		defer s.gw.forget(s)
		ctx, cancel := context.WithDeadline(context.Background(), until)
		defer cancel()
		for _, seat := range seats {
			seat.Leave(ctx, grace)
		}
	})
}

// Send implements room.Sink.
func (s *session) Send(f *wire.Frame) { s.conn.Send(f) }

// Evicted implements room.Sink.
func (s *session) Evicted(seat *room.Seat, reason string) {
	s.drop(seat)
	s.conn.Send((&wire.Exited{RoomID: seat.Room(), Reason: reason}).Frame())
}

func (s *session) seat(roomID []byte) *room.Seat {
	s.mu.Lock()
	defer s.mu.Unlock()
	return find(s.seats, roomID)
}
