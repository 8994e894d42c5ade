package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/v2"
	"go.yaml.in/yaml/v3"
)

// MaxFile bounds a configuration file and each file that it takes a value from.
const MaxFile = 1 << 20 // bytes

// Bounds on what a file holds, far above any real one: koanf's paths grow with the
// square of the depth.
const (
	maxDepth  = 32
	maxValues = 20_000
)

// envPrefix and envDelim make RELAY__REDIS__URL out of redis.url. Other names
// that begin with RELAY_ are left alone: Kubernetes injects such for a service
// called relay.
const (
	envPrefix = "RELAY__"
	envDelim  = "__"
)

// delim separates koanf's keys. Room names and paths have dots in them.
const delim = "\x00"

// Load reads the file at path, puts the environment's overrides over it, and
// checks all of it. environ is NAME=value, as os.Environ gives it. Mistakes come
// as *Errors, all of them at once.
func Load(path string, environ []string) (*Config, *Source, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("reading configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return nil, nil, fmt.Errorf("reading configuration %s: %w", path, err)
	}
	return Parse(path, data, environ)
}

// Parse is Load for a file that was read already; name is what problems call it.
func Parse(name string, data []byte, environ []string) (*Config, *Source, error) {
	l := &loader{
		src:     &Source{file: name, at: map[string]position{}, env: map[string]string{}, from: map[string]bool{}},
		environ: lookup(environ),
	}
	tree := l.readFile(data)
	if tree == nil {
		return nil, l.src, NewErrors(l.problems) // there is nothing to go on with
	}
	merged, err := l.overlay(tree, environ)
	if err != nil {
		return nil, l.src, err
	}
	cfg := new(Config)
	setDefaults(cfg)
	d := &decoder{src: l.src}
	d.decode(merged, cfg)
	v := &validator{src: l.src}
	v.config(cfg)
	problems := append(l.problems, unrelated(d.problems, l.problems)...)
	problems = append(problems, unrelated(v.problems, problems)...)
	if err := NewErrors(problems); err != nil {
		return nil, l.src, err
	}
	return cfg, l.src, nil
}

// unrelated leaves out what is only a consequence of an earlier problem: one at
// the same place, inside it, or around it. The file as a whole is around
// everything and so says nothing.
func unrelated(problems, earlier []Problem) []Problem {
	at, inside := make(map[string]bool), make(map[string]bool) // paths with an earlier problem at them, inside them
	for _, e := range earlier {
		at[e.Path] = true
		for path := e.Path; path != ""; path = parent(path) {
			inside[path] = true
		}
	}
	return slices.DeleteFunc(problems, func(p Problem) bool {
		if inside[p.Path] {
			return true
		}
		for path := p.Path; path != ""; path = parent(path) {
			if at[path] {
				return true
			}
		}
		return false
	})
}

func lookup(environ []string) map[string]string {
	m := make(map[string]string, len(environ))
	for _, kv := range environ {
		if k, v, ok := strings.Cut(kv, "="); ok {
			m[k] = v
		}
	}
	return m
}

// loose is a text that came from a place without types, the environment or a
// file: it may stand for a number or a list, and is never repeated in messages.
type loose string

// loader turns YAML into a tree of maps, whose leaves are string, loose, int64,
// float64, bool and nil. Lists are maps too, by index, so that koanf can merge
// into them; isList marks them.
type loader struct {
	src      *Source
	environ  map[string]string
	problems []Problem
	values   int
}

// broken stands in the tree for a value that was found wrong already.
type broken struct{}

// isList is the key that marks a map as a list. It cannot come from YAML or the
// environment: it has the delimiter in it.
const isList = delim + "list"

func (l *loader) fail(n *yaml.Node, path, format string, args ...any) {
	l.problems = append(l.problems, Problem{File: l.src.file, Line: n.Line, Col: n.Column, Path: path, Message: fmt.Sprintf(format, args...)})
}

func (l *loader) readFile(data []byte) map[string]any {
	if len(data) > MaxFile {
		l.fail(&yaml.Node{}, "", "larger than %d bytes", MaxFile)
		return nil
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF): // empty: everything is a default, or missing
		return map[string]any{}
	case err != nil:
		l.syntax(err)
		return nil
	}
	if err := dec.Decode(&second); !errors.Is(err, io.EOF) {
		if err != nil {
			l.syntax(err)
		} else {
			l.fail(&second, "", "a second YAML document: a configuration is one")
		}
		return nil
	}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return map[string]any{}
	}
	if root.Kind != yaml.MappingNode {
		l.fail(root, "", "must be a map of keys such as listen and endpoints")
		return nil
	}
	tree, _ := l.node(root, "", 0).(map[string]any)
	if l.values > maxValues {
		return nil
	}
	return tree
}

// syntax reports what the YAML library says, with its line where it tells one.
func (l *loader) syntax(err error) {
	msg := strings.TrimPrefix(err.Error(), "yaml: ")
	if strings.HasPrefix(msg, "unknown anchor") { // it names the anchor, and a password may start with *
		msg = "a value that starts with * is not in quotes"
	}
	n := &yaml.Node{}
	if rest, ok := strings.CutPrefix(msg, "line "); ok {
		if no, text, ok := strings.Cut(rest, ": "); ok {
			if line, err := strconv.Atoi(no); err == nil {
				n.Line, n.Column, msg = line, 1, text
			}
		}
	}
	l.fail(n, "", "not valid YAML: %s", msg)
}

func (l *loader) node(n *yaml.Node, path string, depth int) any {
	l.src.at[path] = position{n.Line, n.Column}
	switch l.values++; {
	case l.values == maxValues+1:
		l.fail(n, path, "more than %d values", maxValues)
		return broken{}
	case l.values > maxValues:
		return broken{}
	case depth > maxDepth:
		l.fail(n, path, "nested deeper than %d", maxDepth)
		return broken{}
	}
	if n.Style&yaml.TaggedStyle != 0 {
		l.fail(n, path, "tags are not used here: a text that starts with ! needs quotes")
		return broken{}
	}
	if n.Anchor != "" || n.Kind == yaml.AliasNode {
		l.fail(n, path, "anchors and aliases are not used here: write the value out, or take it from ${ENV}")
		return broken{}
	}
	switch n.Kind {
	case yaml.MappingNode:
		return l.mapping(n, path, depth)
	case yaml.SequenceNode:
		list := map[string]any{isList: true}
		for i, item := range n.Content {
			list[strconv.Itoa(i)] = l.node(item, index(path, i), depth+1)
		}
		return list
	default:
		return l.scalar(n, path)
	}
}

func (l *loader) mapping(n *yaml.Node, path string, depth int) map[string]any {
	m := make(map[string]any, len(n.Content)/2)
	for i := 0; i < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if k.Kind != yaml.ScalarNode || strings.Contains(k.Value, delim) || k.Tag == "!!merge" {
			l.fail(k, path, "keys are plain words")
			continue
		}
		at := join(path, k.Value)
		if _, twice := m[k.Value]; twice {
			l.fail(k, at, "stands here twice")
			continue
		}
		m[k.Value] = l.node(v, at, depth+1)
		l.src.at[at] = position{k.Line, k.Column} // a key is what one looks for
	}
	return m
}

func (l *loader) scalar(n *yaml.Node, path string) any {
	if n.Tag == "!!str" || n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0 {
		s, changed, err := l.expand(n.Value)
		if err != nil {
			l.fail(n, path, "%v", err)
			return broken{}
		}
		if changed {
			l.src.from[path] = true
			return loose(s)
		}
		return n.Value
	}
	var v any
	if err := n.Decode(&v); err != nil {
		l.fail(n, path, "is not a value")
		return broken{}
	}
	switch v := v.(type) {
	case int:
		return int64(v)
	case nil, bool, float64:
		return v
	default: // a date, a number too large: a text, as it looks to a person
		return n.Value
	}
}

// expand replaces ${NAME}, ${NAME:-default} and ${file:PATH} in a text; $${ is
// a literal ${. What comes in is not looked at again.
func (l *loader) expand(s string) (string, bool, error) {
	if !strings.Contains(s, "${") {
		return s, false, nil
	}
	var out strings.Builder
	for {
		i := strings.Index(s, "${")
		if i < 0 {
			out.WriteString(s)
			return out.String(), true, nil
		}
		if i > 0 && s[i-1] == '$' {
			out.WriteString(s[:i-1] + "${")
			s = s[i+2:]
			continue
		}
		end := strings.IndexByte(s[i:], '}')
		if end < 0 {
			return "", false, errors.New("${ without its }; write $${ for the characters themselves")
		}
		v, err := l.value(s[i+2 : i+end])
		if err != nil {
			return "", false, err
		}
		out.WriteString(s[:i] + v)
		s = s[i+end+1:]
	}
}

func (l *loader) value(ref string) (string, error) {
	if path, ok := strings.CutPrefix(ref, "file:"); ok {
		f, err := os.Open(path)
		if err != nil {
			return "", err
		}
		defer f.Close()
		b, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
		if err != nil {
			return "", err
		}
		if len(b) > MaxFile {
			return "", fmt.Errorf("%s: larger than %d bytes", path, MaxFile)
		}
		s := strings.TrimRight(string(b), "\r\n")
		if s == "" {
			return "", fmt.Errorf("%s is empty", path)
		}
		return s, nil
	}
	name, def, hasDefault := strings.Cut(ref, ":-")
	if !envName(name) {
		return "", errors.New("want ${NAME}, ${NAME:-default} or ${file:PATH}; write $${ for the characters themselves") // what is there may be part of a password
	}
	if v := l.environ[name]; v != "" {
		return v, nil
	}
	if !hasDefault {
		return "", fmt.Errorf("${%s} is unset or empty; set it, or give a default as ${%s:-…}", name, name)
	}
	return def, nil
}

func envName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c != '_' && (c|0x20 < 'a' || c|0x20 > 'z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// overlay lets koanf merge the environment's overrides into the file's tree.
func (l *loader) overlay(tree map[string]any, environ []string) (map[string]any, error) {
	k := koanf.New(delim)
	if err := k.Load(confmap.Provider(tree, ""), nil); err != nil {
		return nil, fmt.Errorf("merging configuration: %w", err)
	}
	names := slices.Sorted(slices.Values(environ)) // the same file and variables give the same messages
	err := k.Load(env.Provider(delim, env.Opt{
		Prefix:      envPrefix,
		EnvironFunc: func() []string { return names },
		TransformFunc: func(name, value string) (string, any) {
			parts := strings.Split(strings.ToLower(strings.TrimPrefix(name, envPrefix)), envDelim)
			path := ""
			for _, p := range parts {
				if i, err := strconv.Atoi(p); err == nil && path != "" {
					path = index(path, i)
				} else {
					path = join(path, p)
				}
			}
			for at := parent(path); at != ""; at = parent(at) { // names are sorted: what is around comes first
				if other, ok := l.src.env[at]; ok {
					l.problems = append(l.problems, Problem{File: l.src.file, Env: name, Path: path, Message: other + " sets all of " + at})
					return "", nil
				}
			}
			l.src.env[path] = name
			return strings.Join(parts, delim), loose(value)
		},
	}), nil)
	if err != nil {
		return nil, fmt.Errorf("merging the environment into the configuration: %w", err)
	}
	return k.Raw(), nil
}
