package telemetry_test

import (
	"strings"
	"testing"
	"time"

	"github.com/wsrelay/relay/telemetry"
)

func TestDebugTokensAreGoodAsLongAsTheySay(t *testing.T) {
	key, err := telemetry.NewDebugKey(strings.Repeat("k", 32))
	if err != nil {
		t.Fatal(err)
	}
	other, _ := telemetry.NewDebugKey(strings.Repeat("x", 32))
	now := time.Unix(1_800_000_000, 0)
	until := now.Add(time.Hour)
	token, err := key.Sign(now, until)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what  string
		key   telemetry.DebugKey
		token string
		now   time.Time
		good  bool
	}{
		{"fresh", key, token, now, true},
		{"a moment before its end", key, token, until.Add(-time.Second), true},
		{"at its end", key, token, until, false},
		{"from the future", key, token, until.Add(-telemetry.MaxDebug - time.Hour), false},
		{"of another key", other, token, now, false},
		{"without a key", telemetry.DebugKey{}, token, now, false},
		{"cut", key, token[:len(token)-1], now, false},
		{"with more behind it", key, token + "AAAA", now, false},
		{"changed", key, token[:len(token)-2] + "AA", now, false},
		{"something else", key, strings.Repeat("A", len(token)), now, false},
		{"nothing", key, "", now, false},
	} {
		if got := c.key.Until(c.token, c.now); got.IsZero() == c.good || c.good && !got.Equal(until) {
			t.Errorf("%s: until %v", c.what, got)
		}
	}
}

// Anybody can send a header of 32 KiB.
func TestWhatIsNoDebugTokenCostsNothing(t *testing.T) {
	key, _ := telemetry.NewDebugKey(strings.Repeat("k", 32))
	long := "relay-debug." + strings.Repeat("A", 30_000)
	now := time.Now()
	if n := testing.AllocsPerRun(100, func() { key.Until(long, now) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
