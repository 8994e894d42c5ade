package app

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/wsrelay/relay/config"
	"github.com/wsrelay/relay/internal/room"
	"github.com/wsrelay/relay/internal/room/policy"
	"github.com/wsrelay/relay/plugins"
	"github.com/wsrelay/relay/plugins/builtin"
	"github.com/wsrelay/relay/plugins/filter"
)

// defaultText is where messages have their text when rooms[].messages.text does
// not say: a filter that looks nowhere would let everything pass.
var defaultText = []string{"", "/text", "/message", "/body", "/content", "/caption"}

func textOf(m config.Messages) []string {
	if m.Text != nil {
		return m.Text
	}
	return defaultText
}

// filterOptions are what filters in relay.yaml become, in the order of their
// names.
func filterOptions(cfg *config.Config, p *problems) []plugins.Options {
	paths := make([]string, len(cfg.Endpoints))
	for i, e := range cfg.Endpoints {
		paths[i] = e.Path
	}
	var list []plugins.Options
	for _, name := range slices.Sorted(maps.Keys(cfg.Filters)) {
		f, at := cfg.Filters[name], "filters."+name
		o := plugins.Options{
			Name: name, Command: f.Command, SHA256: sums(f.SHA256), Unpinned: f.Unpinned,
			Env: reveal(f.Env), Memory: f.Memory.Bytes(), MTLS: f.MTLS == "auto",
			Config: json.RawMessage(f.Config.Raw()), Timeout: f.Timeout.Std(),
			OnError: plugins.OnError{
				Timeout: fallback(f.OnError.Timeout), Crash: fallback(f.OnError.Crash),
				Error: fallback(f.OnError.Error), Overload: fallback(f.OnError.Overload),
			},
		}
		o.Mode, _ = plugins.ParseMode(f.Mode) // config has checked the words
		share, _ := f.Enforce.Share()
		o.Enforce = share * 100
		for _, e := range f.Events {
			o.Events = append(o.Events, map[string]filter.Event{"chat": filter.Chat, "signal": filter.Signal, "join": filter.Join}[e])
		}
		allowed(&o, f.Actions)
		if name, ok := strings.CutPrefix(f.Type, "builtin/"); ok {
			b, known := builtin.Lookup(name)
			if !known {
				p.add(at+".type", "there is no built-in filter %q; there are %s", name, strings.Join(builtin.Names(), ", "))
				continue
			}
			o.Builtin = &b
		}
		if f.Exempt != "" {
			c, bad := policy.CompileCondition(f.Exempt, paths...)
			for _, b := range bad {
				p.add(at+".exempt", "%s", b.Message)
			}
			if c != nil {
				o.Exempt = c.Holds
			}
		}
		list = append(list, o)
	}
	return list
}

// allowed sets the most that a filter may do.
func allowed(o *plugins.Options, words []string) {
	if words == nil {
		words = []string{"modify", "reject", "drop"}
	}
	for _, w := range words {
		if a, ok := filter.ParseAction(w); ok {
			o.Actions = append(o.Actions, a)
		} else if k, ok := filter.ParseSanction(w); ok {
			o.Sanctions = append(o.Sanctions, k)
		} else if w == "redact" {
			o.Redact = true
		}
	}
}

func fallback(word string) plugins.Fallback {
	if word == "allow" {
		return plugins.Pass
	}
	return plugins.Refuse
}

func sums(m map[string]config.StringList) map[string][]string {
	out := make(map[string][]string, len(m))
	for file, list := range m {
		out[file] = list
	}
	return out
}

func reveal(env map[string]config.Secret) map[string]string {
	out := make(map[string]string, len(env))
	for name, v := range env {
		out[name] = v.Reveal()
	}
	return out
}

// chains gives each room policy the filters it names.
func chains(cfg *config.Config, set *plugins.Set) ([]room.Filters, error) {
	list := make([]room.Filters, len(cfg.Rooms))
	for i, r := range cfg.Rooms {
		if len(r.Filters) == 0 {
			continue
		}
		c, err := set.Chain(r.Filters, r.Messages.MaxSize.Bytes())
		if err != nil {
			return nil, err
		}
		list[i] = c
	}
	return list, nil
}

// prepareFilters starts what is new among the filters and makes the chains. The
// caller commits the set, or discards it.
func (a *App) prepareFilters(ctx context.Context, cfg *config.Config, src *config.Source, parts *compiled) (*plugins.Set, []room.Filters, error) {
	set, err := a.filters.Prepare(ctx, parts.filters)
	if err != nil {
		return nil, nil, filterProblems(src, err)
	}
	list, err := chains(cfg, set)
	if err != nil {
		set.Discard()
		return nil, nil, err
	}
	return set, list, nil
}

// filterProblems puts what the host says of filters at their lines.
func filterProblems(src *config.Source, err error) error {
	p := &problems{src: src}
	for _, e := range split(err) {
		var fe *plugins.Error
		switch {
		case !errors.As(e, &fe):
			return err
		case fe.InConfig:
			path := "filters." + fe.Filter + ".config"
			p.add(path, "%s%v", prefixed(fe.Pointer), fe.Err)
		default:
			p.add("filters."+fe.Filter, "%v", fe.Err)
		}
	}
	return p.err()
}

// prefixed is a JSON pointer as the beginning of a message.
func prefixed(pointer string) string {
	if pointer == "" {
		return ""
	}
	return pointer + ": "
}

// split takes joined errors apart.
func split(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var list []error
		for _, e := range joined.Unwrap() {
			list = append(list, split(e)...)
		}
		return list
	}
	return []error{err}
}
