package builtin

import (
	"slices"

	"github.com/wsrelay/relay/plugins/filter"
)

// Lookup finds a filter by its name: that in relay.yaml without "builtin/".
func Lookup(name string) (filter.Plugin, bool) {
	for _, p := range all() {
		if p.Name == name {
			return p, true
		}
	}
	return filter.Plugin{}, false
}

// Names lists the filters there are, sorted.
func Names() []string {
	var names []string
	for _, p := range all() {
		names = append(names, p.Name)
	}
	slices.Sort(names)
	return names
}

func all() []filter.Plugin {
	list := []filter.Plugin{
		{Name: "words", Config: filter.Configured(defaultWords(), newWords)},
		{Name: "regex", Config: filter.Configured(defaultRegex(), newRegex)},
		{Name: "links", Config: filter.Configured(defaultLinks(), newLinks)},
		{Name: "repeats", Config: filter.Configured(defaultRepeats(), newRepeats), Sanctions: []filter.SanctionKind{filter.Mute}},
		{Name: "caps", Config: filter.Configured(defaultCaps(), newCaps)},
		{Name: "length", Config: filter.Configured(defaultLength(), newLength)},
	}
	for i := range list {
		p := &list[i]
		p.Version = "1"
		p.Stateless = p.Name != "repeats"
		p.Events = []filter.Event{filter.Chat, filter.Signal}
		if p.Stateless {
			p.Events = append(p.Events, filter.Join)
		}
		p.Actions = []filter.Action{filter.ActionAllow, filter.ActionModify, filter.ActionReject, filter.ActionDrop, filter.ActionShadow}
	}
	return list
}
