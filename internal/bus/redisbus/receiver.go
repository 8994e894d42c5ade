package redisbus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/wsrelay/relay/internal/bus"
)

// subscribeMax is how many channels one SUBSCRIBE names.
const subscribeMax = 500

// receiver owns a lane's pub/sub connection: its loop is the only reader, so
// frames of one room come one after the other. The library dials, and no more: it
// would reconnect and subscribe again without a word, and lose what came in
// between; here every end of a connection is an interruption, after which each
// room is looked at. Its connection would also return messages one at a time,
// where here all that one read brought are handed over in a row (inbox.go).
type receiver struct {
	lane *lane
	wake chan struct{} // holds one: there are changes to send

	mu     sync.Mutex
	line   *line // nil: not connected
	reason error // why not, once an attempt has failed
	cause  error // why the last connection ended
	wanted map[string]*subscription
}

// subscription is a channel that is to be received. Its fields are guarded by
// the lock of the lane's receiver, the first two excepted, which never change.
type subscription struct {
	channel string
	again   func() // called when it is confirmed again after an interruption

	confirmed   bool          // on the current connection
	interrupted bool          // it was, on a former one
	gate        chan struct{} // closed at the next change of the above; nil: nobody waits
}

// open wakes who waits for a change of the subscription.
func (s *subscription) open() {
	if s.gate != nil {
		close(s.gate)
		s.gate = nil
	}
}

// change is a subscription to take up (sub set) or to end.
type change struct {
	channel string
	sub     *subscription
}

func (r *receiver) init(l *lane) {
	r.lane = l
	r.wake = make(chan struct{}, 1)
	r.wanted = make(map[string]*subscription)
}

// state is nil while connected, and before it first is.
func (r *receiver) state() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.line != nil:
		return nil
	case r.reason != nil:
		return r.reason
	case r.cause != nil:
		return unavailable(fmt.Errorf("receiving from Redis (%s) was interrupted: %w", r.lane.bus.where, r.cause))
	}
	return nil
}

// add takes up a subscription.
func (r *receiver) add(s *subscription) {
	r.lane.use()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wanted[s.channel] = s
	s.confirmed = false
	r.change(change{s.channel, s})
}

// remove ends it.
func (r *receiver) remove(s *subscription) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.wanted[s.channel] == s {
		delete(r.wanted, s.channel)
		r.change(change{s.channel, nil})
	}
}

func (r *receiver) change(c change) {
	if r.line != nil {
		r.line.changes = append(r.line.changes, c)
		r.nudge()
	}
}

func (r *receiver) nudge() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// await waits until the subscription is confirmed, or Redis is known to be away.
func (r *receiver) await(ctx context.Context, s *subscription) error {
	for {
		r.mu.Lock()
		if s.confirmed {
			r.mu.Unlock()
			return nil
		}
		if r.line == nil && r.reason != nil {
			defer r.mu.Unlock()
			return r.reason
		}
		if s.gate == nil {
			s.gate = make(chan struct{})
		}
		gate := s.gate
		r.mu.Unlock()
		select {
		case <-gate:
		case <-ctx.Done():
			return unavailable(ctx.Err())
		case <-r.lane.bus.ctx.Done():
			return bus.ErrClosed
		}
	}
}

// hangUp gives the connection up, to be replaced.
func (r *receiver) hangUp(cause error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.line != nil && r.line.cause == nil {
		r.line.cause = cause
		_ = r.line.Close() // its loop finds out
	}
}

// run keeps a connection until the bus ends.
func (r *receiver) run() {
	b := r.lane.bus
	for failures := 0; b.ctx.Err() == nil; {
		ln, err := r.connect()
		if err != nil {
			if failures++; failures > 2 || fateOf(err) != elsewhere { // a slot has just moved: it will soon be known where
				r.failed(err)
			}
			r.lane.astray()
			pause := time.NewTimer(min(500*time.Millisecond, 10*time.Millisecond<<min(failures, 6)))
			select {
			case <-b.ctx.Done():
			case <-pause.C:
			}
			pause.Stop()
			continue
		}
		failures = 0
		r.lane.alive(time.Now())
		var writer sync.WaitGroup
		ended := make(chan struct{})
		writer.Go(func() { r.write(ln, ended) })
		err = r.read(ln)
		close(ended)
		r.lost(ln, err)
		writer.Wait()
	}
}

// write sends changes in their order, as many of a kind at a time as there are.
func (r *receiver) write(ln *line, ended <-chan struct{}) {
	for {
		subscribe, channels := r.next(ln)
		if len(channels) == 0 {
			select {
			case <-r.wake:
				continue
			case <-ended:
				return
			}
		}
		if err := r.send(ln, subscribe, channels...); err != nil {
			r.hangUp(fmt.Errorf("subscribing: %w", err))
			<-ended
			return
		}
	}
}

// next takes the changes to send now and notes them as sent.
func (r *receiver) next(ln *line) (subscribe bool, channels []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for n < len(ln.changes) && n < subscribeMax && (ln.changes[n].sub != nil) == (ln.changes[0].sub != nil) {
		channels = append(channels, ln.changes[n].channel)
		n++
	}
	if n == 0 {
		return false, nil
	}
	subscribe = ln.changes[0].sub != nil
	ln.sent = append(ln.sent, ln.changes[:n]...)
	if ln.changes = ln.changes[n:]; len(ln.changes) == 0 {
		ln.changes = nil
	}
	return subscribe, channels
}

// read is the receive loop. It ends with the connection.
func (r *receiver) read(ln *line) error {
	defer ln.inbox.flush()
	for {
		n, err := ln.inbox.next()
		if err != nil {
			return err
		}
		switch n.kind {
		case someMessage:
			r.message(n.channel, n.payload)
		case subscribed, unsubscribed:
			if err := r.confirm(ln, n); err != nil {
				return err
			}
		}
	}
}

// message takes what came over a channel. Both are in the connection's buffer.
func (r *receiver) message(channel, payload []byte) {
	b := r.lane.bus
	if string(channel) == b.sanctions.channel {
		b.sanctions.hear(string(payload))
		return
	}
	part, name, ok := b.keys.parse(channel)
	if !ok {
		if bytes.HasSuffix(channel, []byte(b.name)) {
			r.lane.hear(string(payload))
		}
		return
	}
	b.stats.Received.Add(1)
	if !r.lane.stirred.Load() {
		r.lane.stirred.Store(true)
	}
	rm := b.rooms.find(part, name)
	if rm == nil {
		return // its subscription is being ended
	}
	f, err := decodeFrame(rm.name, bytes.Clone(payload))
	if err != nil {
		if b.stats.Foreign.Add(1) == 1 {
			b.log.Warn("a message on a room's channel cannot be read: is there another version, or something else, with this prefix?", "prefix", b.opts.Prefix)
		}
		return
	}
	rm.take(f)
}

// confirm matches a confirmation with what was sent. Redis answers in order; an
// answer that was not asked for is a cluster's way to say that a slot has moved.
func (r *receiver) confirm(ln *line, answer news) error {
	r.mu.Lock()
	if len(ln.sent) == 0 || ln.sent[0].channel != string(answer.channel) || (ln.sent[0].sub != nil) != (answer.kind == subscribed) {
		r.mu.Unlock()
		return errors.New("redis changed a subscription on its own: has the slot moved?")
	}
	c := ln.sent[0]
	if ln.sent = ln.sent[1:]; len(ln.sent) == 0 {
		ln.sent = nil
	}
	s := c.sub
	live := s != nil && r.wanted[c.channel] == s && !s.confirmed
	again := false
	if live {
		s.confirmed = true
		again = s.interrupted
		s.interrupted = false
		s.open()
	}
	r.mu.Unlock()
	if again {
		s.again()
	}
	return nil
}

// lost notes the end of a connection: every subscription on it is interrupted.
func (r *receiver) lost(ln *line, err error) {
	_ = ln.Close() // once more does no harm
	b := r.lane.bus
	r.mu.Lock()
	cause := err
	if ln.cause != nil {
		cause = ln.cause
	}
	r.line, r.cause = nil, cause
	for _, s := range r.wanted {
		if s.confirmed {
			s.confirmed, s.interrupted = false, true
		}
	}
	r.mu.Unlock()
	if !errors.Is(cause, bus.ErrClosed) {
		b.stats.Reconnects.Add(1)
		b.log.Warn("receiving from redis was interrupted", "redis", b.where, "keys", r.lane.base, "error", cause)
	}
}

// failed notes that no connection can be made, and tells those who wait.
func (r *receiver) failed(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reason = unavailable(fmt.Errorf("subscribing at Redis (%s): %w", r.lane.bus.where, err))
	for _, s := range r.wanted {
		s.open()
	}
}
