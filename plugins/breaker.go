package plugins

import "time"

const (
	breakAfter = 20               // messages in a row without a verdict
	breakFirst = time.Second      // for which a breaker that opens stays open; doubled each time
	breakMost  = 10 * time.Second // but no longer than this
)

// breaker keeps messages from a plugin that answers none, so that they need not
// wait for the end of their budget. When its time is over one message is let
// through to see: a verdict closes it. The zero breaker is closed. It is not safe
// for concurrent use.
type breaker struct {
	row   int // messages without a verdict since the last one with
	until time.Time
	wait  time.Duration // for which it was opened; 0: closed
	tried bool          // one was let through
}

// admit reports whether a message may be asked about.
func (b *breaker) admit(now time.Time) bool {
	switch {
	case b.wait == 0:
		return true
	case b.tried || now.Before(b.until):
		return false
	}
	b.tried = true
	return true
}

// failed counts messages without a verdict, and reports whether it opened by them.
func (b *breaker) failed(n int, now time.Time) (opened bool) {
	if n == 0 {
		return false
	}
	b.row += n
	switch {
	case b.wait == 0 && b.row < breakAfter:
		return false
	case b.wait == 0:
		b.wait, opened = breakFirst, true
	case !b.tried:
		return false // it was under way when the breaker opened
	default:
		b.wait = min(2*b.wait, breakMost)
	}
	b.until, b.tried = now.Add(b.wait), false
	return opened
}

// succeeded notes a verdict, and reports whether that closed it.
func (b *breaker) succeeded() (closed bool) {
	closed = b.wait > 0
	*b = breaker{}
	return closed
}

func (b *breaker) String() string {
	switch {
	case b.wait == 0:
		return "closed"
	case b.tried:
		return "half-open"
	}
	return "open"
}
