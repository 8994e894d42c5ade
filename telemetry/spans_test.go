package telemetry

import "testing"

func TestAnArenaLendsEachPlaceOnce(t *testing.T) {
	var a arena[int]
	for round := range 3 {
		var all [][]int
		for i := range 3000 {
			got := a.lend(1 + i%16)
			if len(got) != 0 || cap(got) != 1+i%16 {
				t.Fatalf("round %d: room for %d of %d, want %d", round, len(got), cap(got), 1+i%16)
			}
			got = got[:cap(got)]
			for k := range got {
				if got[k] != 0 {
					t.Fatalf("round %d: place %d of loan %d holds what was there before", round, k, i)
				}
				got[k] = i + 1
			}
			all = append(all, got)
		}
		for i, got := range all {
			for k := range got {
				if got[k] != i+1 {
					t.Fatalf("round %d: loan %d was lent again, to %d", round, i, got[k]-1)
				}
			}
		}
		a.takeBack()
	}
	for range (maxChunks + 10) * chunkSize {
		a.lend(1)
	}
	if a.takeBack(); len(a.chunks) != maxChunks {
		t.Errorf("%d chunks are kept, want %d", len(a.chunks), maxChunks)
	}
}
