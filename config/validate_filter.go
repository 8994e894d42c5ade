package config

import (
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

var hexSum = regexp.MustCompile(`^[0-9a-fA-F]{64}$`)

func (v *validator) filters(c *Config) {
	for _, name := range slices.Sorted(maps.Keys(c.Filters)) {
		path, f := join("filters", name), c.Filters[name]
		if !authName.MatchString(name) {
			v.fail(path, "a name is lower-case letters, digits, _ and -, and starts with a letter")
		}
		switch {
		case f.Type == "" && len(f.Command) == 0:
			v.fail(path, "needs type (a built-in filter) or command (a plugin)")
		case f.Type != "" && len(f.Command) > 0:
			v.fail(path, "has both type and command: a filter is built in or a plugin")
		case f.Type != "":
			v.builtin(path, f)
		default:
			v.plugin(path, f)
		}
		v.words(join(path, "events"), f.Events, FilterEvents)
		v.words(join(path, "actions"), f.Actions, FilterActions)
		if f.Timeout == 0 {
			v.fail(join(path, "timeout"), "must be above 0s")
		}
		if f.Mode != "async" && slices.Contains(f.Actions, "redact") {
			v.fail(join(path, "actions"), "redact is for mode async: the others judge before the message is out")
		}
	}
}

// builtin refuses what only a process has.
func (v *validator) builtin(path string, f Filter) {
	if !strings.HasPrefix(f.Type, "builtin/") {
		v.fail(join(path, "type"), "%s is no filter: built-in ones are called builtin/…, a plugin has a command instead", v.src.show(join(path, "type"), f.Type))
	}
	for _, key := range []string{"sha256", "unpinned", "env", "memory", "mtls"} {
		if v.src.says(join(path, key)) {
			v.fail(join(path, key), "means nothing for a built-in filter")
		}
	}
}

func (v *validator) plugin(path string, f Filter) {
	if f.Command[0] == "" {
		v.fail(join(path, "command"), "the first entry is the program to run")
	}
	switch {
	case len(f.SHA256) == 0 && !f.Unpinned:
		v.fail(path, "sha256 is missing: relay plugin pin prints the lines for the program; or say unpinned: true")
	case len(f.SHA256) > 0 && f.Unpinned:
		v.fail(join(path, "unpinned"), "contradicts sha256")
	}
	for _, file := range slices.Sorted(maps.Keys(f.SHA256)) {
		at := join(join(path, "sha256"), file)
		if len(f.SHA256[file]) == 0 {
			v.fail(at, "must not be empty")
		}
		for _, sum := range f.SHA256[file] {
			if !hexSum.MatchString(sum) {
				v.fail(at, "is not a SHA-256 in hex, which has 64 digits; relay plugin pin prints it")
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(f.Env)) {
		if !envName(name) {
			v.fail(join(join(path, "env"), name), "is not a name of an environment variable")
		}
	}
	if f.Memory < 8<<20 {
		v.fail(join(path, "memory"), "%s is too little for a process; 8MiB is the least", f.Memory)
	}
}

// words checks a list against the words it may hold.
func (v *validator) words(path string, list, known []string) {
	for i, w := range list {
		at := index(path, i)
		if !slices.Contains(known, w) {
			v.fail(at, "%s is not one of %s%s", v.src.show(at, w), strings.Join(known, ", "), v.suggest(at, w, known))
		}
		if slices.Index(list, w) < i {
			v.fail(at, "%s is listed twice", v.src.show(at, w))
		}
	}
}

// roomFilters checks the names that rooms give.
func (v *validator) roomFilters(c *Config, path string, r Room) {
	names := slices.Sorted(maps.Keys(c.Filters))
	for k, name := range r.Filters {
		at := index(join(path, "filters"), k)
		if _, ok := c.Filters[name]; !ok {
			v.fail(at, "no filter named %s%s", v.src.show(at, name), v.suggest(at, name, names))
		}
		if slices.Index(r.Filters, name) < k {
			v.fail(at, "%s is listed twice", v.src.show(at, name))
		}
	}
	for k, p := range r.Messages.Text {
		if p != "" && !strings.HasPrefix(p, "/") {
			at := index(join(path, "messages.text"), k)
			v.fail(at, "%s is not a JSON pointer: it is empty or starts with /", v.src.show(at, p))
		}
	}
}

func (v *validator) telemetry(c *Config) {
	if t := c.Telemetry.Traces; t != nil {
		v.collector("telemetry.traces.otlp", t.OTLP)
		if t.UI != "" && !strings.Contains(t.UI, "{traceId}") {
			v.fail("telemetry.traces.ui", "has no {traceId} in it: every link would be the same")
		}
	}
	m := c.Telemetry.Metrics
	v.collector("telemetry.metrics.otlp", m.OTLP)
	if m.Protocol != "" && m.OTLP == "" {
		v.fail("telemetry.metrics.protocol", "says how to push metrics, and otlp does not say where to")
	}
	if m.Path != "" && (!strings.HasPrefix(m.Path, "/") || strings.ContainsAny(m.Path, "?# {}")) {
		v.fail("telemetry.metrics.path", "%s is not a path such as /metrics", v.src.show("telemetry.metrics.path", m.Path))
	}
	if m.Listen != "" {
		v.addr("telemetry.metrics.listen", m.Listen)
	}
	if n := len(c.Admin.Key.Reveal()); n > 0 && n < 32 {
		v.fail("admin.key", "has %d bytes and needs 32: whoever guesses it signs with it", n)
	}
}

// collector checks where OTLP goes.
func (v *validator) collector(path, s string) {
	if s == "" {
		return
	}
	if u, err := url.Parse(s); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		v.fail(path, "%s is not a URL such as http://localhost:4317", v.src.show(path, s))
	}
}
