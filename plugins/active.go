package plugins

import (
	"context"
	"sync/atomic"
	"time"
)

// linger is how long after a set was replaced somebody may still enter one of its
// chains: who had found the chain just before, and had not asked it yet.
const linger = time.Second

// runs counts the messages that are on their way through a set's chains.
type runs struct {
	n       atomic.Int64
	retired atomic.Bool
	idle    chan struct{} // has a token when n came to 0 after retired
}

func (r *runs) enter() { r.n.Add(1) }

func (r *runs) leave() {
	if r.n.Add(-1) == 0 && r.retired.Load() {
		select {
		case r.idle <- struct{}{}:
		default:
		}
	}
}

// wait returns when nobody is left and nobody will come, or when ctx is done.
func (r *runs) wait(ctx context.Context) {
	t := time.NewTimer(linger)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
		return
	}
	r.retired.Store(true)
	for r.n.Load() > 0 {
		select {
		case <-r.idle:
		case <-ctx.Done():
			return
		}
	}
}
