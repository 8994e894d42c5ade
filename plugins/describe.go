package plugins

import "github.com/wsrelay/relay/plugins/filter"

// Description is what a filter of the set says of itself.
func (s *Set) Description(name string) (filter.Description, bool) {
	st, ok := s.stages[name]
	if !ok {
		return filter.Description{}, false
	}
	return st.desc, true
}
