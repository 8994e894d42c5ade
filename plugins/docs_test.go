package plugins

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/wsrelay/relay/internal/room"
	"github.com/wsrelay/relay/plugins/filter"
)

// TestPluginsPageIsTrue: the numbers of docs/plugins.md are those of the source.
func TestPluginsPageIsTrue(t *testing.T) {
	raw, err := os.ReadFile("../docs/plugins.md")
	if err != nil {
		t.Fatal(err)
	}
	page := strings.Join(strings.Fields(string(raw)), " ") // lines break anywhere
	seconds := func(d time.Duration) string { return fmt.Sprintf("%v seconds", d.Seconds()) }
	mib := func(n int) string { return fmt.Sprintf("%d MiB", n>>20) }
	kib := func(n int) string { return fmt.Sprintf("%d KiB", n>>10) }
	for _, says := range []string{
		"`" + filter.CookieKey + "` | `" + filter.CookieValue + "`",
		"`" + filter.SocketDirKey + "` |",
		fmt.Sprintf("`PLUGIN_PROTOCOL_VERSIONS` | `%d`", filter.ProtocolVersion),
		fmt.Sprintf("1|%d|unix|", filter.ProtocolVersion),
		"There are **" + seconds(usual.start) + "** from the start",
		"All of it has **" + seconds(usual.configure) + "**",
		fmt.Sprintf("its last %d lines of standard error", tailLines),
		"Of a line " + kib(maxLine) + " are logged",
		fmt.Sprintf("of a stream %d lines a second", lineBurst),
		"up to " + mib(readBurst) + " a second",
		fmt.Sprintf("batches of up to %d messages", filter.MaxBatch),
		"At most 1,024 messages (`max_in_flight`)",
		"one comes about every " + seconds(usual.ping),
		"says nothing for " + seconds(usual.health) + " after it",
		fmt.Sprintf("within %.0f seconds after its verdict", room.LateWindow.Seconds()),
		"allow " + mib(maxFrame),
		fmt.Sprintf("up to %d earlier messages", filter.MaxRecent),
		fmt.Sprintf("| `code` | `[a-z0-9_.-]`, %d bytes |", maxCode),
		fmt.Sprintf("| `reason` | %d bytes |", maxReason),
		fmt.Sprintf("| `labels` | %d, names of %d bytes, values of %d |", maxLabels, maxLabelName, maxLabelValue),
		fmt.Sprintf("at most %d of all filters together", maxAllLabels),
		fmt.Sprintf("| `flags` | %d, labels of %d bytes, scores from 0 to 1 |", maxFlags, maxFlagLabel),
		fmt.Sprintf("| `sanctions` | %d |", maxSanctions),
		"and has **" + seconds(usual.drain) + "** for that",
		seconds(usual.end) + " after the input's end SIGKILL",
		fmt.Sprintf("less than half a second, after a pause that grows from %d ms to %v s", firstBackoff.Milliseconds(), maxBackoff.Seconds()),
		"more than 4,096 messages or " + mib(maxQueuedBytes) + " wait",
		fmt.Sprintf("%d messages in a row timed out", breakAfter),
		fmt.Sprintf("left alone for %v s, doubled up to %v s", breakFirst.Seconds(), breakMost.Seconds()),
		fmt.Sprintf("| %d ms, the default |", DefaultTimeout.Milliseconds()),
	} {
		if !strings.Contains(page, says) {
			t.Errorf("docs/plugins.md does not say %q", says)
		}
	}
	// What the page writes in words.
	if filter.MaxInFlight != 1024 || maxQueued != 4096 || usual.short != 500*time.Millisecond || usual.end/4 != 500*time.Millisecond {
		t.Error("docs/plugins.md has other numbers of messages in flight and queued, or of a short life and the time before SIGTERM")
	}
}
