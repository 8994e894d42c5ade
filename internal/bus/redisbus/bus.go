// Package redisbus is the bus over Redis or Valkey, for any number of
// instances: a single server, a primary watched by sentinels, or a cluster.
//
// What must be one step is a script on the server (scripts/); keys.go has the
// layout there. On this side a lane is one way to a server: a publisher that
// sends everything in order, and a receiver with its own connection. A single
// server has one lane for all rooms, a cluster one per partition; the sanctions
// have one of their own, so that rooms with much to say do not delay a ban.
//
//	Publish → publisher (publisher.go) → script → PUBLISH → receiver
//	(receiver.go) → room (room.go) → Handler
//
// The library does all but two things: a publisher and a receiver speak on their
// connections themselves (link.go, resp.go, inbox.go). It would have the one wait
// there, and hand the other its messages one at a time.
//
// A room knows where in its stream it stands. What does not follow is held
// until the healer (heal.go) has read back what is missing. Presence
// (presence.go) is written by scripts, which those who come and go at once share
// round trips for (calls.go), and noted here (roster.go), so that what Redis loses
// of it can be put back (audit.go); lease.go says who is alive. Sanctions (sanctions.go) are
// copied whole to every instance, and kept up by pushes.
package redisbus

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wsrelay/relay/internal/bus"
)

var _ bus.Bus = (*Bus)(nil)

// Bus is one instance's connection to the others.
type Bus struct {
	opts    Options
	log     *slog.Logger
	time    Timings
	where   string
	keys    *keys
	scripts *scripts
	stats   Stats
	name    string    // random: the channel on which this bus hears its own probes
	made    time.Time // what probes' times count from

	sharded    bool   // a cluster
	publishCmd string // SPUBLISH there
	maxQueued  int    // of each lane

	client  redis.UniversalClient // for all but publishing and receiving
	cluster *redis.ClusterClient  // the same, on a cluster
	single  *redis.Client         // the same, elsewhere

	lanes     []*lane // one, or one per partition, and one for the sanctions
	rooms     rooms
	roster    roster
	lease     lease
	audit     audit
	sanctions sanctions

	handler   bus.Handler  // set by Start, before any goroutine
	gathering atomic.Int32 // calls of Gather without their Flush

	ctx    context.Context // ends when Close has drained
	cancel context.CancelFunc
	wg     sync.WaitGroup // everything that Start began

	mu      sync.Mutex // guards the life of the bus
	started bool
	closing atomic.Bool // written under mu
	closed  chan struct{}
}

// New makes a bus that is not connected yet. An error is about the options.
func New(o Options) (*Bus, error) {
	o = o.withDefaults()
	u, err := o.resolve()
	if err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	where := o.where(u)
	// Credentials stay with the library.
	o.URL, o.User, o.Password, o.Sentinel, o.TLS = "", "", "", nil, nil
	b := &Bus{
		opts: o, made: time.Now(), time: o.Timings, where: where, sharded: u.IsClusterMode,
		log: o.Logger, keys: newKeys(o.Prefix), closed: make(chan struct{}),
	}
	b.name, b.publishCmd, b.maxQueued = rand.Text(), "publish", o.MaxQueued
	if b.sharded {
		b.publishCmd, b.maxQueued = "spublish", max(1<<20, o.MaxQueued/partitions)
	}
	b.scripts = newScripts(b.keys, b.sharded)
	b.ctx, b.cancel = context.WithCancel(context.Background())
	if b.sharded {
		c := u.Cluster()
		c.MaxRedirects = 3
		b.cluster = redis.NewClusterClient(c)
		b.client = b.cluster
	} else {
		if u.MasterName != "" {
			b.single = redis.NewFailoverClient(u.Failover())
		} else {
			b.single = redis.NewClient(u.Simple())
		}
		b.client = b.single
	}
	b.rooms.init(b)
	b.roster.init()
	b.lease.init(b)
	b.audit.init(b)
	b.lanes = append(b.lanes, newLane(b, b.keys.partition[0]))
	if b.sharded {
		for _, base := range b.keys.partition[1:] {
			b.lanes = append(b.lanes, newLane(b, base))
		}
	}
	b.sanctions.init(b, newLane(b, b.keys.sanctions))
	b.lanes = append(b.lanes, b.sanctions.lane)
	return b, nil
}

// lane is the way to a room's server.
func (b *Bus) lane(room string) *lane { return b.laneOf(partitionOf(room)) }

func (b *Bus) laneOf(part int) *lane {
	if !b.sharded {
		return b.lanes[0]
	}
	return b.lanes[part]
}

// Start connects, and returns when a message came all the way round.
func (b *Bus) Start(ctx context.Context, h bus.Handler) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closing.Load() {
		return fmt.Errorf("starting the bus: %w", bus.ErrClosed)
	}
	if b.started {
		return errors.New("starting the bus: started already")
	}
	if err := patiently(func() error { return b.check(ctx) }); err != nil {
		return fmt.Errorf("connecting to Redis (%s): %w", b.where, err)
	}
	if err := patiently(func() error { return b.lease.take(ctx) }); err != nil {
		return fmt.Errorf("taking a lease in Redis (%s): %w", b.where, err)
	}
	b.handler, b.started = h, true
	b.lease.start()
	b.wg.Go(b.tick)
	b.wg.Go(b.sweep)
	b.wg.Go(b.audit.run)
	if err := b.lanes[0].await(ctx); err != nil {
		return fmt.Errorf("waiting for a message to come round through Redis (%s): %w", b.where, err)
	}
	if err := b.sanctions.start(ctx); err != nil {
		return fmt.Errorf("reading the sanctions from Redis (%s): %w", b.where, err)
	}
	return nil
}

// patiently tries f again when no answer came in time: a server with much to do is
// no reason to give up a start. A refused connection is told at once.
func patiently(f func() error) (err error) {
	for range attempts {
		var timeout net.Error
		if err = f(); err == nil || !errors.As(err, &timeout) || !timeout.Timeout() {
			return err
		}
	}
	return err
}

// check says in an operator's words what is wrong with a server.
func (b *Bus) check(ctx context.Context) error {
	err := b.client.Ping(ctx).Err()
	switch {
	case err == nil:
	case redis.IsAuthError(err):
		return fmt.Errorf("%w: check user and password", err)
	case fateOf(err) == refused:
		return err
	default:
		return fmt.Errorf("%w: %w: is it running, and is the address right?", bus.ErrUnavailable, err)
	}
	if err := b.scripts.leave.Load(ctx, b.client).Err(); err != nil && fateOf(err) != refused {
		return fmt.Errorf("%w: loading a script: %w", bus.ErrUnavailable, err)
	} else if err != nil {
		return fmt.Errorf("loading a script: %w: the user needs the commands SCRIPT, EVALSHA and INFO besides those on data", err)
	}
	return nil
}

// Close drains, bounded by ctx, and joins. See bus.Bus.
func (b *Bus) Close(ctx context.Context) error {
	b.mu.Lock()
	first := !b.closing.Swap(true)
	started := b.started
	b.mu.Unlock()
	if !first {
		select {
		case <-b.closed:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("closing the bus: %w", ctx.Err())
		}
	}
	defer close(b.closed)
	var err error
	if started {
		for _, l := range b.lanes {
			err = errors.Join(err, l.publisher.drain(ctx))
		}
	}
	if started {
		b.lease.drop(ctx)
	}
	b.cancel()
	for _, l := range b.lanes {
		l.receiver.hangUp(bus.ErrClosed)
	}
	b.wg.Wait()
	if cerr := b.client.Close(); cerr != nil && !errors.Is(cerr, redis.ErrClosed) {
		err = errors.Join(err, cerr)
	}
	if err != nil {
		return fmt.Errorf("closing the bus: %w", err)
	}
	return nil
}

// open is nil while the bus takes requests.
func (b *Bus) open() error {
	if b.closing.Load() {
		return bus.ErrClosed
	}
	if b.handler == nil {
		return fmt.Errorf("%w: not started", bus.ErrUnavailable)
	}
	return nil
}

// ready is nil while requests about a room can be expected to succeed.
func (b *Bus) ready(room string) error {
	return b.lane(room).ready()
}

// Gather implements bus.Bus.
func (b *Bus) Gather() { b.gathering.Add(1) }

// Flush sends what was put off, on the caller's goroutine.
func (b *Bus) Flush() {
	b.gathering.Add(-1)
	for _, l := range b.lanes {
		l.publisher.flush()
	}
}

// Health is nil while probes come round on every lane in use and the lease is
// kept.
func (b *Bus) Health() error {
	if err := b.open(); err != nil {
		return err
	}
	for _, l := range b.lanes {
		if err := l.health(); err != nil {
			return err
		}
	}
	return b.lease.health()
}

// Stats are the bus's own; read them at any time.
func (b *Bus) Stats() *Stats { return &b.stats }

// hire begins goroutines that end with the bus, unless it is ending.
func (b *Bus) hire(work ...func()) bool {
	if b.ctx.Err() != nil {
		return false
	}
	for _, f := range work {
		b.wg.Go(f)
	}
	return true
}

// tick does what is due and does not wait for Redis.
func (b *Bus) tick() {
	step := min(b.time.Probe, b.time.Linger, b.time.Compare/4)
	ticker := time.NewTicker(step)
	defer ticker.Stop()
	var probed time.Time
	for {
		select {
		case <-b.ctx.Done():
			return
		case now := <-ticker.C:
			if now.Sub(probed) >= b.time.Probe {
				probed = now
				for _, l := range b.lanes {
					l.probe(now)
				}
			}
			b.rooms.tidy(now)
		}
	}
}
