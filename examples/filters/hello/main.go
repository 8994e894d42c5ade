// Hello is a whole relay filter: it refuses messages that shout.
package main

import (
	"context"
	"strings"

	"github.com/wsrelay/relay/plugins/filter"
)

func main() {
	filter.Serve(func(_ context.Context, m *filter.Message) (filter.Verdict, error) {
		if text := m.Text(); len(text) > 3 && text == strings.ToUpper(text) && text != strings.ToLower(text) {
			return filter.Reject("shouting", "Please do not shout."), nil
		}
		return filter.Allow(), nil
	})
}
