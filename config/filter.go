package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Filter judges messages: a built-in one by its Type, or a plugin by its
// Command. Exactly one of both is set.
type Filter struct {
	Type     string                `key:"type" doc:"A built-in filter: builtin/words, builtin/regex, builtin/links, builtin/repeats, builtin/caps or builtin/length." example:"builtin/words"`
	Command  []string              `key:"command" doc:"A plugin: the program and its arguments." example:"[\"./filters/profanity\"]"`
	SHA256   map[string]StringList `key:"sha256" doc:"Hashes that the program and the other files that matter must have. relay plugin pin FILE prints the lines." example:"{\"./filters/profanity\": \"9f2c…\"}"`
	Unpinned bool                  `key:"unpinned" default:"false" doc:"Run the program whatever its hash is."`
	Config   JSON                  `key:"config" doc:"The filter's own configuration, checked against its schema."`
	Timeout  Duration              `key:"timeout" default:"50ms" doc:"Time for a verdict, waiting included."`
	OnError  OnError               `key:"on_error" default:"reject" doc:"What becomes of a message without a verdict: reject, allow, or one word for each kind."`
	Mode     string                `key:"mode" default:"enforce" enum:"enforce,observe,async" doc:"enforce: messages wait for the verdict. observe: the verdict is recorded and not applied. async: the message goes out at once and may be taken back."`
	Enforce  Percent               `key:"enforce" default:"100%" doc:"Share of users for whom the verdict is applied; the rest is observed. For rolling a rule out."`
	Events   []string              `key:"events" doc:"What is judged: chat, signal, join. Default: [chat]." example:"[chat, join]"`
	Exempt   string                `key:"exempt" doc:"CEL expression: whom the filter does not look at." example:"'moderator' in user.roles"`
	Actions  []string              `key:"actions" doc:"The most the filter may ever do: modify, reject, drop, shadow, warn, mute, kick, ban, redact. Default: [modify, reject, drop]." example:"[reject, mute]"`
	Env      map[string]Secret     `key:"env" doc:"The plugin's environment. Nothing else is inherited." example:"{GOMEMLIMIT: 64MiB}"`
	Memory   Size                  `key:"memory" default:"256MiB" doc:"Resident memory above which the plugin's process is replaced."`
	MTLS     string                `key:"mtls" default:"auto" enum:"auto,off" doc:"auto: relay and the plugin prove to each other who they are. off: for plugins in other languages than Go."`
}

// FilterEvents and FilterActions are what may stand in events and actions.
var (
	FilterEvents  = []string{"chat", "signal", "join"}
	FilterActions = []string{"modify", "reject", "drop", "shadow", "warn", "mute", "kick", "ban", "redact"}
)

// OnError says what becomes of a message that a filter has no verdict on. One
// word sets all.
type OnError struct {
	Timeout  string `key:"timeout" default:"reject" enum:"allow,reject" doc:"No verdict came in time."`
	Crash    string `key:"crash" default:"reject" enum:"allow,reject" doc:"The process ended."`
	Error    string `key:"error" default:"reject" enum:"allow,reject" doc:"The filter said that it has none, or one that it may not give."`
	Overload string `key:"overload" default:"reject" enum:"allow,reject" doc:"Too many messages wait, or the filter fails so often that it is not asked."`
}

// UnmarshalText reads the one word.
func (o *OnError) UnmarshalText(b []byte) error {
	switch s := string(b); s {
	case "allow", "reject":
		*o = OnError{s, s, s, s}
		return nil
	}
	return errors.New("must be allow, reject, or a map of timeout, crash, error and overload")
}

func (o *OnError) shorthand() {}

// shorthand marks a struct that a single text may stand for.
type shorthand interface{ shorthand() }

// JSON is a value of any shape, kept as JSON for whoever knows what it means.
type JSON struct{ raw json.RawMessage }

// Raw is the value as a JSON text; nil when there is none.
func (j JSON) Raw() json.RawMessage { return j.raw }

// String does not tell the value, which may hold a secret.
func (j JSON) String() string {
	if j.raw == nil {
		return ""
	}
	return redacted
}

// Format implements fmt.Formatter, for every verb.
func (j JSON) Format(f fmt.State, _ rune) { fmt.Fprint(f, j.String()) }

// plain turns a tree of the loader into what encoding/json takes. A text that
// came from ${…} stays a text: a plugin that wants a number says so in its file.
func plain(in any) any {
	switch x := in.(type) {
	case map[string]any:
		_, list := x[isList]
		if !list && !indices(x) {
			m := make(map[string]any, len(x))
			for k, v := range x {
				m[k] = plain(v)
			}
			return m
		}
		n := len(x)
		if list {
			n--
		}
		out := make([]any, n)
		for i := range out {
			out[i] = plain(x[strconv.Itoa(i)])
		}
		return out
	case loose:
		return string(x)
	case broken:
		return nil
	default:
		return in
	}
}

// Percent is a share, written like 1% or 0.1%. The zero Percent is not set.
type Percent struct {
	set   bool
	value float64
}

// Share is the percentage as a number from 0 to 1, and whether it was given.
func (p Percent) Share() (float64, bool) { return p.value / 100, p.set }

// IsZero reports whether nothing was given, which is not the same as 0%.
func (p Percent) IsZero() bool { return !p.set }

// String writes what UnmarshalText reads.
func (p Percent) String() string {
	if !p.set {
		return ""
	}
	return strconv.FormatFloat(p.value, 'f', -1, 64) + "%"
}

// UnmarshalText reads a percentage.
func (p *Percent) UnmarshalText(b []byte) error {
	digits, ok := strings.CutSuffix(string(b), "%")
	v, err := strconv.ParseFloat(strings.TrimSpace(digits), 64)
	if !ok || err != nil || !(v >= 0 && v <= 100) || strings.ContainsAny(digits, "xXpPnNiI_") {
		return errors.New("must be a percentage such as 1%, 0.1% or 100%")
	}
	*p = Percent{true, v}
	return nil
}

// MarshalText writes what UnmarshalText reads.
func (p Percent) MarshalText() ([]byte, error) { return []byte(p.String()), nil }
