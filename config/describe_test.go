package config

import (
	"bytes"
	"encoding/json"
	"os"
	"reflect"
	"testing"
)

func TestGeneratedFilesAreFresh(t *testing.T) {
	for name, want := range map[string][]byte{"../docs/config.md": Reference(), "../docs/relay.schema.json": Schema()} {
		got, err := os.ReadFile(name)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is stale (%v): run go generate ./config", name, err)
		}
	}
	if !json.Valid(Schema()) {
		t.Error("the schema is not JSON")
	}
}

// Every field has a key and a meaning, so that no generated page has a hole.
func TestEveryFieldIsDocumented(t *testing.T) {
	var walk func(reflect.Type)
	n := 0
	walk = func(t2 reflect.Type) {
		for f := range t2.Fields() {
			n++
			if f.Tag.Get("key") == "" || f.Tag.Get("doc") == "" {
				t.Errorf("%s.%s lacks a key or doc tag", t2.Name(), f.Name)
			}
			if inner, _ := structIn(f.Type); inner != nil {
				walk(inner)
			}
		}
	}
	walk(reflect.TypeFor[Config]())
	if n < 80 {
		t.Errorf("%d fields were looked at", n)
	}
}
