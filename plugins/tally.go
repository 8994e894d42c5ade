package plugins

import (
	"sync/atomic"

	"github.com/wsrelay/relay/plugins/filter"
)

// results are what can become of a message at a filter: an action, or a failure.
var results = [...]string{"allow", "modify", "reject", "drop", "shadow", Timeout, Crash, Failed, Overload}

const actionCount = int(filter.ActionShadow) + 1

// tally counts what a filter did since the host was made, over all its processes
// and configurations.
type tally struct {
	results   [len(modeNames)][len(results)]atomic.Uint64
	exempt    atomic.Uint64
	mended    atomic.Uint64
	forbidden atomic.Uint64
	late      atomic.Uint64
	tooLate   atomic.Uint64
	unknown   atomic.Uint64
	evicted   atomic.Uint64

	starts   atomic.Uint64
	failures atomic.Uint64
	retries  atomic.Uint64

	complained atomic.Int64 // when, in nanoseconds; see stage.complain
}

func (t *tally) count(m Mode, o *outcome) {
	i := int(o.verdict.Action)
	switch o.failure {
	case "":
	case Timeout:
		i = actionCount
	case Crash:
		i = actionCount + 1
	case Overload:
		i = actionCount + 3
	default:
		i = actionCount + 2
	}
	t.results[m][i].Add(1)
}

// Status is what a filter is and did, for status pages and metrics. All counts
// are since the host was made, and survive reloads and restarts.
type Status struct {
	Filter  string
	Mode    Mode
	Builtin bool
	Name    string // what the filter calls itself
	Version string

	// Of a plugin: the process that judges. PID is 0 while there is none.
	PID        int
	Generation int    // processes of this filter so far, this one included
	Breaker    string // closed, open (every message is Overload), half-open (some are tried)
	LastError  string // why the last process ended, or did not start
	Resident   int64  // bytes of RAM; 0 where that is not known
	Unary      bool   // the plugin has no Session; CheckBatch is called instead
	Queued     int    // messages that wait to be sent
	InFlight   int    // messages that the plugin is at work on

	Starts   uint64 // processes started and configured
	Failures uint64 // processes that ended unasked, or did not start
	Retries  uint64 // messages that went to a second process

	Results   []Result // those that are not 0
	Exempt    uint64   // messages that were not looked at
	Mended    uint64   // codes, reasons, flags, labels that were beyond the bounds
	Unknown   uint64   // verdicts on no message that waits: unknown, repeated, or too late
	Late      uint64   // later verdicts on messages
	TooLate   uint64   // later verdicts on messages that are not remembered any more
	Forbidden uint64   // later verdicts that said what they may not
	Forgotten uint64   // messages that had to be forgotten before their time for later verdicts was over
}

// Result counts what became of messages at a filter.
type Result struct {
	Mode   Mode
	Result string // an action's name, or timeout, crash, error, overload
	Count  uint64
}

func (t *tally) status() Status {
	s := Status{
		Exempt: t.exempt.Load(), Mended: t.mended.Load(), Unknown: t.unknown.Load(), Late: t.late.Load(), TooLate: t.tooLate.Load(),
		Forbidden: t.forbidden.Load(), Forgotten: t.evicted.Load(),
		Starts: t.starts.Load(), Failures: t.failures.Load(), Retries: t.retries.Load(),
	}
	for m := range t.results {
		for i := range t.results[m] {
			if n := t.results[m][i].Load(); n > 0 {
				s.Results = append(s.Results, Result{Mode(m), results[i], n})
			}
		}
	}
	return s
}
