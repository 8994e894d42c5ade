package cli

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

// spareHeap is how much garbage gathers at least between two collections. Go
// collects when as much garbage as live memory has gathered, which for a heap of a
// few megabytes is several times a second under load; each time takes some
// milliseconds of a small machine, and whoever sends meanwhile waits for it.
const spareHeap = 32 << 20

// spareGarbage sees to that until stop is called. Who has set GOGC has decided
// for himself; GOMEMLIMIT holds in any case.
func spareGarbage() (stop func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	p := new(pacer)
	old := debug.SetGCPercent(p.adjust())
	p.arm()
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.over = true
		debug.SetGCPercent(old)
	}
}

// pacer sets, after each collection, when the next is due.
type pacer struct {
	mu   sync.Mutex
	over bool
	set  int // the percentage in force
}

// arm leaves something behind that only the next collection finds.
func (p *pacer) arm() {
	left := new([64]byte) // too large to share its place with others
	runtime.AddCleanup(left, func(p *pacer) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.over {
			return
		}
		if before := p.set; p.adjust() != before {
			debug.SetGCPercent(p.set)
		}
		p.arm()
	}, p)
}

// adjust chooses the percentage for what the last collection left.
func (p *pacer) adjust() int {
	found := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"}}
	metrics.Read(found)
	n := uint64(0)
	for _, s := range found {
		n += s.Value.Uint64()
	}
	p.set = gcPercent(n)
	return p.set
}

// gcPercent is how much garbage is let gather, in percent of what is live, stacks
// and globals included: as Go has it, but spareHeap at least. Steps of a quarter: a change stops everybody for
// a moment.
func gcPercent(live uint64) int {
	const least = 4 << 20 // what Go reckons with when there is less
	percent := 100
	for percent < 800 && uint64(percent)*max(live, least) < 100*spareHeap {
		percent += percent / 4
	}
	return min(percent, 800)
}
