package plugins

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/wsrelay/relay/internal/room"
	"github.com/wsrelay/relay/plugins/filter"
)

// Judge asks filters about one event and waits for what they say. It is for
// commands and tests; rooms do not wait. An error is ctx's.
func Judge(ctx context.Context, filters room.Filters, q *room.Query) (*room.Ruling, error) {
	answer := make(chan *room.Ruling, 1)
	filters.Judge(q, func(r *room.Ruling) { answer <- r })
	select {
	case r := <-answer:
		return r, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for the filters: %w", ctx.Err())
	}
}

// Tried is what one filter of a chain did with a message, in full.
type Tried struct {
	Filter  string
	Mode    Mode   // how the verdict counts for this user
	Skipped string // why the filter was not asked: "event" or "exempt"; empty when it was

	// Verdict is the filter's, within the bounds of the contract. Where it has
	// none, Failure says why (Timeout, Crash, Failed, Overload), and Err in words,
	// if there are any.
	Verdict filter.Verdict
	Failure string
	Err     error

	// Message is what the filter was asked about; where its modification was
	// applied, what it made of it.
	Message *filter.Message
	Took    time.Duration // until there was an answer; Verdict.Elapsed of it in the judge
}

// Try is Judge that also tells what every filter said, those included that the
// chain does not wait for: it waits for them, too. The order is that of asking.
// Filters after the one that ended the chain are not among them.
func (c *Chain) Try(ctx context.Context, q *room.Query) (*room.Ruling, []Tried, error) {
	t := &trial{over: make(chan struct{})}
	var ruling *room.Ruling
	c.set.active.enter()
	r := &run{chain: c, q: q, body: q.Body, trial: t, done: func(x *room.Ruling) { ruling = x }}
	r.advance()
	select {
	case <-t.over:
		slices.SortStableFunc(t.list, func(a, b entry) int { return a.at - b.at })
		list := make([]Tried, len(t.list))
		for i, e := range t.list {
			list[i] = e.Tried
		}
		return ruling, list, nil
	case <-ctx.Done():
		return nil, nil, fmt.Errorf("waiting for the filters: %w", ctx.Err())
	}
}

// trial keeps what filters say of a message that is tried.
type trial struct {
	over chan struct{} // closed when everybody has spoken

	mu   sync.Mutex
	list []entry // guarded by mu until over
}

type entry struct {
	Tried
	at int // the stage
}

// skip notes that a filter is not asked. t may be nil.
func (t *trial) skip(s *stage, at int, why string) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.list = append(t.list, entry{Tried{Filter: s.opts.Name, Mode: s.opts.Mode, Skipped: why}, at})
}

// add notes what came of a call. t may be nil.
func (t *trial) add(c *call, o *outcome) {
	if t == nil {
		return
	}
	end := o.end
	if end.IsZero() {
		end = time.Now()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.list = append(t.list, entry{Tried{
		Filter: c.stage.opts.Name, Mode: c.mode, Verdict: o.verdict, Failure: o.failure, Err: o.err, Message: c.msg, Took: end.Sub(c.start),
	}, c.at})
}
