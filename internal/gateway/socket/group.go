package socket

import (
	"context"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wsrelay/relay/internal/wire"
)

// Group is all connections of an instance. It keeps one coarse clock and one
// sweeper for them, so that none needs a timer or a deadline per write.
type Group struct {
	stats   Stats
	clock   atomic.Int64 // nanoseconds since start, moved on by the sweeper
	start   time.Time
	stop    chan struct{}
	own     sync.WaitGroup // the sweeper, the loops and the writers
	shards  []*shard
	writers writers
	ways    atomic.Pointer[way] // of the last Upgrade

	gathering atomic.Int32 // calls of Gather without their Flush
	behind    Gatherer     // is told what comes in a row; nil: nobody is

	mu      sync.Mutex
	stopped bool           // guarded by mu
	work    sync.WaitGroup // connections, and writers that may wait; from zero only under mu while not stopped
	next    atomic.Uint32  // shard of the next connection
}

// Stats counts over all connections of a group.
type Stats struct {
	Open         atomic.Int64 // now
	Opened       atomic.Int64
	QueuedBytes  Sum // now, over all queues; a frame counts for 256 at least
	BytesIn      Sum // of messages
	BytesOut     Sum // of frames, and of the answers to handshakes
	Writes       Sum // calls that carried BytesOut
	ShedSignals  atomic.Int64
	ShedMembers  atomic.Int64
	ShedChats    atomic.Int64
	SlowCut      atomic.Int64 // connections closed with 4429
	CutChats     atomic.Int64 // chats that were lost with them
	closedByCode [len(countedCodes) + 1]atomic.Int64
}

// Sum is a counter that every delivery touches. Each shard has a part of its
// own, so that cores do not wait for each other.
type Sum struct{ parts []*atomic.Int64 }

// Load adds up.
func (s Sum) Load() (n int64) {
	for _, p := range s.parts {
		n += p.Load()
	}
	return n
}

// counts are a shard's parts.
type counts struct {
	queued, in, out, writes atomic.Int64
	_                       [32]byte // the rest of a cache line
}

// countedCodes are the codes that are counted apart; clients can send any other.
var countedCodes = [...]wire.CloseCode{
	0, wire.CloseNormal, wire.CloseGoingAway, wire.CloseProtocol, wire.CloseUnsupported, wire.CloseInvalidData, wire.ClosePolicy, wire.CloseTooBig,
	wire.CloseRestart, wire.CloseOverload, wire.CloseUnauthenticated, wire.CloseForbidden, wire.CloseTimeout, wire.CloseSlow,
}

func (s *Stats) countClose(code wire.CloseCode) {
	for i, c := range countedCodes {
		if c == code {
			s.closedByCode[i].Add(1)
			return
		}
	}
	s.closedByCode[len(countedCodes)].Add(1)
}

// Closed is how many connections ended with a code: 0 is without one, codes
// that relay does not use are counted together under 1.
func (s *Stats) Closed(f func(code wire.CloseCode, n int64)) {
	for i, c := range countedCodes {
		f(c, s.closedByCode[i].Load())
	}
	f(1, s.closedByCode[len(countedCodes)].Load())
}

// count notes a frame that was not queued.
func (s *Stats) count(k wire.Class) {
	switch k {
	case wire.ClassChat:
		s.ShedChats.Add(1)
	case wire.ClassMember:
		s.ShedMembers.Add(1)
	default:
		s.ShedSignals.Add(1)
	}
}

// Gatherer is told which messages come in a row: those between Gather and Flush
// were read without a wait in between.
type Gatherer interface {
	Gather()
	Flush()
}

// NewGroup starts a group; Stop ends it. behind, if not nil, is told which calls
// of handlers come in a row.
func NewGroup(behind Gatherer) *Group {
	g := newGroup()
	g.behind = behind
	g.own.Go(g.sweep)
	return g
}

// newGroup makes a group whose time stands still until somebody calls step.
func newGroup() *Group {
	g := &Group{start: time.Now(), stop: make(chan struct{})}
	g.writers.init(g)
	for range runtime.GOMAXPROCS(0) {
		s := &shard{group: g}
		g.shards = append(g.shards, s)
		g.stats.QueuedBytes.parts = append(g.stats.QueuedBytes.parts, &s.counts.queued)
		g.stats.BytesIn.parts = append(g.stats.BytesIn.parts, &s.counts.in)
		g.stats.BytesOut.parts = append(g.stats.BytesOut.parts, &s.counts.out)
		g.stats.Writes.parts = append(g.stats.Writes.parts, &s.counts.writes)
	}
	return g
}

// Stats gives the live counters.
func (g *Group) Stats() *Stats { return &g.stats }

// Gather and Flush enclose the work of somebody who queues frames for several
// sockets and does not wait in between: until Flush, nobody is woken up to write
// a few of them, because Flush writes them, on the goroutine of the caller. Many
// are left to the writers. Whose frames they are does not matter, so Flush must
// follow soon, and always. A frame waits at most until the first Flush of anybody:
// for the work of one row, that is one read from Redis (32 KiB, or one message),
// the answers of one of its round trips, or one round of a core's sockets (256
// events, and those left over), none of which waits for the network.
func (g *Group) Gather() { g.gathering.Add(1) }

// Flush ends what Gather began.
func (g *Group) Flush() {
	g.gathering.Add(-1)
	g.writers.flush()
}

// beginRow and endRow enclose the reading of several sockets: what comes of it
// leaves together.
func (g *Group) beginRow() {
	g.Gather()
	if g.behind != nil {
		g.behind.Gather()
	}
}

func (g *Group) endRow() {
	if g.behind != nil {
		g.behind.Flush()
	}
	g.Flush()
}

// now is the coarse time, in nanoseconds since the group started.
func (g *Group) now() int64 { return g.clock.Load() }

// enter counts a connection that begins; false after Stop.
func (g *Group) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopped {
		return false
	}
	g.work.Add(1)
	g.stats.Open.Add(1)
	g.stats.Opened.Add(1)
	return true
}

func (g *Group) isStopped() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.stopped
}

func (g *Group) remove(c *conn) {
	c.place.shard.remove(c)
	g.stats.Open.Add(-1)
}

// nextShard spreads connections evenly.
func (g *Group) nextShard() *shard { return g.shards[int(g.next.Add(1)%uint32(len(g.shards)))] }

// Connections are looked at in groups of sweepGroup, each once per round of
// sweepRounds ticks: pings and timeouts are exact to a second.
const (
	tick        = 250 * time.Millisecond
	sweepRounds = 4
	sweepGroup  = 256
)

func (g *Group) sweep() {
	t := time.NewTicker(tick)
	defer t.Stop()
	var tide tide
	for n := 0; ; n++ {
		select {
		case <-g.stop:
			return
		case <-t.C:
			now := int64(time.Since(g.start))
			g.step(now, n%sweepRounds)
			if tide.ebb(now, 2*g.stats.Opened.Load()-g.stats.Open.Load(), g.stats.BytesIn.Load()+g.stats.BytesOut.Load()) {
				g.own.Go(debug.FreeOSMemory)
			}
		}
	}
}

// step moves the time on and looks at one round of connections.
func (g *Group) step(now int64, round int) {
	g.clock.Store(now)
	for _, s := range g.shards {
		s.each(round, sweepRounds, func(c *conn) { c.check(now) })
	}
}

// each calls f for every connection.
func (g *Group) each(f func(*conn)) {
	for _, s := range g.shards {
		s.each(0, 1, f)
	}
}

// Stop closes what is open with 1012 and waits until all connections have ended
// and their handlers heard of it. When ctx ends first, what is left is cut.
func (g *Group) Stop(ctx context.Context) {
	g.mu.Lock()
	first := !g.stopped
	g.stopped = true
	g.mu.Unlock()
	g.each(func(c *conn) { c.Close(wire.CloseRestart, "restart") })
	ended := make(chan struct{})
	go func() { g.work.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-ctx.Done():
		g.each(func(c *conn) { c.cut(Cause{By: Server, Err: ctx.Err()}) })
		<-ended
	}
	if first {
		close(g.stop)
		for _, s := range g.shards {
			s.stop()
		}
	}
	g.own.Wait()
}

// shard is a part of a group's connections, about as many as there are cores.
type shard struct {
	counts counts
	group  *Group
	loop   // how its connections are read where they have no goroutine

	mu    sync.Mutex
	conns []*conn // by slot; nil: free; guarded by mu
	free  []int32 // guarded by mu
}

// place is where a group keeps a connection.
type place struct {
	shard *shard
	slot  int32 // guarded by shard.mu
}

func (s *shard) add(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.free); n > 0 {
		c.place.slot = s.free[n-1]
		s.free = s.free[:n-1]
		s.conns[c.place.slot] = c
		return
	}
	c.place.slot = int32(len(s.conns))
	s.conns = append(s.conns, c)
}

func (s *shard) remove(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[c.place.slot] = nil
	s.free = append(s.free, c.place.slot)
}

// each calls f for the connections of one round in so many. It holds no lock
// meanwhile, and only one for a few of them at a time.
func (s *shard) each(round, of int, f func(*conn)) {
	var few [sweepGroup]*conn
	for from := round * sweepGroup; ; from += of * sweepGroup {
		s.mu.Lock()
		more := from < len(s.conns)
		n := 0
		if more {
			n = copy(few[:], s.conns[from:])
		}
		s.mu.Unlock()
		if !more {
			return
		}
		for _, c := range few[:n] {
			if c != nil {
				f(c)
			}
		}
	}
}
