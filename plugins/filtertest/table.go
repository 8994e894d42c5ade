package filtertest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/wsrelay/relay/plugins/filter"
)

// Table is a file of cases:
//
//	config: {words: [darn]}
//	cases:
//	  - text: hello
//	    want: allow
//	  - text: Darn it
//	    user: {id: bob, roles: [trusted]}
//	    want: {action: modify, text: "**** it", flags: [profanity]}
//	  - event: join
//	    user: {id: mallory}
//	    want: {action: reject, code: not_you}
//
// Cases are judged in their order, by one filter: one that remembers is tested
// like that.
type Table struct {
	Config any    `yaml:"config"` // where the caller gives none
	Cases  []Case `yaml:"cases"`
}

// Case is one message and what the filter is to say of it.
type Case struct {
	Name  string   `yaml:"name"`
	Event string   `yaml:"event"` // chat, signal or join; default chat
	Text  string   `yaml:"text"`
	Body  any      `yaml:"body"`  // instead of text: anything that JSON can say
	Texts []string `yaml:"texts"` // JSON pointers to what people read; default "" and /text
	Room  string   `yaml:"room"`
	User  CaseUser `yaml:"user"`
	Want  Want     `yaml:"want"`
}

// CaseUser is who a case's message is from.
type CaseUser struct {
	ID     string         `yaml:"id"`
	Name   string         `yaml:"name"`
	Roles  []string       `yaml:"roles"`
	Guest  bool           `yaml:"guest"`
	Claims map[string]any `yaml:"claims"`
	IP     string         `yaml:"ip"`
}

// Want is what is expected; what is left out may be anything. A single word is
// the action.
type Want struct {
	Action    string   `yaml:"action"` // allow, modify, reject, drop, shadow; or error, timeout, crash
	Code      *string  `yaml:"code"`
	Reason    *string  `yaml:"reason"`
	Text      *string  `yaml:"text"` // what people read of it then
	Body      any      `yaml:"body"`
	Flags     []string `yaml:"flags"`     // labels, in any order
	Sanctions []string `yaml:"sanctions"` // kinds, in any order
}

// UnmarshalYAML takes the single word.
func (w *Want) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		w.Action = n.Value
		return nil
	}
	type plain Want
	return n.Decode((*plain)(w))
}

// ReadTable reads a table. An unknown key is an error, and so is a table without
// cases.
func ReadTable(file string) (*Table, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading the table: %w", err)
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	t := new(Table)
	if err := dec.Decode(t); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("reading %s: %w", file, err)
	}
	if len(t.Cases) == 0 {
		return nil, fmt.Errorf("reading %s: no cases: it proves nothing", file)
	}
	for i, c := range t.Cases {
		if c.Want.Action == "" {
			return nil, fmt.Errorf("reading %s: cases[%d]: want is missing", file, i)
		}
	}
	return t, nil
}

// ConfigJSON is the table's configuration as a filter takes it.
func (t *Table) ConfigJSON() (json.RawMessage, error) {
	if t.Config == nil {
		return nil, nil
	}
	return json.Marshal(t.Config)
}

// Title names a case for people.
func (c *Case) Title() string {
	switch {
	case c.Name != "":
		return c.Name
	case c.Body != nil:
		b, _ := json.Marshal(c.Body) // what YAML can say besides JSON shows as nothing
		return string(b)
	case c.Event != "" && c.Event != "chat":
		return c.Event + " of " + c.User.ID
	}
	return c.Text
}

func (c *Case) message() (Message, error) {
	m := Message{
		Text: c.Text, Texts: c.Texts, Room: c.Room, Event: filter.Chat,
		User: filter.User{ID: c.User.ID, Name: c.User.Name, Roles: c.User.Roles, Guest: c.User.Guest, IP: c.User.IP},
	}
	switch c.Event {
	case "", "chat":
	case "signal":
		m.Event = filter.Signal
	case "join":
		m.Event = filter.Join
	default:
		return m, fmt.Errorf("event: there is no %q; there are chat, signal and join", c.Event)
	}
	if c.Body != nil {
		b, err := json.Marshal(c.Body)
		if err != nil {
			return m, fmt.Errorf("body: %w", err)
		}
		m.Body = b
	}
	for k, v := range c.User.Claims {
		b, err := json.Marshal(v)
		if err != nil {
			return m, fmt.Errorf("user.claims.%s: %w", k, err)
		}
		if m.User.Claims == nil {
			m.User.Claims = make(map[string]json.RawMessage)
		}
		m.User.Claims[k] = b
	}
	return m, nil
}

// Run asks the filter about a case. What differs from what is wanted is listed;
// nothing when all is as it should be.
func (c *Case) Run(ctx context.Context, s *Subject) (differs []string, err error) {
	m, err := c.message()
	if err != nil {
		return nil, err
	}
	a, err := s.Judge(ctx, m)
	if err != nil {
		return nil, err
	}
	return c.Want.compare(a)
}

func (w *Want) compare(a Answer) (differs []string, err error) {
	differ := func(what string, got, want any) {
		differs = append(differs, fmt.Sprintf("%s is %v, want %v", what, got, want))
	}
	action := a.Action.String()
	if a.Failure != "" {
		action = a.Failure
	}
	if action != w.Action {
		what := "the verdict"
		if a.Err != nil {
			what = fmt.Sprintf("the verdict (%v)", a.Err)
		}
		differ(what, action, w.Action)
	}
	if w.Code != nil && *w.Code != a.Code {
		differ("the code", quoted(a.Code), quoted(*w.Code))
	}
	if w.Reason != nil && *w.Reason != a.Reason {
		differ("the reason", quoted(a.Reason), quoted(*w.Reason))
	}
	if w.Text != nil && *w.Text != a.Text {
		differ("the text", quoted(a.Text), quoted(*w.Text))
	}
	if w.Body != nil {
		want, err := json.Marshal(w.Body)
		if err != nil {
			return nil, fmt.Errorf("want.body: %w", err)
		}
		if !sameJSON(want, a.Body) {
			differ("the body", string(a.Body), string(want))
		}
	}
	var flags, sanctions []string
	for _, f := range a.Flags {
		flags = append(flags, f.Label)
	}
	for _, k := range a.Sanctions {
		sanctions = append(sanctions, k.Kind.String())
	}
	if w.Flags != nil && !sameSet(w.Flags, flags) {
		differ("flags", flags, w.Flags)
	}
	if w.Sanctions != nil && !sameSet(w.Sanctions, sanctions) {
		differ("sanctions", sanctions, w.Sanctions)
	}
	return differs, nil
}

func quoted(s string) string { return fmt.Sprintf("%q", s) }

func sameSet(a, b []string) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return strings.Join(a, "\x00") == strings.Join(b, "\x00") && len(a) == len(b)
}

func sameJSON(a, b []byte) bool {
	var x, y any
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return false
	}
	p, _ := json.Marshal(x)
	q, _ := json.Marshal(y)
	return bytes.Equal(p, q)
}
