package config

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestFilters(t *testing.T) {
	cfg, _, err := Parse("relay.yaml", []byte(minimalWith(`
filters:
  words:
    type: builtin/words
    config: {list: [a, "1", 2], mask: true, rate: 0.5, nested: {empty: {}, none: []}, key: "${SECRET}"}
    on_error: allow
  own:
    command: [./own, -v]
    sha256: {./own: "`+strings.Repeat("aB", 32)+`"}
    on_error: {timeout: allow}
    enforce: 2.5%
    mode: async
    actions: [redact, mute]
    env: {TOKEN: "${SECRET}"}
`)), []string{"SECRET=hunter2"})
	if err != nil {
		t.Fatal(err)
	}
	words, own := cfg.Filters["words"], cfg.Filters["own"]
	var got any
	if err := json.Unmarshal(words.Config.Raw(), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"list": []any{"a", "1", 2.0}, "mask": true, "rate": 0.5, "nested": map[string]any{"empty": map[string]any{}, "none": []any{}}, "key": "hunter2"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("config %v, want %v", got, want)
	}
	if words.OnError != (OnError{"allow", "allow", "allow", "allow"}) || own.OnError != (OnError{"allow", "reject", "reject", "reject"}) {
		t.Errorf("on_error %+v and %+v", words.OnError, own.OnError)
	}
	if share, ok := own.Enforce.Share(); !ok || share != 0.025 {
		t.Errorf("enforce %v %v", share, ok)
	}
	if share, ok := words.Enforce.Share(); !ok || share != 1 {
		t.Errorf("enforce by default %v %v", share, ok)
	}
	if words.Timeout.Std() != 50*time.Millisecond || own.Memory != 256<<20 || own.MTLS != "auto" {
		t.Errorf("defaults %+v", own)
	}
	if own.Env["TOKEN"].Reveal() != "hunter2" || strings.Contains(strings.Join([]string{own.Env["TOKEN"].String(), words.Config.String()}, ""), "hunter2") {
		t.Error("a secret prints, or is not there")
	}
}

func TestPercent(t *testing.T) {
	for in, want := range map[string]float64{"0%": 0, "1%": 0.01, "0.1%": 0.001, "100%": 1} {
		var p Percent
		if err := p.UnmarshalText([]byte(in)); err != nil || p.String() != in {
			t.Errorf("%s: %v, written %s", in, err, p)
		}
		if share, ok := p.Share(); !ok || share != want {
			t.Errorf("%s is %v", in, share)
		}
	}
	for _, in := range []string{"", "1", "-1%", "101%", "NaN%", "0x1%", "1e1000%", "%", "Inf%"} {
		if err := new(Percent).UnmarshalText([]byte(in)); err == nil {
			t.Errorf("%q was accepted", in)
		}
	}
	if share, ok := (Percent{}).Share(); ok || share != 0 {
		t.Error("the zero Percent is given")
	}
}

func minimalWith(s string) string { return minimal + s }
