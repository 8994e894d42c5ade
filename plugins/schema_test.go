package plugins

import (
	"strings"
	"testing"
)

func TestAConfigurationIsHeldAgainstTheSchema(t *testing.T) {
	const schema = `{"type":"object","properties":{"words":{"type":"array","items":{"type":"string","minLength":1}},"a/b":{"type":"integer"}},"additionalProperties":false}`
	for config, want := range map[string]string{
		`{}`:                          "",
		`{"words":["a"]}`:             "",
		`{"words":["a","",3]}`:        "/words/1: ; /words/2: ",
		`{"a/b":"x"}`:                 "/a~1b: ",
		`{"wrods":[]}`:                ": ",
		`[]`:                          ": ",
		`{"words":["` + "\x00" + `"]`: ": ",
	} {
		problems, err := checkSchema([]byte(schema), []byte(config))
		if err != nil {
			t.Errorf("%s: %v", config, err)
		}
		var got []string
		for _, p := range problems {
			if p.Message == "" || p.Warning {
				t.Errorf("%s: %+v", config, p)
			}
			got = append(got, p.Path+": ")
		}
		if s := strings.Join(got, "; "); s != want {
			t.Errorf("%s: problems at %q, want %q: %v", config, s, want, problems)
		}
	}
	if p, err := checkSchema(nil, []byte(`{"a":1}`)); err != nil || len(p) != 1 {
		t.Errorf("without a schema: %v %v", p, err)
	}
	if p, err := checkSchema(nil, []byte(`{}`)); err != nil || len(p) != 0 {
		t.Errorf("without either: %v %v", p, err)
	}
	for schema, want := range map[string]string{
		`{`:                               "not JSON",
		`{"type":"thing"}`:                "the schema of its configuration",
		`{"$ref":"file:///etc/passwd"}`:   "must be whole",
		`{"$ref":"http://localhost:1/x"}`: "must be whole",
	} {
		if _, err := checkSchema([]byte(schema), []byte(`{}`)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", schema, err)
		}
	}
}
