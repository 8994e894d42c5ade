package redisbus

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/wsrelay/relay/internal/bus"
)

// run sends until the bus ends or is drained.
func (p *publisher) run() {
	defer close(p.gone)
	defer p.end()
	defer context.AfterFunc(p.lane.bus.ctx, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.nudge()
	})()
	for p.await() {
		if err := p.connect(); err != nil {
			p.failed(err)
			continue
		}
		p.mu.Lock()
		batch := p.batch()
		p.mu.Unlock()
		p.send(batch)
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
		over, work := p.closing && idle, !idle || p.away != nil || p.failures > 0 || p.conn != nil && p.conn.stale
		p.listening = !over && !work && p.conn != nil
		listening := p.listening
		p.mu.Unlock()
		switch {
		case over:
			return false
		case work:
			return true
		case listening:
			p.listen()
			continue
		}
		select {
		case <-p.wake:
		case <-ctx.Done():
		}
	}
}

// listen waits until there is something to do, or for the answer to what
// somebody sent meanwhile.
func (p *publisher) listen() {
	for {
		err := p.conn.listen()
		p.mu.Lock()
		p.listening = false // now all is run's own again, but for what is on its way
		f := p.flight
		p.mu.Unlock()
		var rest []byte
		if f != nil {
			f.out.Lock() // the first answers may come before who sends has said what is left
			p.mu.Lock()
			rest, p.rest = p.rest, nil
			p.mu.Unlock()
			f.out.Unlock()
		}
		interrupted := errors.Is(err, os.ErrDeadlineExceeded)
		switch {
		case f == nil && interrupted:
			_ = p.conn.SetDeadline(time.Time{}) // if that fails, so will the next use
			return
		case f == nil: // it was closed, or says what nobody has asked for
			p.hangUp()
			return
		case rest != nil:
			if _, err = p.conn.Write(rest); err == nil {
				err = p.conn.SetReadDeadline(f.since.Add(p.conn.reply))
			}
			if err == nil {
				continue
			}
		case interrupted && time.Since(f.since) < p.conn.reply: // by a deadline of before
			if err = p.conn.SetReadDeadline(f.since.Add(p.conn.reply)); err == nil {
				continue
			}
		}
		p.mu.Lock()
		p.flight = nil
		p.mu.Unlock()
		answers := p.answersFor(f)
		if err == nil {
			err = p.conn.hear(answers)
		} else {
			_ = unanswered(answers, err)
		}
		p.settle(f.batch, f.each(answers, err), err)
		return
	}
}

// batch is what to send next: first what was sent before, in its order. mu is
// held.
func (p *publisher) batch() []*outgoing {
	batch := p.unresolved
	p.unresolved = nil
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
		p.bytes -= o.size()
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

// send makes the round trip.
func (p *publisher) send(batch []*outgoing) {
	if len(batch) == 0 {
		p.succeeded()
		return
	}
	f := &flight{batch: batch, since: time.Now()}
	var b []byte
	b, f.tx = p.appendBatch(p.buf[:0], batch, f.since)
	if p.buf = b[:0]; cap(b) > keepMax {
		p.buf = nil
	}
	answers := p.answersFor(f)
	err := p.conn.exchange(b, answers)
	p.settle(batch, f.each(answers, err), err)
}

// appendBatch adds the commands that send a batch.
func (p *publisher) appendBatch(b []byte, batch []*outgoing, now time.Time) (commands []byte, tx bool) {
	// In a transaction either all scripts are known or none: were one loaded by
	// somebody else in between, a later message would overtake an earlier.
	tx = len(batch) > 1 && slices.ContainsFunc(batch, func(o *outgoing) bool { return o.script != nil })
	if tx {
		b = appendArg(appendCommand(b, 1), "multi")
	}
	for _, o := range batch {
		b = p.appendTo(b, o, now)
		if o.since.IsZero() {
			o.since = now
		}
	}
	if tx {
		b = appendArg(appendCommand(b, 1), "exec")
	}
	return b, tx
}

// each finds the answer to each of the batch among those that came; err is that
// of the connection, if it broke.
func (f *flight) each(answers []answer, err error) []answer {
	if !f.tx {
		return answers
	}
	n := len(f.batch)
	begun, each, exec := answers[0], answers[1:n+1], answers[n+1]
	for i := range each {
		switch {
		case err != nil:
			each[i] = answer{err: err}
		case begun.err != nil || each[i].err != nil: // there is no transaction, or this one was not let in
		case exec.err != nil:
			each[i] = exec
		case len(exec.list) == n:
			each[i] = exec.list[i]
		default:
			each[i] = answer{} // resolve knows what to make of it
		}
	}
	return each
}

// keepMax is how much memory for commands is kept for the next batch.
const keepMax = 256 << 10

// answersFor makes room for the answers to a flight, in place of the last ones.
func (p *publisher) answersFor(f *flight) []answer {
	n := len(f.batch)
	if f.tx {
		n += 2
	}
	clear(p.answers)
	p.answers = slices.Grow(p.answers[:0], n)[:n]
	return p.answers
}

// settle sorts out what became of each. err is that of the connection, if it
// broke.
func (p *publisher) settle(batch []*outgoing, answers []answer, err error) {
	b := p.lane.bus
	b.stats.Pipelines.Add(1)
	load, astray := false, err != nil
	b.handler.Gather()
	for i, o := range batch {
		reply, cerr := answers[i].text, answers[i].err
		o.shared = len(batch)
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
	b.handler.Flush()
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

// appendTo adds the command that sends o.
func (p *publisher) appendTo(b []byte, o *outgoing, now time.Time) []byte {
	s := o.script
	if s == nil {
		b = appendArg(appendCommand(b, 3), p.lane.bus.publishCmd)
		return appendArg(appendArg(b, o.channel), o.payload)
	}
	if o.number == 0 {
		p.number++
		o.number = p.number
	}
	b = appendArg(appendArg(appendCommand(b, 12), "evalsha"), s.sha)
	b = appendArg(appendArg(b, "1"), s.meta)
	b = appendInt(appendArg(b, p.conn.arg), int64(o.number))
	b = appendInt(appendInt(b, int64(s.keep)), s.life)
	b = appendArg(appendArg(b, p.renew(o, now)), o.payload)
	return appendArg(appendArg(b, s.arg7), s.arg8)
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

// connect makes a connection if there is none.
func (p *publisher) connect() (err error) {
	if p.conn != nil && p.conn.stale {
		if err := p.conn.identify(); err != nil {
			p.hangUp()
		} else if p.conn.ids != p.ids { // and was a replica meanwhile, maybe
			p.ids = p.conn.ids
			p.lane.bus.audit.askLane(p.lane)
		}
	}
	if p.conn != nil {
		return nil
	}
	if p.conn, err = dial(p.lane, p.id); err != nil {
		return err
	}
	p.renewed = [partitions]time.Time{}
	clear(p.aged)
	if p.ids != "" {
		p.lane.bus.stats.Reconnects.Add(1)
		if p.conn.ids != p.ids {
			p.lane.bus.audit.askLane(p.lane)
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
