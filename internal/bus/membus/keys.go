package membus

import (
	"fmt"
	"time"

	"github.com/wsrelay/relay/internal/bus"
)

// keys are a room's idempotency keys, each kept for [bus.KeyTTL].
type keys struct {
	known map[key]*keyed
	queue []*keyed // oldest first; all live equally long
}

type key struct{ member, key string }

type keyed struct {
	key    key
	digest [16]byte
	result bus.Result
	until  time.Time
}

func keyOf(m *bus.Message) key { return key{m.Event.Sender.Member, m.Key} }

func (k *keys) len() int { return len(k.queue) }

func (k *keys) add(id key, digest [16]byte, result bus.Result, now time.Time) {
	if k.known == nil {
		k.known = make(map[key]*keyed)
	}
	entry := &keyed{id, digest, result, now.Add(bus.KeyTTL)}
	k.known[id] = entry
	k.queue = append(k.queue, entry)
}

// expire drops the keys that are due and returns how many.
func (k *keys) expire(now time.Time) int {
	n := 0
	for n < len(k.queue) && !k.queue[n].until.After(now) {
		delete(k.known, k.queue[n].key)
		k.queue[n] = nil // the backing array lives on until append moves it
		n++
	}
	k.queue = k.queue[n:]
	if len(k.queue) == 0 {
		k.known, k.queue = nil, nil
	}
	return n
}

// next is when the first key is due.
func (k *keys) next() (at time.Time, some bool) {
	if len(k.queue) == 0 {
		return time.Time{}, false
	}
	return k.queue[0].until, true
}

// keyed looks a message's key up, and makes sure of a place for a new one.
func (r *room) keyed(m *bus.Message, now time.Time) (result bus.Result, known bool, err error) {
	b := r.shard.broker
	b.keys.Add(-int64(r.keys.expire(now)))
	first := r.keys.known[keyOf(m)]
	switch {
	case first == nil:
		if b.keys.Add(1) > b.opts.MaxKeys {
			b.keys.Add(-1)
			return bus.Result{}, false, fmt.Errorf("%w: %d idempotency keys are remembered, no more are kept",
				bus.ErrUnavailable, b.opts.MaxKeys)
		}
		return bus.Result{}, false, nil
	case first.digest != m.Digest:
		return bus.Result{Err: bus.ErrKeyReused}, true, nil
	}
	result = first.result
	result.Duplicate = true
	return result, true, nil
}
