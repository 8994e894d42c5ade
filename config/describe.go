package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Reference is docs/config.md: every key, its type, default and meaning.
func Reference() []byte {
	var b bytes.Buffer
	b.WriteString(referenceHead)
	section(&b, "", reflect.TypeFor[Config]())
	return b.Bytes()
}

const referenceHead = "# Configuration\n\n" +
	"<!-- Made by go generate ./config from the structs in config/config.go. Change it there. -->\n\n" +
	"Everything that `relay.yaml` may hold. `relay check FILE` finds mistakes, all at once and with their lines; `relay schema` prints a JSON\n" +
	"Schema that editors understand. Unknown keys, wrong types and bare numbers where a unit is meant are errors.\n\n" +
	"- **Durations** are like `30s`, `5m`, `24h`; **sizes** like `512B`, `64KiB`, `1MiB`; **rates** like `20/s`, `500/m`, `1000/h`.\n" +
	"- **From elsewhere**: a text may hold `${NAME}` (an error when it is unset or empty), `${NAME:-default}` or `${file:/run/secrets/name}`.\n" +
	"  `$${` stands for `${` itself. What comes in is taken as it is, not looked at again.\n" +
	"- **From the environment**: `RELAY__REDIS__URL` overrides `redis.url`, `RELAY__ENDPOINTS__0__PATH` the path of the first endpoint. A list of\n" +
	"  texts may be given with commas. An unknown name behind `RELAY__` is an error; other `RELAY_` names are left alone.\n" +
	"- **Rules** of rooms are `anyone`, `authenticated`, `members`, `nobody`, or a [CEL](https://cel.dev) expression over `user` {id, name, roles,\n" +
	"  claims, guest}, `room` {id, params, members}, `endpoint` and `client` {ip}. What is missing, fails or costs too much is a no.\n" +
	"- **Secrets** never print: not in logs, errors or the output of any command.\n"

// section writes the table of one struct and then of those inside it.
func section(b *bytes.Buffer, path string, t reflect.Type) {
	title := path
	if path == "" {
		title = "At the top"
	}
	fmt.Fprintf(b, "\n## %s\n\n| key | type | default | meaning |\n|---|---|---|---|\n", title)
	type sub struct {
		path string
		t    reflect.Type
	}
	var subs []sub
	for f := range t.Fields() {
		key := f.Tag.Get("key")
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", key, typeName(f.Type), defaultCell(f), meaning(f))
		if inner, suffix := structIn(f.Type); inner != nil {
			subs = append(subs, sub{join(path, key) + suffix, inner})
		}
	}
	for _, s := range subs {
		section(b, s.path, s.t)
	}
}

// structIn finds the struct that a field holds, and how its entries are
// addressed.
func structIn(t reflect.Type) (reflect.Type, string) {
	suffix := ""
	switch t.Kind() {
	case reflect.Pointer:
		t = t.Elem()
	case reflect.Slice:
		t, suffix = t.Elem(), "[]"
	case reflect.Map:
		t, suffix = t.Elem(), ".NAME"
	}
	if t.Kind() != reflect.Struct || isText(t) {
		return nil, ""
	}
	return t, suffix
}

func typeName(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[Duration]():
		return "duration"
	case reflect.TypeFor[Size]():
		return "size"
	case reflect.TypeFor[Rate]():
		return "rate"
	case reflect.TypeFor[Secret]():
		return "secret text"
	case reflect.TypeFor[URL]():
		return "URL"
	case reflect.TypeFor[StringList]():
		return "text or list of texts"
	case reflect.TypeFor[Percent]():
		return "percentage"
	case reflect.TypeFor[JSON]():
		return "anything"
	case reflect.TypeFor[OnError]():
		return "word or map"
	}
	switch t.Kind() {
	case reflect.Slice:
		return "list of " + typeName(t.Elem()) + "s"
	case reflect.Map, reflect.Pointer, reflect.Struct:
		return "map"
	case reflect.Bool:
		return "true or false"
	case reflect.Int:
		return "number"
	default:
		return "text"
	}
}

func defaultCell(f reflect.StructField) string {
	if f.Tag.Get("required") == "true" {
		return "required"
	}
	if d := f.Tag.Get("default"); d != "" {
		return "`" + d + "`"
	}
	return ""
}

func meaning(f reflect.StructField) string {
	s := f.Tag.Get("doc")
	if e := f.Tag.Get("example"); e != "" {
		s += " Example: `" + e + "`."
	}
	return strings.ReplaceAll(s, "|", "\\|")
}

// Schema is a JSON Schema (draft 2020-12) of relay.yaml, for editors.
func Schema() []byte {
	root := schemaOf(reflect.TypeFor[Config](), "")
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "relay.yaml"
	b, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		panic(err) // maps of strings and the like always have a JSON form; a test calls this
	}
	return append(b, '\n')
}

type schema = map[string]any

// elsewhere is a text that takes its value from ${…}.
func elsewhere() schema { return schema{"type": "string", "pattern": reference} }

// A value may always be taken from elsewhere, whatever its type.
const reference = `\$\{[^}]+\}`

func schemaOf(t reflect.Type, tag reflect.StructTag) schema {
	s := schemaType(t)
	if e := tag.Get("enum"); e != "" {
		s = schema{"anyOf": []schema{{"enum": strings.Split(e, ",")}, elsewhere()}}
	}
	if d := tag.Get("doc"); d != "" {
		s["description"] = d
	}
	if d := tag.Get("default"); d != "" {
		switch t.Kind() {
		case reflect.Int:
			s["default"] = json.Number(d)
		case reflect.Bool:
			s["default"] = d == "true"
		default:
			s["default"] = d
		}
	}
	for _, bound := range [][2]string{{"min", "minimum"}, {"max", "maximum"}} {
		if v := tag.Get(bound[0]); v != "" {
			s[bound[1]] = json.Number(v) // holds for numbers alone, so ${…} passes
		}
	}
	return s
}

func schemaType(t reflect.Type) schema {
	pattern := func(p string) schema {
		return schema{"type": "string", "pattern": "^(" + p + "|.*" + reference + ".*)$"}
	}
	switch t {
	case reflect.TypeFor[Duration]():
		return pattern(`([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+|0`)
	case reflect.TypeFor[Size]():
		return pattern(`[0-9]+ ?(B|KiB|MiB|GiB)`)
	case reflect.TypeFor[Rate]():
		return pattern(`[1-9][0-9]*/[smh]`)
	case reflect.TypeFor[Percent]():
		return pattern(`[0-9]+(\.[0-9]+)?%`)
	case reflect.TypeFor[JSON]():
		return schema{}
	case reflect.TypeFor[OnError]():
		return schema{"anyOf": []schema{{"enum": []string{"allow", "reject"}}, elsewhere(), objectSchema(t)}}
	case reflect.TypeFor[StringList]():
		text := schema{"type": "string"}
		return schema{"anyOf": []schema{text, {"type": "array", "items": text}}}
	}
	if isText(t) {
		return schema{"type": "string"}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return schemaType(t.Elem())
	case reflect.Slice:
		return schema{"type": "array", "items": schemaType(t.Elem())}
	case reflect.Map:
		return schema{"type": "object", "additionalProperties": schemaType(t.Elem())}
	case reflect.Struct:
		return objectSchema(t)
	case reflect.Bool:
		return schema{"anyOf": []schema{{"type": "boolean"}, elsewhere()}}
	case reflect.Int:
		return schema{"anyOf": []schema{{"type": "integer"}, elsewhere()}}
	default:
		return schema{"type": "string"}
	}
}

func objectSchema(t reflect.Type) schema {
	props := schema{}
	var required []string
	for f := range t.Fields() {
		key := f.Tag.Get("key")
		props[key] = schemaOf(f.Type, f.Tag)
		if f.Tag.Get("required") == "true" {
			required = append(required, key)
		}
	}
	s := schema{"type": "object", "additionalProperties": false, "properties": props}
	if required != nil {
		slices.Sort(required)
		s["required"] = required
	}
	return s
}
