// Package room holds the rooms that have members on this instance: who sits in
// them, what their policy allows, and the delivery of what the bus brings.
//
// A message passes here twice. On its way in, Publish asks the room's policy and
// hands the message to the bus; on its way back, Deliver encodes it once and
// queues it to every seat. In between it belongs to the bus, for local members
// too: one path, one order.
//
// A room owns no goroutine. It lives while somebody sits in it or is about to.
package room

import (
	"context"
	"fmt"
	"hash/maphash"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wsrelay/relay/auth"
	"github.com/wsrelay/relay/internal/bus"
	"github.com/wsrelay/relay/internal/room/policy"
	"github.com/wsrelay/relay/internal/wire"
	"github.com/wsrelay/relay/telemetry"
)

// Actor is who does something through a socket. It is immutable; a refreshed
// token makes a new one.
type Actor struct {
	Identity *auth.Identity
	User     []byte // what others see of the identity: a JSON object
	Conn     string // connection id
	Endpoint string
	IP       string
	Bound    string // of a guest: the address that sanctions bind it by; otherwise empty
}

// Sink is one socket as a room sees it. Its methods never block and never call
// back into the room: they are called while the room's order is held.
type Sink interface {
	// Send queues a frame.
	Send(f *wire.Frame)
	// Evicted tells that the socket lost its seat without asking: the seat is
	// gone from the room, and the sink tells its client why.
	Evicted(s *Seat, reason string)
}

// Reasons of Evicted, and of the Left event that follows.
const (
	ReasonPolicy = "policy" // a reload or a new token took the right to be here
	ReasonKicked = "kicked"
	ReasonBanned = "banned"
)

// Options of a Registry.
type Options struct {
	Bus   bus.Bus
	Rules Rules
	Log   *slog.Logger
	// Traces makes traces of messages; nil: none. System and Publish name the bus
	// there: redis and memory, and the operations that publish to rooms with
	// history and to plain ones.
	Traces  *telemetry.Traces
	Metrics *telemetry.Metrics // nil: filters and the bus are not timed
	Hints   bool               // errors tell developers more: which rule or filter, and where the trace is
	System  string
	Publish [2]string
	// Everywhere hears of sanctions that are not about one room, or were lifted.
	// It must not block. Nil: nobody does.
	Everywhere func(*bus.Sanction)
	// JoinBuffer bounds the bytes that are held back for one socket between its
	// subscription and its joined reply. More than that and the join fails.
	JoinBuffer int
	// ResumeBytes and ResumeMax bound what one resume brings back.
	ResumeBytes, ResumeMax int
	// Output is told when events come in a row, so that what they cause is written
	// together; nil: nobody is.
	Output   bus.Gatherer
	Limiters int // rate limiters kept, see limiters
}

const shards = 64

// Registry is all rooms of this instance. It is the bus's Handler.
type Registry struct {
	bus    bus.Bus
	log    *slog.Logger
	opt    Options
	force  atomic.Pointer[Rules]
	limits *limiters
	seed   maphash.Seed
	shard  [shards]shard
	stats  Stats

	times   times
	judging sync.WaitGroup // messages with filters, and what follows from verdicts
	asides  chan struct{}  // places for work that nobody waits for
}

// Rules are what a reload replaces at once.
type Rules struct {
	Policies *policy.Set
	Filters  []Filters           // of each policy, by its Index; nil entries judge nothing
	Samples  []telemetry.Sampler // likewise; zero entries leave it to the endpoint
	Meters   []*Meters           // likewise; nil entries count nothing
}

// match finds the rules of a room; policy is nil where none match.
func (f *Rules) match(roomID string) *rules {
	p, params := f.Policies.Match(roomID)
	ru := &rules{policy: p, params: params}
	if p != nil && p.Index < len(f.Filters) {
		ru.filters = f.Filters[p.Index]
	}
	if p != nil && p.Index < len(f.Samples) {
		ru.sample = f.Samples[p.Index]
	}
	if p != nil && p.Index < len(f.Meters) {
		ru.meters = f.Meters[p.Index]
	}
	return ru
}

type shard struct {
	mu    sync.RWMutex
	rooms map[string]*Room // guarded by mu
}

// Stats counts what the registry did. Read with the atomic methods.
type Stats struct {
	Rooms, Seats         atomic.Int64 // now
	Delivered            atomic.Int64 // chats queued to sockets
	Received             atomic.Int64 // events from the bus for occupied rooms
	Refused              atomic.Int64 // requests that a policy, limit, rate, sanction or filter refused
	Flagged              atomic.Int64 // flags that filters put on messages
	AsideDropped         atomic.Int64 // sanctions and late redactions that could not be carried out
	JoinOverflow         atomic.Int64 // joins that failed because the room was too busy meanwhile
	PublishFailed        atomic.Int64 // messages that the bus refused or lost track of
	DeliveredUnsequenced atomic.Int64
	audits               [len(auditActions)]atomic.Int64
}

// auditActions are what audit lines tell of.
var auditActions = [...]string{"warn", "mute", "kick", "ban", "redact"}

// Audits calls f with the number of audit lines of each kind.
func (s *Stats) Audits(f func(action string, n int64)) {
	for i, action := range auditActions {
		f(action, s.audits[i].Load())
	}
}

// New makes an empty registry. The caller starts the bus with it as handler.
func New(opt Options) *Registry {
	if opt.JoinBuffer == 0 {
		opt.JoinBuffer = 1 << 20
	}
	if opt.ResumeBytes == 0 {
		opt.ResumeBytes = 512 << 10
	}
	if opt.ResumeMax == 0 {
		opt.ResumeMax = 1000
	}
	g := &Registry{bus: opt.Bus, log: opt.Log, opt: opt, limits: newLimiters(opt.Limiters, time.Now), seed: maphash.MakeSeed()}
	g.times = newTimes(opt.Metrics, opt.System)
	g.asides = make(chan struct{}, maxAsides)
	g.force.Store(&opt.Rules)
	for i := range g.shard {
		g.shard[i].rooms = make(map[string]*Room)
	}
	return g
}

// Stats gives the live counters.
func (g *Registry) Stats() *Stats { return &g.stats }

func (g *Registry) shardOf(room string) *shard {
	return &g.shard[maphash.String(g.seed, room)%shards]
}

// acquire returns the room, made on first use, and keeps it alive until
// release. A new one has the rules in force, not those that somebody was let in
// by: a Reload that has passed here does not come again.
func (g *Registry) acquire(id string) *Room {
	sh := g.shardOf(id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	r := sh.rooms[id]
	if r == nil {
		r = &Room{id: id, reg: g, members: make(map[string]*presence)}
		r.rules.Store(g.force.Load().match(id))
		sh.rooms[id] = r
		g.stats.Rooms.Add(1)
	}
	r.refs++
	return r
}

func (g *Registry) release(r *Room) {
	sh := g.shardOf(r.id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if r.refs--; r.refs == 0 {
		delete(sh.rooms, r.id)
		g.stats.Rooms.Add(-1)
	}
}

// Gather implements bus.Handler.
func (g *Registry) Gather() {
	if out := g.opt.Output; out != nil {
		out.Gather()
	}
}

// Flush implements bus.Handler.
func (g *Registry) Flush() {
	if out := g.opt.Output; out != nil {
		out.Flush()
	}
}

// Deliver implements bus.Handler.
func (g *Registry) Deliver(e *bus.Event) {
	sh := g.shardOf(e.Room)
	sh.mu.RLock()
	r := sh.rooms[e.Room]
	sh.mu.RUnlock()
	if r != nil {
		g.stats.Received.Add(1)
		r.deliver(e)
	}
}

// each calls f for every room, holding no lock of the registry while it does.
func (g *Registry) each(f func(*Room)) {
	var rooms []*Room
	for i := range g.shard {
		sh := &g.shard[i]
		sh.mu.Lock()
		rooms = rooms[:0]
		for _, r := range sh.rooms {
			r.refs++
			rooms = append(rooms, r)
		}
		sh.mu.Unlock()
		for _, r := range rooms {
			f(r)
			g.release(r)
		}
	}
}

// Reload puts new policies in force. Publish, moderate and rates hold from the
// next request; join is asked again of everyone present, and who fails leaves
// with ReasonPolicy. Messages that are with the old filters keep their rulings.
func (g *Registry) Reload(ctx context.Context, now Rules) {
	g.force.Store(&now)
	g.each(func(r *Room) {
		r.rules.Store(now.match(r.id))
		for _, s := range r.snapshot() {
			g.recheck(ctx, s)
		}
	})
}

// Recheck gives a seat the identity of a fresh token, and asks the room's join
// rule again. It reports whether the seat was kept.
func (g *Registry) Recheck(ctx context.Context, s *Seat, a *Actor) bool {
	s.actor.Store(a) // before the question: a reload that comes meanwhile asks it of the same
	return g.recheck(ctx, s)
}

// recheck asks the room's join rule of who sits there. The answer counts when
// neither has been replaced meanwhile: a reload and a fresh token may come at once.
func (g *Registry) recheck(ctx context.Context, s *Seat) bool {
	for {
		ru, a := s.room.rules.Load(), s.actor.Load()
		kept := ru.policy != nil && ru.policy.Allow(policy.Join, ru.input(s.room, a, true)).Allowed
		switch {
		case s.room.rules.Load() != ru || s.actor.Load() != a:
			continue
		case kept:
			return true
		}
		if s.leave(ctx, bus.Leaving{Reason: ReasonPolicy}) {
			s.sink.Evicted(s, ReasonPolicy)
		}
		return false
	}
}

// Close waits until no message is with the filters and everything that follows
// from their verdicts is carried out, or until ctx ends. Whoever calls it sees to
// it that nothing new comes in.
func (g *Registry) Close(ctx context.Context) error {
	done := make(chan struct{})
	go func() { g.judging.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for filters: %w", ctx.Err())
	}
}
