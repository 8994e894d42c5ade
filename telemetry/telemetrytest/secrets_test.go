package telemetrytest

import (
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"
)

// A search that finds nothing must be able to find something.
func TestSecretsAreFoundHoweverTheyAreTold(t *testing.T) {
	s := Plant("token", "body")
	w := s.Word("token")
	for name, text := range map[string]string{
		"as it is":    "x" + w + "y",
		"upper case":  strings.ToUpper(w),
		"hex":         hex.EncodeToString([]byte("a" + w)),
		"base64, 0":   base64.StdEncoding.EncodeToString([]byte(w)),
		"base64, 1":   base64.StdEncoding.EncodeToString([]byte("a" + w)),
		"base64, 2":   base64.StdEncoding.EncodeToString([]byte("ab" + w + "!")),
		"base64, url": base64.RawURLEncoding.EncodeToString([]byte("user:" + w)),
	} {
		if got := s.found([]byte(text)); len(got) != 1 || !strings.HasPrefix(got[0], "token") {
			t.Errorf("%s: found %v", name, got)
		}
	}
	if got := s.found([]byte("nothing to see, secret or not: " + w[:10])); len(got) != 0 {
		t.Errorf("found %v in nothing", got)
	}
}
