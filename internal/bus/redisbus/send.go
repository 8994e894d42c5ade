package redisbus

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wsrelay/relay/internal/bus"
)

// run sends until the bus ends or is drained.
func (p *publisher) run() {
	defer close(p.gone)
	defer p.end()
	for p.await() {
		if err := p.connect(); err != nil {
			p.failed(err)
			continue
		}
		p.send(p.batch())
	}
}

// await blocks until there is something to send or a connection to be made,
// and reports false when the work is over.
func (p *publisher) await() bool {
	ctx := p.lane.bus.ctx
	if p.failures > 0 {
		p.giveUp(time.Now())
		pause := time.NewTimer(min(500*time.Millisecond, 10*time.Millisecond<<min(p.failures, 6)))
		defer pause.Stop()
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
	}
	for {
		if ctx.Err() != nil {
			return false
		}
		p.mu.Lock()
		idle := len(p.queue) == 0 && len(p.signals) == 0 && len(p.unresolved) == 0 && p.probing == nil
		over, away := p.closing && idle, p.away != nil
		p.mu.Unlock()
		if over {
			return false
		}
		if !idle || away || p.failures > 0 {
			return true
		}
		select {
		case <-p.wake:
		case <-ctx.Done():
		}
	}
}

// batch is what to send next: first what was sent before, in its order.
func (p *publisher) batch() []*outgoing {
	batch := p.unresolved
	p.unresolved = nil
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	scripts := len(batch) > 0
	for n < len(p.queue) && len(batch) < batchMax && (!scripts || fits(batch, p.queue[n])) {
		p.bytes -= p.queue[n].size()
		scripts = scripts || p.queue[n].script != nil
		batch = append(batch, p.queue[n])
		p.queue[n] = nil
		n++
	}
	if p.queue = p.queue[n:]; len(p.queue) == 0 {
		p.queue = nil // let a large one go
	}
	if p.probing != nil {
		batch = append(batch, p.probing)
		p.probing = nil
	}
	for k, o := range p.signals {
		if len(batch) >= batchMax {
			break
		}
		batch = append(batch, o)
		delete(p.signals, k)
	}
	return batch
}

// fits reports whether o may go into the same round trip. Should the scripts
// turn out to be unknown there, what needs none is published while what needs
// one has to be sent again: the two must not be of one room, in that order.
func fits(batch []*outgoing, o *outgoing) bool {
	if o.script != nil {
		return true
	}
	for _, before := range batch {
		if before.script != nil && before.room == o.room {
			return false
		}
	}
	return true
}

// send makes the round trip and sorts out what became of each.
func (p *publisher) send(batch []*outgoing) {
	if len(batch) == 0 {
		p.succeeded()
		return
	}
	b := p.lane.bus
	now := time.Now()
	cmds, err := p.exec(batch, now)
	b.stats.Pipelines.Add(1)

	lost := fateOf(err) == unknown || fateOf(err) == unsent
	load, astray := false, lost
	for i, o := range batch {
		reply, cerr := outcome(cmds[i])
		if lost && cerr == nil {
			cerr = err
		}
		switch f := fateOf(cerr); {
		case f == done:
			if o.receipt != nil {
				b.stats.Published.Add(1)
			}
			if !strings.HasPrefix(reply, "S") {
				p.unrenewed(o) // the script did not come to that
			}
			if o.resolve(reply, nil) {
				p.conn.stale = true
			}
		case f == refused:
			b.stats.Errors.Add(1)
			p.unrenewed(o)
			if o.script != nil && strings.HasPrefix(cerr.Error(), "ERR ") { // it broke off somewhere
				o.resolve("", fmt.Errorf("%w: %w", bus.ErrUnknownOutcome, cerr))
			} else {
				o.resolve("", unavailable(cerr))
			}
		case f == noScript:
			load = true
			p.unresolved = append(p.unresolved, o)
		case o.script == nil && f == unknown:
			if o.receipt != nil {
				b.stats.Unknown.Add(1)
			}
			o.resolve("", fmt.Errorf("%w: %w", bus.ErrUnknownOutcome, cerr))
		default: // no answer, or not here: again, in order
			astray = true
			if err == nil {
				err = cerr
			}
			p.unresolved = append(p.unresolved, o)
		}
	}
	b.stats.Resent.Add(int64(len(p.unresolved)))
	switch {
	case astray:
		p.hangUp()
		p.lane.astray()
		if p.failures++; p.failures > 2 {
			p.failed(err)
		}
	case load:
		if err := p.conn.load(b); err != nil {
			p.hangUp()
			p.failed(err)
		}
	default:
		p.succeeded()
	}
}

func (p *publisher) exec(batch []*outgoing, now time.Time) ([]redis.Cmder, error) {
	b := p.lane.bus
	cmds := make([]redis.Cmder, len(batch))
	scripts := 0
	for i, o := range batch {
		cmds[i] = p.command(o, now)
		if o.script != nil {
			scripts++
		}
		if o.since.IsZero() {
			o.since = now
		}
	}
	if len(cmds) == 1 {
		return cmds, p.conn.Process(b.ctx, cmds[0])
	}
	// In a transaction either all scripts are known or none: were one loaded by
	// somebody else in between, a later message would overtake an earlier.
	pipe := p.conn.Pipeline()
	if scripts > 0 {
		pipe = p.conn.TxPipeline()
	}
	for _, c := range cmds {
		_ = pipe.Process(b.ctx, c) // queues
	}
	_, err := pipe.Exec(b.ctx)
	return cmds, err
}

func (p *publisher) command(o *outgoing, now time.Time) redis.Cmder {
	b := p.lane.bus
	s := o.script
	if s == nil {
		return redis.NewIntCmd(b.ctx, b.publishCmd, o.channel, o.payload)
	}
	if o.number == 0 {
		p.number++
		o.number = p.number
	}
	return redis.NewStringCmd(b.ctx, "evalsha", s.sha, 1, s.meta,
		p.conn.arg, o.number, s.keep, s.life, p.renew(o, now), o.payload, s.arg7, s.arg8)
}

// renew says which times to live this message renews: each is done once in a
// fraction of it. What is sent again renews all, since what it said before may
// not have been heard.
func (p *publisher) renew(o *outgoing, now time.Time) string {
	if !o.since.IsZero() {
		return "wa"
	}
	s := o.script
	renew := ""
	if now.Sub(p.renewed[s.part]) > windowLife {
		p.renewed[s.part] = now
		renew = "w"
	}
	span := bus.KeyTTL // at least, where history has no age
	if s.life > 0 {
		span = time.Duration(s.life) * time.Millisecond
	}
	if at, known := p.aged[o.room]; !known || now.Sub(at) >= span/8 {
		if len(p.aged) >= agedMax {
			clear(p.aged)
		}
		p.aged[o.room] = now
		renew += "a"
	}
	return renew
}

// unrenewed takes back what renew noted.
func (p *publisher) unrenewed(o *outgoing) {
	if o.script != nil {
		p.renewed[o.script.part] = time.Time{}
		delete(p.aged, o.room)
	}
}

func outcome(c redis.Cmder) (string, error) {
	if s, is := c.(*redis.StringCmd); is {
		return s.Result()
	}
	return "", c.Err()
}

// connect makes a connection if there is none. A pooled one may be dead without
// knowing, so one failure after dialling is not yet the server's.
func (p *publisher) connect() (err error) {
	if p.conn != nil && p.conn.stale {
		if err := p.conn.identify(p.lane.bus); err != nil {
			p.hangUp()
		} else {
			p.ids = p.conn.ids
		}
	}
	for range 2 {
		if p.conn != nil {
			return nil
		}
		var slow net.Error
		if p.conn, err = dial(p.lane, p.id); err == nil || fateOf(err) == unsent || errors.As(err, &slow) && slow.Timeout() {
			break
		}
	}
	if err != nil {
		return err
	}
	p.renewed = [partitions]time.Time{}
	clear(p.aged)
	if p.ids != "" {
		p.lane.bus.stats.Reconnects.Add(1)
		if p.conn.ids != p.ids {
			p.lane.receiver.hangUp(errors.New("the primary has changed"))
		}
	}
	p.ids = p.conn.ids
	return nil
}

func (p *publisher) hangUp() {
	if p.conn != nil {
		_ = p.conn.Close() // it is of no use either way
		p.conn = nil
	}
}

func (p *publisher) succeeded() {
	p.failures = 0
	p.mu.Lock()
	was := p.away
	p.away = nil
	p.mu.Unlock()
	if was != nil {
		p.lane.bus.log.Info("redis is back", "redis", p.lane.bus.where, "keys", p.lane.base)
	}
}

// failed notes that Redis is away: what waits is refused, until it is back.
// What was sent stays, since only Redis knows what became of it.
func (p *publisher) failed(err error) {
	p.failures = max(p.failures, 1) + 1
	b := p.lane.bus
	p.mu.Lock()
	first := p.away == nil
	p.away = unavailable(fmt.Errorf("publishing to Redis (%s): %w", b.where, err))
	queue, away := p.queue, p.away
	p.queue, p.bytes = nil, 0
	clear(p.signals)
	p.probing = nil
	p.mu.Unlock()
	if first {
		b.stats.Errors.Add(1)
		b.log.Warn("redis is away", "redis", b.where, "keys", p.lane.base, "error", err)
	}
	for _, o := range queue {
		b.stats.Refused.Add(1)
		o.resolve("", away)
	}
	// Answered with "elsewhere", or never sent: it did not happen.
	kept := p.unresolved[:0]
	for _, o := range p.unresolved {
		if o.script == nil {
			o.resolve("", away)
		} else {
			kept = append(kept, o)
		}
	}
	p.unresolved = kept
	p.giveUp(time.Now())
}

// giveUp resolves what has been without an answer for too long.
func (p *publisher) giveUp(now time.Time) {
	kept := p.unresolved[:0]
	for _, o := range p.unresolved {
		if now.Sub(o.since) < p.lane.bus.time.GiveUp {
			kept = append(kept, o)
			continue
		}
		p.lane.bus.stats.Unknown.Add(1)
		o.resolve("", fmt.Errorf("%w: Redis gave no answer for %v", bus.ErrUnknownOutcome, p.lane.bus.time.GiveUp))
	}
	p.unresolved = kept
}

// end resolves what is left when the bus ends.
func (p *publisher) end() {
	p.hangUp()
	for _, o := range p.unresolved {
		o.resolve("", fmt.Errorf("%w: closed before Redis answered", bus.ErrUnknownOutcome))
	}
	p.unresolved = nil
	p.mu.Lock()
	p.closing = true
	queue := p.queue
	p.queue = nil
	p.mu.Unlock()
	for _, o := range queue {
		o.resolve("", unavailable(bus.ErrClosed))
	}
}
