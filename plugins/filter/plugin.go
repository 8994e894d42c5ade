package filter

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/invopop/jsonschema"
)

// Judge looks at a message and says what is to happen to it. It is called from
// many goroutines at a time. ctx ends with the message's budget; what comes
// later is dropped. An error says that there is no verdict, and relay.yaml's
// on_error decides; so does a panic.
type Judge func(ctx context.Context, m *Message) (Verdict, error)

// Plugin is what a plugin is and may do. The zero value of everything but Judge
// or Config is fine.
type Plugin struct {
	Name    string // default: the name of the program
	Version string // default: that of the main module

	// Judge is the whole plugin where it takes no configuration; Config makes
	// one where it does. One of both is set.
	Judge  Judge
	Config *Config

	Events    []Event        // what it is able to judge; default Chat
	Actions   []Action       // the most it may do; default Allow, Modify, Reject and Drop
	Sanctions []SanctionKind // likewise; default none

	// Stateless says that a message may be judged twice, and by another process
	// than the one before it, and nothing is lost. When a process dies, relay
	// then asks the next one about what it was at.
	Stateless bool

	// Traces says that the plugin makes spans of its own, as children of
	// Message.Traceparent. relay then draws none in its place.
	Traces bool

	Needs Needs

	// MaxBatch and MaxInFlight lower the number of messages in a batch (64) and
	// at work at a time (1024).
	MaxBatch    int
	MaxInFlight int

	// Close is called once when relay has no more messages: after every judge
	// has returned, and before the program ends.
	Close func()
}

// Needs is what messages are to bring along beyond what is always there. Relay
// sends no more of a user than a filter asks for.
type Needs struct {
	Claims []string // of the user, by name
	Recent int      // of the messages before this one in its room, at most 50
	IP     bool     // the address of the client
}

// described fills in the defaults.
func (p Plugin) described() Plugin {
	if p.Name == "" {
		p.Name = strings.TrimSuffix(filepath.Base(os.Args[0]), ".exe")
	}
	if p.Version == "" {
		p.Version = "(devel)"
		if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
			p.Version = info.Main.Version
		}
	}
	if len(p.Events) == 0 {
		p.Events = []Event{Chat}
	}
	if len(p.Actions) == 0 {
		p.Actions = []Action{ActionAllow, ActionModify, ActionReject, ActionDrop}
	}
	return p
}

// check finds what its author got wrong.
func (p *Plugin) check() error {
	if (p.Judge == nil) == (p.Config == nil) {
		return errors.New("filter.Plugin: set one of Judge and Config")
	}
	return nil
}

// Problem is something wrong with a configuration.
type Problem struct {
	Path    string // JSON pointer into the configuration, "" for the whole
	Message string
	Warning bool // to be logged; the configuration holds all the same
}

func (p Problem) Error() string {
	if p.Path == "" {
		return p.Message
	}
	return p.Path + ": " + p.Message
}

// At makes an error of a build function name a place in the configuration by its
// JSON pointer: At("/words/3", "empty"). Several can be joined by errors.Join.
func At(pointer, message string) error { return Problem{Path: pointer, Message: message} }

// Config is a typed configuration; see [Configured].
type Config struct {
	schema func() ([]byte, error)
	build  func(raw []byte) (Judge, error)
}

// Configured lets a plugin take a configuration of type C, a struct. Its JSON
// Schema is derived from the json and jsonschema tags (see
// github.com/invopop/jsonschema), and defaults are what the fields of defaults
// hold. An unknown key is an error.
//
// build makes the judge for a configuration. It is also called just to find out
// whether one is good, so what costs or has effects belongs into the judge. It
// returns errors, best made by [At].
func Configured[C any](defaults C, build func(C) (Judge, error)) *Config {
	return &Config{
		schema: func() ([]byte, error) { return schema(defaults) },
		build: func(raw []byte) (Judge, error) {
			c, err := decode(defaults, raw)
			if err != nil {
				return nil, err
			}
			return build(c)
		},
	}
}

// schema derives the JSON Schema of a configuration, with its defaults.
func schema(defaults any) ([]byte, error) {
	r := jsonschema.Reflector{Anonymous: true, ExpandedStruct: true, RequiredFromJSONSchemaTags: true}
	s := r.Reflect(defaults)
	raw, err := json.Marshal(defaults)
	if err != nil {
		return nil, fmt.Errorf("encoding the default configuration: %w", err)
	}
	values := map[string]any{}
	if err := json.Unmarshal(raw, &values); err != nil {
		return nil, fmt.Errorf("a configuration must be a struct: %w", err)
	}
	if s.Properties != nil {
		for at := s.Properties.Oldest(); at != nil; at = at.Next() {
			if v, ok := values[at.Key]; ok && v != nil && at.Value.Default == nil {
				at.Value.Default = v
			}
		}
	}
	out, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encoding the schema: %w", err)
	}
	return out, nil
}

// decode lays a configuration over a copy of the defaults, so that no two
// configurations share a slice or a map.
func decode[C any](defaults C, raw []byte) (c C, err error) {
	base, err := json.Marshal(defaults)
	if err != nil {
		return c, fmt.Errorf("encoding the default configuration: %w", err)
	}
	if err := json.Unmarshal(base, &c); err != nil {
		return c, fmt.Errorf("the default configuration does not survive JSON: %w", err)
	}
	if len(bytes.TrimSpace(raw)) == 0 {
		return c, nil
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		return c, placed(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return c, errors.New("more than one JSON value")
	}
	return c, nil
}

// placed puts the place into encoding/json's errors.
func placed(err error) error {
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		path := ""
		if wrong.Field != "" {
			path = "/" + strings.ReplaceAll(wrong.Field, ".", "/")
		}
		return Problem{Path: path, Message: fmt.Sprintf("wants %s, got %s", wrong.Type, wrong.Value)}
	}
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		name = strings.Trim(name, `"`)
		return Problem{Path: "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(name), Message: "unknown key"}
	}
	return err
}

// Description is what a plugin tells of itself, defaults filled in.
type Description struct {
	Name, Version string
	Schema        []byte // of its configuration; empty when it takes none
	Events        []Event
	Actions       []Action
	Sanctions     []SanctionKind
	Stateless     bool
	Traces        bool
	Needs         Needs
	MaxBatch      int
	MaxInFlight   int
}

// Describe tells what the plugin is. An error is its author's.
func (p Plugin) Describe() (Description, error) {
	if err := p.check(); err != nil {
		return Description{}, err
	}
	p = p.described()
	d := Description{
		Name: p.Name, Version: p.Version, Events: p.Events, Actions: p.Actions, Sanctions: p.Sanctions,
		Stateless: p.Stateless, Traces: p.Traces, Needs: p.Needs, MaxBatch: p.MaxBatch, MaxInFlight: p.MaxInFlight,
	}
	if p.Config != nil {
		var err error
		if d.Schema, err = p.Config.schema(); err != nil {
			return d, fmt.Errorf("plugin %s: %w", p.Name, err)
		}
	}
	return d, nil
}

// Build makes the judge for a configuration (a JSON object; empty for none). It
// is nil when one of the problems is more than a warning.
func (p Plugin) Build(configJSON []byte) (Judge, []Problem) {
	if err := p.check(); err != nil {
		return nil, []Problem{{Message: err.Error()}}
	}
	if p.Config == nil {
		if s := bytes.TrimSpace(configJSON); len(s) > 0 && string(s) != "{}" && string(s) != "null" {
			return nil, []Problem{{Message: "this plugin takes no configuration"}}
		}
		return p.Judge, nil
	}
	judge, err := p.Config.build(configJSON)
	problems := problemsOf(err)
	for _, pr := range problems {
		if !pr.Warning {
			return nil, problems
		}
	}
	if judge == nil {
		return nil, append(problems, Problem{Message: "the plugin made no judge of this configuration"})
	}
	return judge, problems
}

// problemsOf takes joined errors apart.
func problemsOf(err error) (list []Problem) {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			list = append(list, problemsOf(e)...)
		}
		return list
	}
	var p Problem
	if errors.As(err, &p) {
		return []Problem{p}
	}
	return []Problem{{Message: err.Error()}}
}
