package bustest

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

const (
	randomNodes = 3
	// shrinkRuns bounds the search for a shorter failing run.
	shrinkRuns = 150
)

// runRandom runs n random operations on rooms, and as many tenths on sanctions.
func runRandom(t testing.TB, factory Factory, caps Capabilities, seed uint64, n int) {
	t.Helper()
	judge(t, caps, seed, n, generate(seed, n, randomNodes, len(newModel().rooms)), func(caps Capabilities, ops []op) ([]string, error) {
		return replay(t, factory, caps, ops)
	})
	judge(t, caps, seed, n, sentences(seed, n/10, randomNodes), func(caps Capabilities, ops []sentence) ([]string, error) {
		return replaySentences(t, factory, caps, ops)
	})
}

// judge runs operations, and where they fail looks for fewer that do, to be
// read.
func judge[O any](t testing.TB, caps Capabilities, seed uint64, n int, ops []O, replay func(Capabilities, []O) ([]string, error)) {
	t.Helper()
	trace, err := replay(caps, ops)
	if err == nil {
		return
	}
	short := caps
	short.Timeout = min(caps.Timeout, time.Second)
	for budget, chunk := shrinkRuns, (len(ops)+1)/2; chunk >= 1; {
		var less bool
		for from := 0; from < len(ops) && budget > 0; budget-- {
			to := min(from+chunk, len(ops))
			fewer := append(append([]O(nil), ops[:from]...), ops[to:]...)
			if tr, e := replay(short, fewer); e != nil {
				ops, trace, err, less = fewer, tr, e, true
			} else {
				from = to
			}
		}
		if chunk == 1 && !less || budget <= 0 {
			break
		}
		chunk = max(1, chunk/2)
	}
	t.Errorf("the bus differs from the model: %v\nrepeat with -bustest.seed=%d -bustest.ops=%d; %d operations that show it:\n%s",
		err, seed, n, len(ops), strings.Join(trace, "\n"))
}

// replay runs operations on a fresh backend next to a fresh model. trace has a
// line for each.
func replay(t testing.TB, factory Factory, caps Capabilities, ops []op) (trace []string, err error) {
	t.Helper()
	r := newRun(newSession(t, factory, caps, randomNodes))
	defer r.close()
	for _, o := range ops {
		if err := r.do(o); err != nil {
			return r.trace, fmt.Errorf("operation %d: %w", len(r.trace), err)
		}
	}
	if err := r.finish(); err != nil {
		return r.trace, err
	}
	for _, n := range r.nodes {
		if err := n.breach(); err != nil {
			return r.trace, fmt.Errorf("instance %d: %w", n.index, err)
		}
	}
	return r.trace, nil
}
