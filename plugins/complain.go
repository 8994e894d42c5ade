package plugins

import (
	"errors"
	"time"

	"github.com/wsrelay/relay/plugins/filter"
)

// complainEvery bounds how often a filter's errors are logged: it may have one
// with each message.
const complainEvery = time.Second

// complain logs why a filter had no verdict. All are counted; see Status.
func (s *stage) complain(c *call, o *outcome) {
	now := time.Now().UnixNano()
	last := s.tally.complained.Load()
	if now-last < int64(complainEvery) || !s.tally.complained.CompareAndSwap(last, now) {
		return
	}
	args := []any{"failure", o.failure, "error", o.err, "mode", c.mode.String()}
	args = append(args, c.run.q.About()...)
	var panicked *filter.PanicError
	if errors.As(o.err, &panicked) {
		args = append(args, "stack", panicked.Stack)
	}
	s.log.Warn("the filter has no verdict; others of this second are only counted", args...)
}
