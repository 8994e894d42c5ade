package redisbus

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wsrelay/relay/internal/bus"
)

// lane is one way to a server and back: what is published there in order, and
// what is received from there. A cluster has one for each partition, begun when
// it is first used, so that a node that is away holds up nothing else.
type lane struct {
	bus  *Bus
	base string // what keys begin with that it leads to; on a single server all rooms'

	publisher publisher
	receiver  receiver
	healer    healer
	calls     calls

	begun   atomic.Bool // written under mu
	stirred atomic.Bool // something came since the last look

	mu      sync.Mutex
	heard   time.Time     // when anything last came
	round   chan struct{} // closed when the first probe came round
	ringing bool          // it has
}

func newLane(b *Bus, base string) *lane {
	l := &lane{bus: b, base: base, round: make(chan struct{})}
	l.publisher.init(l)
	l.receiver.init(l)
	l.healer.init(l)
	l.calls.lane = l
	return l
}

// use begins the lane's work unless it has begun or the bus is closing.
func (l *lane) use() {
	if l.begun.Load() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.begun.Load() || !l.bus.hire(l.publisher.run, l.receiver.run) {
		return
	}
	l.heard = time.Now()
	l.begun.Store(true)
	workers := 4
	switch {
	case l == l.bus.sanctions.lane:
		workers = 0 // no rooms
	case l.bus.sharded:
		workers = 1
	}
	for range workers {
		l.bus.hire(l.healer.run)
	}
}

// await begins the lane and waits for a probe to come round.
func (l *lane) await(ctx context.Context) error {
	l.use()
	again := time.NewTicker(min(50*time.Millisecond, l.bus.time.Probe))
	defer again.Stop()
	for {
		select {
		case <-l.round:
			return nil
		case <-ctx.Done():
			if err := l.health(); err != nil {
				return fmt.Errorf("%w: %w", ctx.Err(), err)
			}
			return ctx.Err()
		case <-l.bus.ctx.Done():
			return bus.ErrClosed
		case now := <-again.C:
			l.send(now)
		}
	}
}

// probe sends one round, and gives the connection up that has been silent for
// too long.
func (l *lane) probe(now time.Time) {
	if !l.begun.Load() {
		return
	}
	l.send(now)
	if l.stirred.Swap(false) {
		l.alive(now)
	}
	if silent := now.Sub(l.last()); silent > l.bus.time.Silence && l.publisher.state() == nil {
		l.receiver.hangUp(fmt.Errorf("no probe came round for %v", silent.Round(time.Millisecond)))
	}
}

func (l *lane) send(now time.Time) {
	l.publisher.probe(&outgoing{
		channel: l.probeChannel(), payload: []byte(strconv.FormatInt(int64(now.Sub(l.bus.made)), 10)),
	})
}

// probeChannel is where this instance hears itself.
func (l *lane) probeChannel() string { return l.base + "probe:" + l.bus.name }

// hear takes a probe that came round.
func (l *lane) hear(payload string) {
	now := time.Now()
	if sent, err := strconv.ParseInt(payload, 10, 64); err == nil {
		l.bus.stats.probe.Store(int64(now.Sub(l.bus.made)) - sent)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heard = now
	if !l.ringing {
		l.ringing = true
		close(l.round)
	}
}

// alive notes that something came.
func (l *lane) alive(now time.Time) {
	l.mu.Lock()
	l.heard = now
	l.mu.Unlock()
}

func (l *lane) last() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.heard
}

// ready is nil while requests to the lane's server can be expected to succeed.
func (l *lane) ready() error {
	if err := l.bus.open(); err != nil {
		return err
	}
	return l.publisher.state()
}

func (l *lane) health() error {
	if !l.begun.Load() {
		return nil
	}
	if err := l.publisher.state(); err != nil {
		return err
	}
	if err := l.receiver.state(); err != nil {
		return err
	}
	if silent := time.Since(l.last()); silent > l.bus.time.Silence {
		return fmt.Errorf("%w: no probe came round through Redis (%s) for %v", bus.ErrUnavailable, l.bus.where, silent.Round(time.Second))
	}
	return nil
}

// node is the client of the server that the lane leads to.
func (l *lane) node(ctx context.Context) (*redis.Client, error) {
	if l.bus.cluster == nil {
		return l.bus.single, nil
	}
	return l.bus.cluster.MasterForKey(ctx, l.base)
}

// astray tells a cluster's client that its map of the slots is out of date.
func (l *lane) astray() {
	if l.bus.cluster != nil {
		l.bus.cluster.ReloadState(l.bus.ctx)
	}
}
