package redisbus

import (
	"cmp"
	"context"
	"fmt"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wsrelay/relay/internal/bus"
)

const (
	// scanCount is how many sanctions one round trip reads, about.
	scanCount = 1000
	// pushesMax bounds the pushes that are held while the table is read.
	pushesMax = 10_000
)

// sanctions is this instance's copy of all sanctions. Changes are pushed, each
// with the version before and after it. Whenever one does not follow, after
// every interruption, and when a comparison finds a difference, all are read
// anew. Without Redis, the last known ones hold.
type sanctions struct {
	bus  *Bus
	lane *lane
	wake chan struct{} // holds one: they are to be read anew

	subscription

	table bus.SanctionTable
	clock atomic.Pointer[reading]

	mu      sync.Mutex
	reading bool   // guarded by mu, like the next two
	held    []push // which came while reading
	spilled bool   // there were too many

	// Whoever may change these, and the table, also tells the handler: the
	// goroutine of read while reading, otherwise who holds mu. So what takes long
	// keeps nobody from receiving.
	version version
	foreign int // entries in Redis that cannot be read
}

// reading is what Redis's clock showed at a time of ours.
type reading struct {
	at    time.Time
	store int64 // ms
}

func (s *sanctions) init(b *Bus, l *lane) {
	s.bus, s.lane = b, l
	s.wake = make(chan struct{}, 1)
	s.version = nothing
	s.channel = b.keys.sanctions + "changes"
	s.again = s.nudge
}

func (s *sanctions) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// now is the time on Redis's clock, as far as is known. A jump of ours does not
// move it.
func (s *sanctions) now() int64 {
	if r := s.clock.Load(); r != nil {
		return r.store + time.Since(r.at).Milliseconds()
	}
	return time.Now().UnixMilli()
}

// start subscribes and then reads, so that nothing falls between.
func (s *sanctions) start(ctx context.Context) error {
	s.lane.receiver.add(&s.subscription)
	if err := s.lane.receiver.await(ctx, &s.subscription); err != nil {
		return err
	}
	if err := s.read(ctx, true); err != nil {
		return unavailable(err)
	}
	s.bus.hire(s.run)
	return nil
}

// run reads and compares when it is time.
func (s *sanctions) run() {
	ctx := s.bus.ctx
	due := time.NewTimer(s.pause())
	defer due.Stop()
	for failing := false; ctx.Err() == nil; {
		var err error
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
			err = s.read(ctx, false)
		case <-due.C:
			err = s.compare(ctx)
			due.Reset(s.pause())
		}
		if err == nil || ctx.Err() != nil {
			failing = false
			continue
		}
		s.bus.stats.Errors.Add(1)
		if !failing {
			failing = true
			s.bus.log.Warn("the sanctions could not be read; those last known hold", "redis", s.bus.where, "error", err)
		}
		again := time.NewTimer(500 * time.Millisecond)
		select {
		case <-again.C:
		case <-ctx.Done():
		}
		again.Stop()
		s.nudge()
	}
}

// pause is around Compare, so that instances do not all ask at once.
func (s *sanctions) pause() time.Duration {
	d := s.bus.time.Compare
	return d*3/4 + mathrand.N(d/2)
}

// position is where the sanctions stand in Redis.
type position struct {
	version version
	count   int   // in force
	now     int64 // ms on Redis's clock
}

func (s *sanctions) look(ctx context.Context) (position, error) {
	start := time.Now()
	v, err := s.bus.scripts.state.Run(ctx, s.bus.client, []string{s.bus.keys.sanctions}).Slice()
	if err != nil {
		return position{}, fmt.Errorf("asking where the sanctions stand: %w", err)
	}
	took := time.Since(start)
	if len(v) < 3 {
		return position{}, fmt.Errorf("asking where the sanctions stand: %w", errForeign)
	}
	text, _ := v[0].(string)
	p := position{version(text), int(number(v[1])), int64(number(v[2]))}
	if s.clock.Load() == nil || took < time.Second {
		s.clock.Store(&reading{start.Add(took / 2), p.now})
	}
	return p, nil
}

// compare finds what no push told.
func (s *sanctions) compare(ctx context.Context) error {
	p, err := s.look(ctx)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.table.Purge(p.now)
	same := p.version == s.version && p.count == s.table.Len()+s.foreign
	s.mu.Unlock()
	if !same {
		return s.read(ctx, false)
	}
	return nil
}

// read replaces the table with what is in Redis, and tells the handler of the
// differences unless it is the first time.
//
// The state is that of when it began to read, or later; pushes that come
// meanwhile are applied to it in their order, which does no harm to what was
// read with them in it already.
func (s *sanctions) read(ctx context.Context, first bool) error {
	s.mu.Lock()
	s.reading = true
	s.mu.Unlock()
	defer s.release()
	at, err := s.look(ctx)
	if err != nil {
		return err
	}
	all, err := s.scan(ctx)
	if err != nil {
		return err
	}
	s.replace(at, all, first)
	return nil
}

// scan reads every entry: its text by its id.
func (s *sanctions) scan(ctx context.Context) (map[string]string, error) {
	all := make(map[string]string)
	for cursor := uint64(0); ; {
		pairs, next, err := s.bus.client.HScan(ctx, s.bus.keys.sanctions+"all", cursor, "", scanCount).Result()
		if err != nil {
			return nil, fmt.Errorf("reading the sanctions: %w", err)
		}
		for i := 0; i+1 < len(pairs); i += 2 {
			all[pairs[i]] = pairs[i+1]
		}
		if cursor = next; cursor == 0 {
			return all, nil
		}
	}
}

// replace makes the table what was read.
func (s *sanctions) replace(at position, all map[string]string, first bool) {
	s.table.Purge(at.now)
	found := make(map[string]*bus.Sanction, len(all))
	foreign := 0
	for id, rest := range all {
		sanction, err := decodeSanction(id, rest)
		if err != nil {
			s.unreadable(err)
			foreign++
		} else if !sanction.Ended(at.now) {
			found[id] = sanction
		}
	}
	lost := 0
	for _, id := range s.table.IDs() {
		if was := s.table.Find(id); found[id] == nil || *found[id] != *was {
			s.table.Remove(id)
			s.bus.handler.Lifted(was)
			lost++
		}
	}
	var fresh []*bus.Sanction
	for _, sanction := range found {
		if s.table.Add(sanction) {
			fresh = append(fresh, sanction)
		}
	}
	if !first {
		slices.SortFunc(fresh, func(a, b *bus.Sanction) int {
			return cmp.Or(cmp.Compare(a.Issued, b.Issued), strings.Compare(a.ID, b.ID))
		})
		for _, sanction := range fresh {
			s.bus.handler.Sanctioned(sanction)
		}
		if s.version != nothing && !at.version.covers(s.version) {
			s.bus.log.Warn("the sanctions in redis are not those of before: it was flushed, restored, or lost writes",
				"redis", s.bus.where, "gone", lost, "new", len(fresh), "in_force", s.table.Len())
		}
	}
	s.version, s.foreign = at.version, foreign
}

func (s *sanctions) unreadable(err error) {
	if s.bus.stats.Foreign.Add(1) == 1 {
		s.bus.log.Warn("a sanction cannot be read: is there another version, or something else, with this prefix?", "prefix", s.bus.opts.Prefix, "error", err)
	}
}

// release ends the reading with the pushes that were held.
func (s *sanctions) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.held) > 0 {
		held := s.held
		s.held = nil
		s.mu.Unlock()
		for _, p := range held {
			s.take(p)
		}
		s.mu.Lock()
	}
	if s.spilled {
		s.spilled = false
		s.nudge()
	}
	s.reading = false
}

// hear takes what came over the channel.
func (s *sanctions) hear(payload string) {
	p, err := decodePush(payload)
	if err != nil {
		s.unreadable(err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !s.reading:
		s.take(p)
	case len(s.held) < pushesMax:
		s.held = append(s.held, p)
	default:
		s.spilled = true
	}
}

// take applies a push that follows what is known. One that does not is older, or
// something before it is missing.
func (s *sanctions) take(p push) {
	if p.sign == '!' {
		s.bus.handler.Sanctioned(p.sanction)
		return
	}
	if p.before != s.version {
		if !s.version.covers(p.after) {
			s.nudge()
		}
		return
	}
	s.version = p.after
	if p.sign == '-' {
		if was := s.table.Remove(p.sanction.ID); was != nil {
			s.bus.handler.Lifted(was)
		}
		return
	}
	if s.table.Add(p.sanction) {
		s.bus.handler.Sanctioned(p.sanction)
	}
}
