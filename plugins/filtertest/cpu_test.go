package filtertest

import (
	"testing"
	"time"
)

func TestProcessorTimeIsReadWhateverTheProgramIsCalled(t *testing.T) {
	for _, name := range []string{"(relay)", "(a b) c)", "((1 2 3 4 5 6)"} {
		got, ok := parseStat("17 " + name + " S 1 17 17 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 8 0 100 1000 10")
		if !ok || got != 3*time.Second {
			t.Errorf("%s: %v %v, want 3s", name, got, ok)
		}
	}
	for _, text := range []string{"", "17 (x)", "17 (x) S 1 17 17 0 -1 4194560 100 0 0 0 many 50 0"} {
		if got, ok := parseStat(text); ok {
			t.Errorf("%q is read as %v", text, got)
		}
	}
}
