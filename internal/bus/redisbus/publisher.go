package redisbus

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wsrelay/relay/internal/bus"
)

const (
	// batchMax is how many messages one round trip carries.
	batchMax = 128
	// signalsMax bounds the signals that wait. In bytes they may come to half of
	// what may wait at all: they are worth losing, and messages are not.
	signalsMax = 4096
	// windowLife is how often a publisher renews its window in a partition; the
	// window itself lives ten times as long (append.lua).
	windowLife = time.Minute
	// agedMax bounds the rooms of which is known when their age was renewed; of
	// others it is renewed with the next message.
	agedMax = 16_384
)

// atOnceMax is how much may wait, in bytes, to be sent by who publishes: there is
// room for it wherever nothing else is on its way.
const atOnceMax = 64 << 10

// publisher sends what it takes, in order, over one connection: what is queued
// goes, in one round trip at a time. What got no answer is sent again, under
// the same number and before anything later, until there is one or it is given
// up; the scripts know a number that they have seen.
//
// All of that is the work of one goroutine, run. While it has nothing to do it
// listens to the connection, and then whoever has a message sends it there and
// then: waking up a goroutine for each costs more than the sending. The answer
// wakes it up. So what the goroutine has is handed over: while it listens, it
// belongs to who holds mu.
type publisher struct {
	lane *lane
	wake chan struct{} // holds one: there is something to do
	gone chan struct{} // closed when run has ended

	putOff atomic.Bool // something waits for the end of a gathering

	mu        sync.Mutex
	queue     []*outgoing
	bytes     int // of queue and signals
	signals   map[signalKey]*outgoing
	probing   *outgoing // the next probe; nil: none is due
	away      error     // why Redis is away; nil: it is not, as far as is known
	closing   bool
	listening bool    // run does
	flight    *flight // was sent meanwhile
	rest      []byte  // of flight, for which there was no room

	// Below belongs to the goroutine of run; while it listens, to who holds mu.
	conn       *link
	unresolved []*outgoing // sent, and not answered
	number     uint64
	failures   int // in a row
	ids        string
	renewed    [partitions]time.Time // when the window was
	aged       map[string]time.Time  // when a room's history was
	id         string
	buf        []byte // of commands
	answers    []answer
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

// take sends or queues, or refuses.
func (p *publisher) take(o *outgoing) error {
	p.lane.use()
	p.mu.Lock()
	if err := p.refusal(o.size()); err != nil {
		p.mu.Unlock()
		return err
	}
	p.bytes += o.size()
	p.queue = append(p.queue, o)
	t := p.start()
	p.mu.Unlock()
	t.send(p)
	return nil
}

// refusal is why a message of that size is not taken. mu is held.
func (p *publisher) refusal(size int) error {
	switch {
	case p.closing:
		return bus.ErrClosed
	case p.away != nil:
		return p.away
	case p.bytes+size > p.lane.bus.maxQueued:
		return fmt.Errorf("%w: %d bytes are waiting for Redis already", bus.ErrUnavailable, p.bytes)
	}
	return nil
}

// start has what is queued sent: by the caller, who is to call send without mu,
// or by run, or, while somebody gathers, at the end of that. mu is held.
func (p *publisher) start() *turn {
	if p.listening {
		p.putOff.Store(true) // first: Flush looks at it after it has ended the gathering
		if p.lane.bus.gathering.Load() > 0 {
			return nil
		}
		p.putOff.Store(false)
		if t := p.turn(); t != nil {
			return t
		}
	}
	p.nudge()
	return nil
}

// flush sends what was put off.
func (p *publisher) flush() {
	if !p.putOff.Load() {
		return
	}
	p.mu.Lock()
	p.putOff.Store(false)
	var t *turn
	if p.listening && len(p.queue)+len(p.signals) > 0 {
		if t = p.turn(); t == nil {
			p.nudge()
		}
	}
	p.mu.Unlock()
	t.send(p)
}

// flight is a batch that is on its way.
type flight struct {
	batch []*outgoing
	tx    bool // in a transaction
	since time.Time
	out   sync.Mutex // held by who sends it, until all is written or rest says what is not
}

// turn is the sending of a batch in run's stead.
type turn struct {
	flight *flight
	conn   *link
	to     interface{ WriteAtOnce([]byte) (int, error) }
	buf    []byte
}

var turns = sync.Pool{New: func() any { return new(turn) }}

// turn takes the turn while run is listening, which means that nothing else is
// under way; nil when it cannot. mu is held, and is not when send is called.
func (p *publisher) turn() *turn {
	if p.bytes > atOnceMax {
		return nil
	}
	to, ok := p.conn.Conn.(interface{ WriteAtOnce([]byte) (int, error) })
	if !ok {
		return nil
	}
	now := time.Now()
	if p.conn.SetDeadline(now.Add(p.conn.reply)) != nil {
		return nil // it is closed, as run is about to see
	}
	f := &flight{batch: p.batch(), since: now}
	t := turns.Get().(*turn)
	t.flight, t.conn, t.to = f, p.conn, to
	t.buf, f.tx = p.appendBatch(t.buf[:0], f.batch, now)
	f.out.Lock() // nobody else has it
	p.flight, p.listening = f, false
	return t
}

// send writes. What there is no room for, and what went wrong, is left to run.
func (t *turn) send(p *publisher) {
	if t == nil {
		return
	}
	n, err := t.to.WriteAtOnce(t.buf)
	if n < len(t.buf) || err != nil {
		p.mu.Lock()
		if p.flight == t.flight {
			p.rest = bytes.Clone(t.buf[n:])
			t.conn.interrupt()
		}
		p.mu.Unlock()
	}
	t.flight.out.Unlock()
	t.flight, t.conn, t.to = nil, nil, nil
	turns.Put(t)
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
	old, grows := p.signals[k], o.size()
	if old != nil {
		grows -= old.size()
	}
	full := p.closing || old == nil && len(p.signals) >= signalsMax || grows > 0 && p.bytes+grows > p.lane.bus.maxQueued/2
	if old != nil || full {
		p.lane.bus.stats.Signals.Add(1)
	}
	var t *turn
	if !full {
		p.signals[k] = o
		p.bytes += grows
		t = p.start()
	}
	p.mu.Unlock()
	t.send(p)
}

// nudge tells run that there is something to do. mu is held.
func (p *publisher) nudge() {
	if p.listening {
		p.listening = false
		p.conn.interrupt()
		return
	}
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
