package app_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/wsrelay/relay/plugins/filtertest"
)

var pluginsFence = regexp.MustCompile("(?s)```yaml (relay|table)\n(.*?)\n```")

// The configuration and the table of docs/plugins.md are read as relay reads them.
func TestPluginsPageYAML(t *testing.T) {
	page, err := os.ReadFile("../../docs/plugins.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, m := range pluginsFence.FindAllStringSubmatch(string(page), -1) {
		kind, body := m[1], m[2]
		seen[kind] = true
		if kind == "relay" {
			base, _, _ := strings.Cut(open, "rooms:")
			// The page shortens its hashes.
			mustParse(t, base+regexp.MustCompile(`"[0-9a-f]{4}…"`).ReplaceAllString(body, `"`+strings.Repeat("0", 64)+`"`))
			continue
		}
		file := filepath.Join(t.TempDir(), "table.yaml")
		if err := os.WriteFile(file, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := filtertest.ReadTable(file); err != nil {
			t.Error(err)
		}
	}
	if !seen["relay"] || !seen["table"] {
		t.Errorf("docs/plugins.md has a configuration: %v; a table: %v", seen["relay"], seen["table"])
	}
}
