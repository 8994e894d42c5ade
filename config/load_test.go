package config

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write what the golden files should say")

// Each file in testdata/bad is one mistake; the file of the same name with .txt
// is what is said about it.
func TestBadFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) < 30 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".yaml"), func(t *testing.T) {
			data, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			cfg, _, err := Parse("relay.yaml", data, []string{"EMPTY=", "SECRET=hunter2-hunter2-hunter2-hunter2-hunter2", "SHORT=hunter2", "RELAY_SERVICE_PORT=80"})
			if err == nil {
				t.Fatalf("accepted: %+v", cfg)
			}
			var errs *Errors
			if !errors.As(err, &errs) {
				t.Fatalf("%T: %v", err, err)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("a secret is told: %v", err)
			}
			golden := strings.TrimSuffix(f, ".yaml") + ".txt"
			got := err.Error() + "\n"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("says\n%swant\n%s", got, want)
			}
		})
	}
}

const minimal = "endpoints: [{path: /ws, auth: [guests]}]\nauth: {guests: {type: anonymous}}\nrooms: [{match: \"*\"}]\n"

func parse(t *testing.T, yaml string, environ ...string) *Config {
	t.Helper()
	cfg, _, err := Parse("relay.yaml", []byte(yaml), environ)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func TestTheSampleLoadsAndMeansWhatItSays(t *testing.T) {
	cfg, _, err := Load("../relay.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Listen != "127.0.0.1:5000" || cfg.Endpoints[0].Limits.FrameSize != 64<<10 || cfg.Rooms[0].History.Keep != 200 || cfg.Rooms[0].Messages.Rate.PerSecond() != 10 {
		t.Errorf("%+v", cfg)
	}
}

func TestDefaultsReachEveryEntry(t *testing.T) {
	cfg := parse(t, minimal)
	e, r := cfg.Endpoints[0], cfg.Rooms[0]
	if cfg.Listen != ":5000" || e.Limits.Connections != 100000 || e.Heartbeat.Every.String() != "25s" || e.Queue.Slow != SlowDisconnect ||
		!r.Members.Presence || r.Join != "authenticated" || r.Publish != "members" || r.Idle.String() != "24h" || r.History != nil || cfg.Redis != nil {
		t.Errorf("%+v", cfg)
	}
	cfg = parse(t, minimal+"redis: {url: redis://localhost}\n")
	if cfg.Redis.Prefix != "relay" {
		t.Errorf("%+v", cfg.Redis)
	}
	dev := Dev()
	if dev.Rooms[0].Join != "anyone" || dev.Rooms[0].History.Keep != 200 || dev.Endpoints[0].Limits.FrameSize == 0 {
		t.Errorf("%+v", dev)
	}
}

func TestTheEnvironmentOverrides(t *testing.T) {
	cfg := parse(t, minimal,
		"RELAY__LISTEN=:7000", "RELAY__REDIS__URL=redis://u:pw@r:6379/2", "RELAY__ENDPOINTS__0__LIMITS__PER_IP=7",
		"RELAY__ENDPOINTS__0__COMPRESSION=true", "RELAY__TRUSTED_PROXIES=10.0.0.0/8, 192.0.2.0/24", "RELAY__ROOMS__1__MATCH=x",
		"RELAY__ROOMS__0__MATCH=lobby", "RELAY__DRAIN__OVER=1s", "RELAY_PORT=tcp://10.0.0.1:80",
	)
	if cfg.Listen != ":7000" || cfg.Redis.URL.Reveal() != "redis://u:pw@r:6379/2" || cfg.Endpoints[0].Limits.PerIP != 7 || !cfg.Endpoints[0].Compression ||
		len(cfg.TrustedProxies) != 2 || len(cfg.Rooms) != 2 || cfg.Rooms[1].Match != "x" || cfg.Rooms[1].Messages.MaxSize != 16<<10 || cfg.Drain.Over.String() != "1s" {
		t.Errorf("%+v", cfg)
	}
	for env, want := range map[string]string{
		"RELAY__REDIS__ULR=redis://x": `environment RELAY__REDIS__ULR: redis.ulr: unknown key (did you mean "url"?)`,
		"RELAY__DRAIN__OVER=5":        "environment RELAY__DRAIN__OVER: drain.over: must be a duration such as 30s, 5m or 24h",
		"RELAY__ROOMS__5__MATCH=x":    "rooms: entries are numbered from 0 without gaps",
		"RELAY__LISTEN__X=1":          "listen",
		"RELAY__AUTH__G__TYPE=jtw":    `environment RELAY__AUTH__G__TYPE: auth.g.type: "jtw" is not one of anonymous, jwt, apikey (did you mean "jwt"?)`,
	} {
		_, _, err := Parse("relay.yaml", []byte(minimal), []string{env})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", env, err)
		}
	}
}

func TestValuesFromElsewhere(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("from a file: ${NOT} [looked at]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := parse(t, minimal+fmt.Sprintf(`
listen: "${HOST:-127.0.0.1}:${PORT}"
redis: {url: "redis://r", user: "$${literal}", password: "${file:%s}"}
drain: {timeout: "${T}"}
admin: {listen: "${NONE:-}"}
`, file), "PORT=8080", "T=40s", "HOST=")
	if cfg.Listen != "127.0.0.1:8080" || cfg.Redis.User != "${literal}" || cfg.Redis.Password.Reveal() != "from a file: ${NOT} [looked at]" || cfg.Drain.Timeout.String() != "40s" || cfg.Admin.Listen != "" {
		t.Errorf("%+v %q", cfg, cfg.Redis.Password.Reveal())
	}
}

func TestProblemsFoundLaterNameTheirLine(t *testing.T) {
	_, src, err := Parse("relay.yaml", []byte(minimal+"admin:\n  listen: \":1\"\n"), []string{"RELAY__DRAIN__OVER=1s"})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"admin.listen":         "relay.yaml:5:3: admin.listen: m",
		"admin.nowhere.at.all": "relay.yaml:4:1: admin.nowhere.at.all: m",
		"endpoints[0].auth[0]": "relay.yaml:1:32: endpoints[0].auth[0]: m",
		"rooms[0].join":        "relay.yaml:3:9: rooms[0].join: m",
		"drain.over":           "environment RELAY__DRAIN__OVER: drain.over: m",
		"redis":                "relay.yaml:1:1: redis: m",
	} {
		if got := src.Problem(path, "m").String(); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	cfg := parse(t, minimal+`
redis: {url: "redis://u:hunter2@localhost/1", password: ""}
`)
	cfg.Redis.Password = NewSecret("hunter2")
	cfg.Auth["x"] = Auth{Secret: NewSecret("hunter2"), Keys: map[string]APIKey{"k": {Hash: NewSecret("hunter2")}}}
	b, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	all := string(b)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		all += fmt.Sprintf(verb, *cfg) + fmt.Sprintf(verb, *cfg.Redis) + fmt.Sprintf(verb, cfg.Auth) + fmt.Sprintf(verb, cfg.Redis.Password) + fmt.Sprintf(verb, cfg.Redis.URL)
	}
	if strings.Contains(all, "hunter2") || strings.Contains(all, fmt.Sprintf("%x", "hunter2")) {
		t.Error("a secret is printed")
	}
	if cfg.Redis.URL.String() != "redis://u:xxxxx@localhost/1" {
		t.Errorf("%s", cfg.Redis.URL)
	}
}

func TestTypesReadWhatTheyWrite(t *testing.T) {
	for _, s := range []string{"30s", "24h", "1h30m", "250ms", "0s"} {
		var d Duration
		if err := d.UnmarshalText([]byte(s)); err != nil || d.String() != s {
			t.Errorf("%s: %s, %v", s, d, err)
		}
	}
	for _, s := range []string{"0B", "1B", "64KiB", "1MiB", "3GiB", "1025B"} {
		var z Size
		if err := z.UnmarshalText([]byte(s)); err != nil || z.String() != s {
			t.Errorf("%s: %s, %v", s, z, err)
		}
	}
	for _, s := range []string{"20/s", "500/m", "1/h"} {
		var r Rate
		if err := r.UnmarshalText([]byte(s)); err != nil || r.String() != s {
			t.Errorf("%s: %s, %v", s, r, err)
		}
	}
	for v, bad := range map[interface{ UnmarshalText([]byte) error }][]string{
		new(Duration): {"5", "-1s", "", "1 s", "1d"},
		new(Size):     {"5", "-1B", "KiB", "1.5KiB", "1KB", "99999999999GiB"},
		new(Rate):     {"5", "0/s", "-1/s", "5/d", "1.5/s", "/s"},
	} {
		for _, s := range bad {
			if v.UnmarshalText([]byte(s)) == nil {
				t.Errorf("%T took %q", v, s)
			}
		}
	}
}

// FuzzParse: whatever the file holds, Parse does not panic, never tells a
// secret, and what it accepts it accepts again.
func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/bad/*.yaml")
	for _, name := range append(files, "../relay.yaml") {
		if b, err := os.ReadFile(name); err == nil {
			f.Add(b)
		}
	}
	for _, path := range []string{"listen: %s", "hosts: [%s]", "endpoints: [{path: %s, auth: [%s], origins: [%s]}]", "auth: {a: {type: %s, issuer: %s, jwks: %s}}", "redis: {url: %s, prefix: %s}"} {
		f.Add([]byte(strings.ReplaceAll(path, "%s", `"${SECRET}"`)))
	}
	const planted = "pl4nted-s3cret-value-of-32-bytes-and-more"
	environ := []string{"SECRET=" + planted, "RELAY__REDIS__PASSWORD=" + planted}
	f.Fuzz(func(t *testing.T, data []byte) {
		if strings.Contains(string(data), "${file:") {
			return
		}
		cfg, src, err := Parse("relay.yaml", data, environ)
		if err != nil {
			if strings.Contains(err.Error(), planted) {
				t.Fatalf("told: %v", err)
			}
			return
		}
		if s := fmt.Sprintf("%+v %#v", cfg.Redis, cfg.Auth); strings.Contains(s, planted) {
			t.Fatalf("printed: %s", s)
		}
		_ = src.Problem("rooms[0].join", "x")
		again, _, err := Parse("relay.yaml", data, environ)
		if err != nil || !reflect.DeepEqual(cfg, again) {
			t.Fatalf("the second time: %v", err)
		}
	})
}

// Several variables for one place have one meaning or none, whatever their order.
func TestVariablesDoNotOverlap(t *testing.T) {
	for range 20 { // map order must not matter
		_, _, err := Parse("relay.yaml", []byte(minimal), []string{"RELAY__REDIS__URL=redis://r", "RELAY__REDIS=x"})
		const want = "environment RELAY__REDIS__URL: redis.url: RELAY__REDIS sets all of redis"
		if err == nil || err.Error() != want {
			t.Fatalf("says\n%v\nwant\n%s", err, want)
		}
	}
	for env, want := range map[string]string{
		"RELAY__ROOMS__1__MATCH=":              "rooms[1].match: must not be empty",
		"RELAY__AUTH__GUESTS__USER__ID=/x":     "auth.guests.user: means nothing for type anonymous",
		"RELAY__TELEMETRY__LOG__LEVEL=verbose": `"verbose" is not one of debug, info, warn, error`,
	} {
		_, _, err := Parse("relay.yaml", []byte(strings.Replace(minimal, `"*"`, "lobby", 1)), []string{env})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", env, err)
		}
	}
}

// A file of the largest size is answered in time, whatever it holds.
func TestLargeFilesAreAnsweredInTime(t *testing.T) {
	for name, yaml := range map[string]string{
		"deep":   strings.Repeat("{a: ", 9000) + strings.Repeat("}", 9000),
		"wrong":  "endpoints:\n" + strings.Repeat("- {path: 1}\n", 80_000),
		"names":  "endpoints: [{path: /ws, auth: [" + strings.Repeat("x,", 200_000) + "]}]\n",
		"twice":  minimal + strings.Repeat("listen: a\n", 90_000),
		"larger": strings.Repeat("#", MaxFile+1),
	} {
		start := time.Now()
		if _, _, err := Parse("relay.yaml", []byte(yaml), nil); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if d := time.Since(start); d > 30*time.Second { // it is well below 1 s on an idle machine; growing with the square, it was 10 s to a minute, and ten times that with the race detector
			t.Errorf("%s: took %s", name, d)
		} else {
			t.Logf("%s: %s", name, d)
		}
	}
}
