package cli

import (
	"runtime"
	"runtime/debug"
	"testing"
)

func TestGarbageGathersUpToABound(t *testing.T) {
	for _, live := range []uint64{0, 1 << 20, 4 << 20, 7 << 20, 15 << 20, 31 << 20, 32 << 20, 100 << 20, 4 << 30} {
		percent := gcPercent(live)
		garbage := uint64(percent) * max(live, 4<<20) / 100
		if percent < 100 || garbage < spareHeap || garbage > max(live, spareHeap+spareHeap/4) {
			t.Errorf("%d bytes of garbage at %d live ones (%d %%)", garbage, live, percent)
		}
	}
}

// kept makes what is assigned to it garbage that the compiler cannot leave out.
var kept []byte

func TestASmallHeapIsNotCollectedOften(t *testing.T) {
	collections := func() uint32 {
		runtime.GC()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range spareHeap / 2 / 1024 {
			kept = make([]byte, 1024)
		}
		runtime.ReadMemStats(&after)
		return after.NumGC - before.NumGC
	}
	t.Setenv("GOGC", "") // whatever the tests run with
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	stop := spareGarbage()
	spared := collections()
	stop()
	if usual := collections(); spared > 0 || usual == 0 {
		t.Errorf("%d collections where Go has %d", spared, usual)
	}
	t.Setenv("GOGC", "100")
	defer spareGarbage()()
	if collections() == 0 {
		t.Error("GOGC was not respected")
	}
}
