package redisbus

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	"github.com/wsrelay/relay/internal/bus"
)

const (
	// batchMax is how many messages one round trip carries.
	batchMax = 128
	// signalsMax bounds the signals that wait.
	signalsMax = 4096
	// windowLife is how often a publisher renews its window in a partition; the
	// window itself lives ten times as long (append.lua).
	windowLife = time.Minute
	// agedMax bounds the rooms of which is known when their age was renewed; of
	// others it is renewed with the next message.
	agedMax = 16_384
)

// publisher sends what it takes, in order, over one connection: what is queued
// goes, in one round trip at a time. What got no answer is sent again, under
// the same number and before anything later, until there is one or it is given
// up; the scripts know a number that they have seen.
type publisher struct {
	lane *lane
	wake chan struct{} // holds one: there is something to do
	gone chan struct{} // closed when run has ended

	mu      sync.Mutex
	queue   []*outgoing
	bytes   int // of queue
	signals map[signalKey]*outgoing
	probing *outgoing // the next probe; nil: none is due
	away    error     // why Redis is away; nil: it is not, as far as is known
	closing bool

	// Below belongs to the goroutine of run.
	conn       *link
	unresolved []*outgoing // sent, and not answered
	number     uint64
	failures   int // in a row
	ids        string
	renewed    [partitions]time.Time // when the window was
	aged       map[string]time.Time  // when a room's history was
	id         string
}

type signalKey struct{ room, member string }

func (p *publisher) init(l *lane) {
	p.lane = l
	p.wake = make(chan struct{}, 1)
	p.gone = make(chan struct{})
	p.aged = make(map[string]time.Time)
	p.signals = make(map[signalKey]*outgoing)
	p.id = rand.Text()[:16]
}

// state is nil unless Redis is known to be away.
func (p *publisher) state() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.away
}

// take queues, or refuses.
func (p *publisher) take(o *outgoing) error {
	p.lane.use()
	p.mu.Lock()
	defer p.mu.Unlock()
	switch size := o.size(); {
	case p.closing:
		return bus.ErrClosed
	case p.away != nil:
		return p.away
	case p.bytes+size > p.lane.bus.maxQueued:
		return fmt.Errorf("%w: %d bytes are waiting for Redis already", bus.ErrUnavailable, p.bytes)
	default:
		p.bytes += size
	}
	p.queue = append(p.queue, o)
	p.nudge()
	return nil
}

// probe sets what to send with the next round trip. It takes no place in the
// queue: a full one must not look like a path that is dead.
func (p *publisher) probe(o *outgoing) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closing && p.away == nil {
		p.probing = o
		p.nudge()
	}
}

func (p *publisher) signal(k signalKey, o *outgoing) {
	p.lane.use()
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, waits := p.signals[k]; waits || p.closing || len(p.signals) >= signalsMax {
		p.lane.bus.stats.Signals.Add(1)
		if !waits {
			return
		}
	}
	p.signals[k] = o
	p.nudge()
}

func (p *publisher) nudge() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// drain waits until everything taken is resolved, and refuses more.
func (p *publisher) drain(ctx context.Context) error {
	p.mu.Lock()
	p.closing = true
	left := len(p.queue)
	p.nudge()
	p.mu.Unlock()
	if !p.lane.begun.Load() {
		return nil
	}
	select {
	case <-p.gone:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%d messages were still waiting for Redis: %w", left, ctx.Err())
	}
}
