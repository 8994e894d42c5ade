package config

import (
	"encoding"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// decoder fills a Config from the merged tree. It knows the struct tags, is
// strict about types, and goes on after a mistake to find the next.
type decoder struct {
	src      *Source
	problems []Problem
}

func (d *decoder) fail(path, format string, args ...any) {
	d.problems = append(d.problems, d.src.Problem(path, fmt.Sprintf(format, args...)))
}

func (d *decoder) decode(tree map[string]any, cfg *Config) {
	d.object(tree, reflect.ValueOf(cfg).Elem(), "")
}

// fieldsOf lists the keys of a struct type with their fields.
func fieldsOf(t reflect.Type) map[string]reflect.StructField {
	m := make(map[string]reflect.StructField, t.NumField())
	for f := range t.Fields() {
		m[f.Tag.Get("key")] = f
	}
	return m
}

func (d *decoder) object(tree map[string]any, v reflect.Value, path string) {
	known := fieldsOf(v.Type())
	names := slices.Sorted(maps.Keys(known))
	for _, key := range slices.Sorted(maps.Keys(tree)) {
		f, ok := known[key]
		if !ok {
			d.fail(join(path, key), "unknown key%s", didYouMean(key, names))
			continue
		}
		d.value(tree[key], v.FieldByIndex(f.Index), join(path, key))
	}
	for _, key := range names {
		if _, given := tree[key]; !given && known[key].Tag.Get("required") == "true" {
			d.fail(join(path, key), "is missing: %s", firstSentence(known[key].Tag.Get("doc")))
		}
	}
}

func firstSentence(s string) string {
	before, _, _ := strings.Cut(s, ". ")
	return strings.TrimSuffix(before, ".")
}

// value decodes one value of any kind. A key with nothing behind it is a mistake:
// redis: with its lines commented out would mean no Redis.
func (d *decoder) value(in any, v reflect.Value, path string) {
	if in == nil {
		d.fail(path, "is empty: give it a value, or leave it out")
		return
	}
	if _, reported := in.(broken); reported {
		return
	}
	if j, ok := v.Addr().Interface().(*JSON); ok {
		d.json(in, j, path)
		return
	}
	if m, ok := in.(map[string]any); ok {
		d.compound(m, v, path)
		return
	}
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		d.text(in, u, v, path)
		return
	}
	switch v.Kind() {
	case reflect.String:
		d.stringValue(in, v, path)
	case reflect.Bool:
		d.boolValue(in, v, path)
	case reflect.Int:
		d.intValue(in, v, path)
	case reflect.Slice:
		d.scalarList(in, v, path)
	default:
		d.fail(path, "must be a map, not %s", describe(in))
	}
}

// compound decodes a YAML map or list.
func (d *decoder) compound(m map[string]any, v reflect.Value, path string) {
	_, list := m[isList]
	switch {
	case v.Kind() == reflect.Slice && (list || indices(m)):
		d.list(m, v, path)
	case list:
		d.fail(path, "must be %s, not a list", want(v.Type()))
	case v.Kind() == reflect.Struct && !isText(v.Type()):
		d.object(m, v, path)
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		setDefaultsOf(v.Elem())
		d.object(m, v.Elem(), path)
	case v.Kind() == reflect.Map:
		d.mapOf(m, v, path)
	default:
		d.fail(path, "must be %s, not a map", want(v.Type()))
	}
}

// indices reports whether the keys of a map are 0, 1, 2 and so on: a list that
// the environment alone made.
func indices(m map[string]any) bool {
	for i := range len(m) {
		if _, ok := m[strconv.Itoa(i)]; !ok {
			return false
		}
	}
	return len(m) > 0
}

func (d *decoder) list(m map[string]any, v reflect.Value, path string) {
	delete(m, isList)
	if len(m) > 0 && !indices(m) {
		d.fail(path, "entries are numbered from 0 without gaps; there are %d", len(m))
		return
	}
	out := reflect.MakeSlice(v.Type(), len(m), len(m))
	for i := range len(m) {
		setDefaultsOf(out.Index(i))
		if m[strconv.Itoa(i)] == nil {
			d.fail(index(path, i), "is empty")
			continue
		}
		d.value(m[strconv.Itoa(i)], out.Index(i), index(path, i))
	}
	v.Set(out)
}

func (d *decoder) mapOf(m map[string]any, v reflect.Value, path string) {
	out := reflect.MakeMapWithSize(v.Type(), len(m))
	for _, name := range slices.Sorted(maps.Keys(m)) {
		entry := reflect.New(v.Type().Elem()).Elem()
		setDefaultsOf(entry)
		if m[name] == nil {
			d.fail(join(path, name), "is empty")
			continue
		}
		d.value(m[name], entry, join(path, name))
		out.SetMapIndex(reflect.ValueOf(name), entry)
	}
	v.Set(out)
}

// json keeps a value of any shape.
func (d *decoder) json(in any, j *JSON, path string) {
	raw, err := json.Marshal(plain(in))
	if err != nil { // .inf and .nan of YAML
		d.fail(path, "has a value that JSON cannot say: %v", err)
		return
	}
	j.raw = raw
}

func (d *decoder) text(in any, u encoding.TextUnmarshaler, v reflect.Value, path string) {
	s, ok := asText(in)
	if !ok {
		d.fail(path, "must be %s, not %s", want(v.Type()), describe(in))
		return
	}
	if err := u.UnmarshalText([]byte(s)); err != nil {
		d.fail(path, "%v", err)
	}
}

func (d *decoder) stringValue(in any, v reflect.Value, path string) {
	s, ok := asText(in)
	if !ok {
		d.fail(path, "must be a text, not %s: put it in quotes", describe(in))
		return
	}
	v.SetString(s)
}

func (d *decoder) boolValue(in any, v reflect.Value, path string) {
	switch x := in.(type) {
	case bool:
		v.SetBool(x)
		return
	case loose:
		if x == "true" || x == "false" {
			v.SetBool(x == "true")
			return
		}
	}
	d.fail(path, "must be true or false, not %s", describe(in))
}

func (d *decoder) intValue(in any, v reflect.Value, path string) {
	switch x := in.(type) {
	case int64:
		v.SetInt(x)
		return
	case loose:
		if n, err := strconv.ParseInt(string(x), 10, 64); err == nil {
			v.SetInt(n)
			return
		}
	}
	d.fail(path, "must be a whole number, not %s", describe(in))
}

// scalarList takes one text for a list where the type says so, and from the
// environment texts with commas.
func (d *decoder) scalarList(in any, v reflect.Value, path string) {
	if v.Type().Elem().Kind() != reflect.String {
		d.fail(path, "must be a list, not %s", describe(in))
		return
	}
	var items []string
	switch x := in.(type) {
	case loose:
		for s := range strings.SplitSeq(string(x), ",") {
			items = append(items, strings.TrimSpace(s))
		}
	case string:
		if v.Type() != reflect.TypeFor[StringList]() {
			d.fail(path, "must be a list: write it in [brackets]")
			return
		}
		items = []string{x}
	default:
		d.fail(path, "must be a list of texts, not %s", describe(in))
		return
	}
	v.Set(reflect.ValueOf(items).Convert(v.Type()))
}

func asText(in any) (string, bool) {
	switch x := in.(type) {
	case string:
		return x, true
	case loose:
		return string(x), true
	}
	return "", false
}

// describe says what a value is, and not more of it than is harmless.
func describe(in any) string {
	switch x := in.(type) {
	case bool:
		return strconv.FormatBool(x)
	case int64:
		return strconv.FormatInt(x, 10)
	case float64:
		return strconv.FormatFloat(x, 'g', -1, 64)
	case string:
		return "a text"
	case loose:
		return "what the environment or the file has"
	default:
		return "this"
	}
}

func isText(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) && !p.Implements(reflect.TypeFor[shorthand]()) || t == reflect.TypeFor[JSON]()
}

func want(t reflect.Type) string {
	switch {
	case exampleOf(t) != "":
		return "written like " + exampleOf(t)
	case isText(t):
		return "a text in quotes"
	case t.Kind() == reflect.Pointer, t.Kind() == reflect.Struct, t.Kind() == reflect.Map:
		return "a map"
	case t.Kind() == reflect.Slice:
		return "a list"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.Int:
		return "a whole number"
	default:
		return "a text"
	}
}

func exampleOf(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[Duration]():
		return "30s"
	case reflect.TypeFor[Size]():
		return "64KiB"
	case reflect.TypeFor[Rate]():
		return "20/s"
	case reflect.TypeFor[Percent]():
		return "1%"
	default:
		return ""
	}
}

// setDefaults fills a Config with what an empty file means.
func setDefaults(cfg *Config) { setDefaultsOf(reflect.ValueOf(cfg).Elem()) }

// withDefaults is a T as it is with nothing given.
func withDefaults[T any]() T {
	var v T
	setDefaultsOf(reflect.ValueOf(&v).Elem())
	return v
}

// setDefaultsOf fills a value with the defaults of its tags, structs inside it
// included.
func setDefaultsOf(v reflect.Value) {
	if v.Kind() != reflect.Struct || isText(v.Type()) {
		return
	}
	for f, fv := range v.Fields() {
		def, ok := f.Tag.Lookup("default")
		if !ok {
			setDefaultsOf(fv)
			continue
		}
		if err := setText(fv, def); err != nil {
			panic(fmt.Sprintf("default of %s.%s: %v", v.Type(), f.Name, err)) // a test loads every default
		}
	}
}

func setText(v reflect.Value, s string) error {
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return u.UnmarshalText([]byte(s))
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(s)
	case reflect.Bool:
		v.SetBool(s == "true")
	default:
		n, err := strconv.ParseInt(s, 10, 64)
		v.SetInt(n)
		return err
	}
	return nil
}
