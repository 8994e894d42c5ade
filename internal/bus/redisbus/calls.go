package redisbus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/wsrelay/relay/internal/bus"
)

// callsMax is how many calls one round trip carries.
const callsMax = 64

// errNotSent is of a call that was given up before it left.
var errNotSent = errors.New("no answer from Redis in time for those that asked before")

// calls carries the comings and goings of members to a lane's server, one round
// trip at a time. A call that comes alone leaves at once; what comes meanwhile
// leaves together with the next. So thousands that join at the same time take few
// system calls, here and there, and few connections. And a call that nobody waits
// for any more is over, or its connection is, before what comes after it leaves.
type calls struct {
	lane *lane

	mu      sync.Mutex
	waiting []*call // somebody waits for each
	busy    bool    // somebody is in travel
}

// call is one run of a script.
type call struct {
	cmd  *redis.Cmd
	done chan struct{} // closed when cmd has its result
}

// run runs one of the scripts enter and leave on the server, and returns when that has answered or ctx has
// ended.
func (c *calls) run(ctx context.Context, s *redis.Script, key string, args ...any) *redis.Cmd {
	o := &call{redis.NewCmd(ctx, append([]any{"evalsha", s.Hash(), 1, key}, args...)...), make(chan struct{})}
	if !c.take(o) {
		return failed(ctx, bus.ErrClosed)
	}
	select {
	case <-o.done:
		return o.cmd
	case <-ctx.Done():
		return failed(ctx, c.forget(ctx, o))
	}
}

func failed(ctx context.Context, err error) *redis.Cmd {
	cmd := redis.NewCmd(ctx)
	cmd.SetErr(err)
	return cmd
}

// take sees to it that a call is made; false: the bus has ended.
func (c *calls) take(o *call) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.busy && !c.lane.bus.hire(c.travel) {
		return false
	}
	c.busy = true
	c.waiting = append(c.waiting, o)
	return true
}

// forget gives a call up, and tells what is known of it then.
func (c *calls) forget(ctx context.Context, o *call) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.Index(c.waiting, o)
	if i < 0 { // it is on its way
		return ctx.Err()
	}
	c.waiting = slices.Delete(c.waiting, i, i+1)
	return fmt.Errorf("%w: %w", errNotSent, ctx.Err())
}

// travel makes round trips until nothing waits.
func (c *calls) travel() {
	for {
		c.mu.Lock()
		n := min(len(c.waiting), callsMax)
		if n == 0 {
			c.busy, c.waiting = false, nil
			c.mu.Unlock()
			return
		}
		batch := c.waiting[:n:n]
		c.waiting = c.waiting[n:]
		c.mu.Unlock()
		c.trip(batch)
		for _, o := range batch {
			close(o.done)
		}
	}
}

// trip sends calls and reads their answers. Errors are in the commands.
func (c *calls) trip(batch []*call) {
	c.exec(batch)
	var missing []*call
	for _, o := range batch {
		if fateOf(o.cmd.Err()) == noScript {
			missing = append(missing, o)
		}
	}
	if len(missing) == 0 {
		return
	}
	b := c.lane.bus
	node, err := c.lane.node(b.ctx)
	for _, s := range []*redis.Script{b.scripts.enter, b.scripts.leave} {
		if err == nil {
			err = s.Load(b.ctx, node).Err()
		}
	}
	if err != nil {
		return // the error of the calls says it too, and has them tried again
	}
	for _, o := range missing {
		o.cmd = redis.NewCmd(b.ctx, o.cmd.Args()...)
	}
	c.exec(missing)
}

func (c *calls) exec(batch []*call) {
	b := c.lane.bus
	if len(batch) == 1 {
		_ = b.client.Process(b.ctx, batch[0].cmd)
		return
	}
	pipe := b.client.Pipeline()
	for _, o := range batch {
		_ = pipe.Process(b.ctx, o.cmd) // queues
	}
	_, _ = pipe.Exec(b.ctx)
}
