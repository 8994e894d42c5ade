package builtin

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "write the generated tables of docs/filters.md")

const page = "../../docs/filters.md"

// TestFiltersPageIsFresh: the page's tables are those that the configurations
// make. Run with -update to write them.
func TestFiltersPageIsFresh(t *testing.T) {
	old := readPage(t)
	fresh := old
	for _, name := range Names() {
		p, _ := Lookup(name)
		d, err := p.Describe()
		if err != nil {
			t.Fatal(err)
		}
		begin, end := "<!-- begin "+name+" -->\n", "<!-- end "+name+" -->"
		head, rest, ok := strings.Cut(fresh, begin)
		_, tail, closed := strings.Cut(rest, end)
		if !ok || !closed {
			t.Fatalf("docs/filters.md has no place for the table of %s", name)
		}
		fresh = head + begin + keys(t, d.Schema) + end + tail
	}
	if fresh == old {
		return
	}
	if !*update {
		t.Fatal("docs/filters.md is stale: run go test ./plugins/builtin -run TestFiltersPageIsFresh -update")
	}
	if err := os.WriteFile(page, []byte(fresh), 0o644); err != nil {
		t.Fatal(err)
	}
}

func readPage(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// object is as much of a JSON Schema as the configurations use.
type object struct {
	Defs       map[string]object `json:"$defs"`
	Ref        string            `json:"$ref"`
	Type       string
	Items      *object
	Properties ordered
	Required   []string
	Text       string `json:"description"`
	Default    any
}

// ordered are the properties in their order.
type ordered []struct {
	key string
	object
}

func (o *ordered) UnmarshalJSON(raw []byte) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	if _, err := dec.Token(); err != nil {
		return err
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return err
		}
		*o = append(*o, struct {
			key string
			object
		}{key: key.(string)})
		if err := dec.Decode(&(*o)[len(*o)-1].object); err != nil {
			return err
		}
	}
	return nil
}

// keys is the table of a configuration's keys.
func keys(t *testing.T, schema []byte) string {
	t.Helper()
	var root object
	if err := json.Unmarshal(schema, &root); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("| key | type | default | meaning |\n|---|---|---|---|\n")
	var write func(o *object, prefix string)
	write = func(o *object, prefix string) {
		for _, p := range o.Properties {
			if p.Text == "" {
				t.Errorf("%s%s has no description", prefix, p.key)
			}
			typ := map[string]string{"string": "text", "integer": "number", "boolean": "true or false", "array": "list"}[p.Type]
			if p.Items != nil && p.Items.Type == "string" {
				typ = "list of texts"
			}
			value := ""
			switch d := p.Default.(type) {
			case nil:
			case string:
				value = "`" + d + "`"
			default:
				raw, _ := json.Marshal(d)
				value = "`" + strings.ReplaceAll(strings.ReplaceAll(string(raw), `"`, ""), ",", ", ") + "`"
			}
			if strings.Contains(value, " ") && p.Type == "string" {
				value = strings.Trim(value, "`")
			}
			if slices.Contains(o.Required, p.key) {
				value = "required"
			}
			fmt.Fprintf(&b, "| `%s%s` | %s | %s | %s |\n", prefix, p.key, typ, value, strings.NewReplacer("|", `\|`, "*", `\*`).Replace(p.Text))
			if p.Items != nil && p.Items.Ref != "" {
				inner, ok := root.Defs[strings.TrimPrefix(p.Items.Ref, "#/$defs/")]
				if !ok {
					t.Fatalf("no definition of %s", p.Items.Ref)
				}
				write(&inner, prefix+p.key+"[].")
			}
		}
	}
	write(&root, "")
	return b.String()
}

// fence finds the examples: the language, and a word after it.
var fence = regexp.MustCompile("(?s)```(yaml|text)( [a-z]+)?\n(.*?)\n```")

// The page's configurations hold, and do to its texts what it says: a line
// "text → what becomes of it" after the configuration of the filter that does it.
func TestFiltersPageIsTrue(t *testing.T) {
	configs := map[string]string{} // by type, as the page had it last
	examples := 0
	t.Chdir("testdata") // where the file of words is
	raw, err := os.ReadFile("../" + page)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range fence.FindAllStringSubmatch(string(raw), -1) {
		kind, name, body := m[1], strings.TrimSpace(m[2]), m[3]
		if kind == "yaml" {
			var doc struct {
				Filters map[string]struct {
					Type   string
					Config map[string]any
				}
			}
			if err := yaml.Unmarshal([]byte(body), &doc); err != nil {
				t.Fatalf("%s\n%v", body, err)
			}
			for _, f := range doc.Filters {
				name, ok := strings.CutPrefix(f.Type, "builtin/")
				if !ok {
					t.Errorf("no built-in: %s", body)
				}
				raw, _ := json.Marshal(f.Config)
				build(t, name, string(raw))
				configs[name] = string(raw)
			}
			continue
		}
		if name == "" {
			continue
		}
		if configs[name] == "" {
			t.Fatalf("the examples of %s come before its configuration", name)
		}
		judge := build(t, name, configs[name])
		for line := range strings.SplitSeq(body, "\n") {
			text, want, ok := strings.Cut(line, "→")
			if !ok {
				t.Errorf("%s: no example: %s", name, line)
				continue
			}
			examples++
			text, want = strings.TrimSpace(text), strings.TrimSpace(want)
			if want == "passes" {
				want = "ok"
			}
			if got := told(t, judge, chat(text)); got != want {
				t.Errorf("%s: %q → %s, the page says %s", name, text, got, want)
			}
		}
	}
	if len(configs) != len(Names()) || examples < 20 {
		t.Errorf("%d configurations and %d examples", len(configs), examples)
	}
}
