// Package arch holds the rules of the house that the compiler does not: which
// package may import which, and who owns which library.
package arch

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/wsrelay/relay"

// layers is the order of imports, from the top down: a package may import what
// is listed for it and nothing else of ours. A trailing /... stands for the
// folder and all below it.
var layers = map[string][]string{
	".":                          {"internal/cli"},
	"internal/cli":               {"internal/app", "config", "auth", "telemetry", "examples/browser", "examples/filters", "plugins", "plugins/filter", "plugins/filtertest", "internal/room", "internal/room/policy", "internal/bus", "internal/wire", "internal/bench", "client/go"},
	"internal/app":               {"config", "auth", "telemetry", "plugins", "plugins/builtin", "plugins/filter", "internal/gateway/...", "internal/room/...", "internal/bus/...", "internal/wire", "examples/browser"},
	"internal/gateway":           {"telemetry", "internal/gateway/door", "internal/gateway/socket", "internal/room", "internal/room/policy", "internal/bus", "internal/wire", "auth"},
	"internal/gateway/door":      {"internal/rawio"},
	"internal/gateway/socket":    {"internal/rawio", "internal/wire"},
	"internal/rawio":             {},
	"internal/room":              {"internal/room/policy", "internal/bus", "internal/wire", "auth", "plugins/filter", "telemetry"},
	"internal/room/policy":       {"auth"},
	"internal/bus":               {},
	"internal/bus/membus":        {"internal/bus"},
	"internal/bus/redisbus":      {"internal/bus", "internal/rawio"},
	"internal/wire":              {},
	"config":                     {},
	"auth":                       {},
	"telemetry":                  {},
	"telemetry/tracetree":        {},
	"telemetry/draw":             {"telemetry/tracetree"},
	"telemetry/generate":         {"telemetry"},
	"examples/browser":           {},
	"examples/filters":           {},
	"examples/filters/hello":     {"plugins/filter"},
	"examples/filters/profanity": {"plugins/filter"},
	"examples/filters/review":    {"plugins/filter"},
	"internal/app/testdata/obey": {"plugins/filter"},
	"internal/bench":             {},
	"internal/verify":            {"client/go"},
	"client/go":                  {},
	"config/generate":            {"config"},
	"plugins/filter":             {"plugins/filter/filterpb"},
	"plugins/filter/filterpb":    {},
	"plugins":                    {"plugins/filter", "plugins/filter/filterpb", "plugins/builtin", "internal/room", "internal/room/policy", "internal/bus", "auth"},
	"plugins/builtin":            {"plugins/filter"},
	"plugins/filtertest":         {"plugins/filter", "plugins/filter/filterpb"},
}

// owners says who may import a library; everyone else goes through them. Tests
// and test helpers are free to.
var owners = map[string][]string{
	"github.com/gorilla/websocket": {"internal/gateway/socket", "client/go"},
	"github.com/redis/go-redis/":   {"internal/bus/redisbus"},
	"github.com/knadh/koanf/":      {"config"},
	"cel.dev/cel-go/":              {"internal/room/policy"},
	"github.com/golang-jwt/jwt/":   {"auth", "auth/authtest"},
	"github.com/spf13/cobra":       {"internal/cli"},
	"go.opentelemetry.io/":         {"telemetry"},
	"github.com/prometheus/":       {"telemetry"},
}

type pkg struct {
	ImportPath string
	Imports    []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", module+"/...")
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatalf("go list: %v", err)
	}
	var list []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("reading go list: %v", err)
		}
		list = append(list, p)
	}
	if len(list) < len(layers) {
		t.Fatalf("go list found %d packages, fewer than the %d with a rule", len(list), len(layers))
	}
	return list
}

// short is a package's path inside the module, "." for the root.
func short(path string) string {
	if path == module {
		return "."
	}
	return strings.TrimPrefix(path, module+"/")
}

func isTestPackage(name string) bool { return strings.HasSuffix(name, "test") }

func TestImportsPointDown(t *testing.T) {
	for _, p := range packages(t) {
		name := short(p.ImportPath)
		allowed, ruled := layers[name]
		if isTestPackage(name) {
			continue
		}
		for _, imp := range p.Imports {
			if !strings.HasPrefix(imp, module) {
				continue
			}
			if !ruled {
				t.Errorf("%s imports %s, and has no rule in layers: give it one", name, short(imp))
				continue
			}
			if !permits(allowed, short(imp)) {
				t.Errorf("%s imports %s: imports point down only", name, short(imp))
			}
		}
	}
}

func permits(allowed []string, name string) bool {
	return slices.ContainsFunc(allowed, func(a string) bool {
		if dir, ok := strings.CutSuffix(a, "/..."); ok {
			return name == dir || strings.HasPrefix(name, dir+"/")
		}
		return a == name
	})
}

func TestEveryLibraryHasOneOwner(t *testing.T) {
	for _, p := range packages(t) {
		name := short(p.ImportPath)
		if isTestPackage(name) {
			continue
		}
		for _, imp := range p.Imports {
			for lib, who := range owners {
				if (imp == lib || strings.HasPrefix(imp, strings.TrimSuffix(lib, "/")+"/")) && !slices.Contains(who, name) {
					t.Errorf("%s imports %s, which belongs to %s", name, imp, strings.Join(who, " and "))
				}
			}
		}
	}
}

// The two rules must be able to fail.
func TestPermits(t *testing.T) {
	for _, c := range []struct {
		allowed []string
		name    string
		want    bool
	}{
		{[]string{"auth"}, "auth", true},
		{[]string{"auth"}, "auth/authtest", false},
		{[]string{"internal/bus/..."}, "internal/bus/membus", true},
		{[]string{"internal/bus/..."}, "internal/bus", true},
		{[]string{"internal/bus/..."}, "internal/business", false},
		{nil, "config", false},
	} {
		if got := permits(c.allowed, c.name); got != c.want {
			t.Errorf("permits(%v, %q) = %v", c.allowed, c.name, got)
		}
	}
}
