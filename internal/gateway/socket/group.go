package socket

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wsrelay/relay/internal/wire"
)

// tick is how often the sweeper looks at every connection, and so how exact
// pings and timeouts are.
const tick = 250 * time.Millisecond

// Group is all connections of an instance. It keeps one coarse clock and one
// sweeper for them, so that none needs a timer or a deadline per write.
type Group struct {
	stats Stats
	clock atomic.Int64 // nanoseconds since start, moved on by the sweeper
	start time.Time
	done  chan struct{} // closed when the sweeper has ended
	stop  chan struct{}

	mu      sync.Mutex
	conns   map[*conn]struct{} // guarded by mu
	stopped bool               // guarded by mu
	work    sync.WaitGroup     // readers and writers; added to under mu while not stopped
}

// Stats counts over all connections of a group.
type Stats struct {
	Open         atomic.Int64 // now
	Opened       atomic.Int64
	QueuedBytes  atomic.Int64 // now, over all queues
	BytesIn      atomic.Int64 // of messages
	BytesOut     atomic.Int64 // of frames
	Writes       atomic.Int64 // calls that carried BytesOut
	ShedSignals  atomic.Int64
	ShedMembers  atomic.Int64
	ShedChats    atomic.Int64
	SlowCut      atomic.Int64 // connections closed with 4429
	closedByCode [len(countedCodes) + 1]atomic.Int64
}

// countedCodes are the codes that are counted apart; clients can send any other.
var countedCodes = [...]wire.CloseCode{
	0, wire.CloseNormal, wire.CloseGoingAway, 1002, wire.CloseUnsupported, wire.CloseInvalidData, wire.ClosePolicy, wire.CloseTooBig,
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

// NewGroup starts a group; Stop ends it.
func NewGroup() *Group {
	g := &Group{start: time.Now(), conns: make(map[*conn]struct{}), done: make(chan struct{}), stop: make(chan struct{})}
	go g.sweep()
	return g
}

// Stats gives the live counters.
func (g *Group) Stats() *Stats { return &g.stats }

// now is the coarse time, in nanoseconds since the group started.
func (g *Group) now() int64 { return g.clock.Load() }

func (g *Group) add(c *conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopped {
		return false
	}
	g.conns[c] = struct{}{}
	g.work.Add(1) // the reader
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
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.conns, c)
	g.stats.Open.Add(-1)
}

func (g *Group) snapshot(list []*conn) []*conn {
	g.mu.Lock()
	defer g.mu.Unlock()
	for c := range g.conns {
		list = append(list, c)
	}
	return list
}

func (g *Group) sweep() {
	defer close(g.done)
	t := time.NewTicker(tick)
	defer t.Stop()
	var list []*conn
	for {
		select {
		case <-g.stop:
			return
		case <-t.C:
		}
		now := int64(time.Since(g.start))
		g.clock.Store(now)
		list = g.snapshot(list[:0])
		for _, c := range list {
			c.check(now)
		}
		clear(list)
	}
}

// Stop closes what is open with 1012 and waits until all connections have ended
// and their handlers heard of it. When ctx ends first, what is left is cut.
func (g *Group) Stop(ctx context.Context) {
	g.mu.Lock()
	first := !g.stopped
	g.stopped = true
	g.mu.Unlock()
	for _, c := range g.snapshot(nil) {
		c.Close(wire.CloseRestart, "restart")
	}
	ended := make(chan struct{})
	go func() { g.work.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-ctx.Done():
		for _, c := range g.snapshot(nil) {
			c.sever(Cause{By: Server, Err: ctx.Err()})
		}
		<-ended
	}
	if first {
		close(g.stop)
	}
	<-g.done
}
