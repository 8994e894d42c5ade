package redisbus

import (
	"context"
	"fmt"
	"slices"

	"github.com/wsrelay/relay/internal/bus"
)

// historyMax bounds a page: the script must not hold up the server.
const historyMax = 1000

// History reads a page in one script.
func (b *Bus) History(ctx context.Context, q bus.HistoryQuery) (bus.HistoryPage, error) {
	page, err := b.history(ctx, q)
	if err != nil {
		return bus.HistoryPage{}, fmt.Errorf("reading history of room %q: %w", q.Room, err)
	}
	return page, nil
}

func (b *Bus) history(ctx context.Context, q bus.HistoryQuery) (page bus.HistoryPage, err error) {
	if err := b.ready(q.Room); err != nil {
		return page, err
	}
	var v []any
	err = b.again(ctx, q.Room, func() error {
		v, err = b.scripts.pages.Run(ctx, b.client, []string{b.keys.meta(q.Room)},
			q.Before, q.After, q.Oldest, min(max(q.Limit, 0), historyMax), max(q.Bytes, 0)).Slice()
		return err
	})
	if err != nil {
		return page, unavailable(err)
	}
	if len(v) < 3 {
		return page, bus.ErrNoHistory
	}
	page.Epoch, _ = v[0].(string)
	page.Seq = number(v[1])
	pairs, _ := v[2].([]any)
	if q.After == 0 && !q.Oldest { // newest first, as it came
		for i, j := 0, len(pairs)-2; i < j; i, j = i+2, j-2 {
			pairs[i], pairs[i+1], pairs[j], pairs[j+1] = pairs[j], pairs[j+1], pairs[i], pairs[i+1]
		}
	}
	page.Events, _ = b.decodeStored(q.Room, page.Epoch, pairs)
	page.Events = slices.DeleteFunc(page.Events, func(e *bus.Event) bool { return e.Kind != bus.Chat })
	return page, nil
}
