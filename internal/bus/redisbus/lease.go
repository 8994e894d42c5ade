package redisbus

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wsrelay/relay/internal/bus"
)

// lease says that this instance is alive. While it is alive it is one
// incarnation: the owner of its members in Redis. An instance that finds its
// lease gone was away for longer than others wait, or Redis lost its memory;
// either way it begins another incarnation and puts its members back.
//
// The key lives for three quarters of a lease and is renewed every tenth. A
// survivor reaps an incarnation after a whole lease of having seen it absent,
// without a break in its own contact with Redis: so no ghost outlives two.
type lease struct {
	bus    *Bus
	ctx    context.Context // ends before the bus does
	cancel context.CancelFunc
	ended  sync.WaitGroup

	mu      sync.Mutex
	inc     string
	renewed time.Time // when the key was last seen alive
	trouble error

	strays  atomic.Bool // there may be members of a former incarnation
	fetched atomic.Bool // somebody puts them back

	// Below belongs to the goroutine of run.
	contact time.Time            // last pass without an error
	absent  map[string]time.Time // since when others were seen without a lease
}

func (l *lease) init(b *Bus) {
	l.bus = b
	l.ctx, l.cancel = context.WithCancel(b.ctx)
	l.absent = make(map[string]time.Time)
}

func (l *lease) life() time.Duration { return l.bus.time.Lease * 3 / 4 }

func (l *lease) incarnation() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.inc
}

// take begins an incarnation.
func (l *lease) take(ctx context.Context) error {
	inc := rand.Text()[:16]
	err := l.bus.client.Set(ctx, l.bus.keys.lease(inc), l.bus.opts.Instance, l.life()).Err()
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.inc, l.renewed, l.trouble = inc, time.Now(), nil
	l.mu.Unlock()
	return nil
}

// drop gives the lease up, so that what this instance leaves behind is reaped
// the sooner.
func (l *lease) drop(ctx context.Context) {
	l.cancel()
	l.ended.Wait()
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_ = l.bus.client.Del(ctx, l.bus.keys.lease(l.incarnation())).Err() // it runs out by itself
}

func (l *lease) health() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if age := time.Since(l.renewed); age > l.bus.time.Lease {
		return fmt.Errorf("%w: the lease in Redis (%s) was last renewed %v ago: %w", bus.ErrUnavailable, l.bus.where, age.Round(time.Second), l.trouble)
	}
	return nil
}

func (l *lease) start() {
	l.ended.Add(1)
	l.bus.wg.Go(func() {
		defer l.ended.Done()
		l.run()
	})
}

func (l *lease) run() {
	ticker := time.NewTicker(l.bus.time.Lease / 10)
	defer ticker.Stop()
	for {
		select {
		case <-l.ctx.Done():
			return
		case <-ticker.C:
		}
		if err := l.pass(time.Now()); err != nil && l.ctx.Err() == nil {
			l.bus.stats.Errors.Add(1)
			clear(l.absent)
			l.mu.Lock()
			l.trouble = err
			l.mu.Unlock()
		}
	}
}

// pass renews the lease and looks after the others'.
func (l *lease) pass(now time.Time) error {
	b := l.bus
	if err := b.lanes[0].publisher.state(); err != nil && !b.sharded {
		return err
	}
	inc := l.incarnation()
	alive, err := b.client.PExpire(l.ctx, b.keys.lease(inc), l.life()).Result()
	if err != nil {
		return err
	}
	if !alive {
		b.stats.Reborn.Add(1)
		b.log.Warn("this instance's lease in redis was gone; its members are put back", "redis", b.where)
		if err := l.take(l.ctx); err != nil {
			return err
		}
		l.strays.Store(true)
		clear(l.absent)
	}
	if l.strays.Load() && l.fetched.CompareAndSwap(false, true) {
		b.hire(l.fetch)
	}
	l.mu.Lock()
	l.renewed, l.trouble = now, nil
	l.mu.Unlock()
	// An interruption of contact, or of this process, begins the count anew.
	if now.Sub(l.contact) > b.time.Lease/2 {
		clear(l.absent)
	}
	l.contact = now
	return l.watch(now)
}

// watch looks for incarnations that own members and have no lease.
func (l *lease) watch(now time.Time) error {
	b := l.bus
	pipe := b.client.Pipeline()
	sets := make([]*redis.StringSliceCmd, partitions)
	for p := range partitions {
		sets[p] = pipe.SMembers(l.ctx, b.keys.partition[p]+"n")
	}
	_, err := pipe.Exec(l.ctx)
	where := make(map[string][]int)
	for p, c := range sets {
		incs, cerr := c.Result()
		if cerr != nil {
			err = errors.Join(err, cerr) // and go on with the nodes that are there
			continue
		}
		for _, inc := range incs {
			where[inc] = append(where[inc], p)
		}
	}
	if err != nil {
		return err
	}
	delete(where, l.incarnation())
	pipe = b.client.Pipeline()
	leases := make(map[string]*redis.IntCmd)
	for inc := range where {
		leases[inc] = pipe.Exists(l.ctx, b.keys.lease(inc))
	}
	if len(leases) > 0 {
		if _, err := pipe.Exec(l.ctx); err != nil {
			return err
		}
	}
	for inc := range l.absent {
		if c := leases[inc]; c == nil || c.Val() > 0 {
			delete(l.absent, inc)
		}
	}
	for inc, c := range leases {
		if c.Val() > 0 {
			continue
		}
		since, known := l.absent[inc]
		if !known {
			l.absent[inc] = now
		} else if now.Sub(since) >= b.time.Lease {
			if err := l.reap(inc, where[inc]); err != nil {
				return err
			}
			delete(l.absent, inc)
		}
	}
	return nil
}

// reapMax is how many members one script takes from a dead incarnation.
const reapMax = 200

func (l *lease) reap(inc string, parts []int) error {
	b := l.bus
	b.stats.Reaped.Add(1)
	b.log.Warn("an instance is gone; its members leave", "incarnation", inc, "partitions", len(parts))
	for len(parts) > 0 && l.ctx.Err() == nil {
		left, err := b.eachPartition(l.ctx, b.scripts.reap, parts, inc, reapMax)
		if err != nil {
			return err
		}
		var again []int
		for i, n := range left {
			if n > 0 {
				again = append(again, parts[i])
			}
		}
		parts = again
	}
	return nil
}

// fetch puts the members of former incarnations back. As long as there were any,
// the next pass looks again: some may have failed, and some may have been entered
// or put back meanwhile by an incarnation that was over before they were.
func (l *lease) fetch() {
	defer l.fetched.Store(false)
	l.strays.Store(false)
	now := l.incarnation()
	is := func(rec *record) bool { return rec.inc != now }
	list := l.bus.roster.pick(func(rec *record) bool { return rec.stays() && is(rec) })
	if len(list) > 0 {
		l.bus.putBack(list, is)
		l.strays.Store(true)
	}
}

// putBack enters members again, without a word, who stay and for whom lost holds
// when it is their turn. It reports that none failed.
func (b *Bus) putBack(list []who, lost func(*record) bool) bool {
	const side = 8
	var wg sync.WaitGroup
	var failed atomic.Int64
	queue := make(chan who)
	for range min(side, len(list)) {
		wg.Go(func() {
			for w := range queue {
				if err := b.putBackOne(w, lost); err != nil {
					b.stats.Errors.Add(1)
					failed.Add(1)
				}
			}
		})
	}
	for _, w := range list {
		select {
		case queue <- w:
		case <-b.ctx.Done():
		}
	}
	close(queue)
	wg.Wait()
	if n := failed.Load(); n > 0 {
		b.log.Warn("members could not be put back yet", "count", n)
	}
	return failed.Load() == 0
}

func (b *Bus) putBackOne(w who, lost func(*record) bool) error {
	rec, err := b.roster.take(b.ctx, w.room, w.member)
	if err != nil {
		return err
	}
	defer b.roster.release(rec)
	if !rec.stays() || rec.inc == "" || !lost(rec) {
		return nil
	}
	if err := b.ready(w.room); err != nil {
		return err
	}
	now := b.lease.incarnation()
	err = b.again(b.ctx, w.room, func() error {
		_, _, err := b.runEnter(b.ctx, rec.present.entry(w.room, w.member), now, "", rec.inc)
		return err
	})
	if err == nil {
		b.stats.Missing.Add(1)
		b.roster.set(rec, rec.present, now, nil)
	}
	return err
}
