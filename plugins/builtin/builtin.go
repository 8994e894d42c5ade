// Package builtin has the filters that need no process of their own.
package builtin

import (
	"maps"
	"slices"

	"github.com/wsrelay/relay/plugins/filter"
)

// filters are all of them, by the name behind builtin/ in relay.yaml.
var filters = map[string]func() filter.Plugin{}

// Lookup finds a filter.
func Lookup(name string) (filter.Plugin, bool) {
	f, ok := filters[name]
	if !ok {
		return filter.Plugin{}, false
	}
	return f(), true
}

// Names lists the filters.
func Names() []string { return slices.Sorted(maps.Keys(filters)) }
