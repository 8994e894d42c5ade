package plugins

import (
	"context"
	"fmt"

	"github.com/wsrelay/relay/internal/room"
)

// Judge asks filters about one event and waits for what they say. It is for
// commands and tests; rooms do not wait. An error is ctx's.
func Judge(ctx context.Context, filters room.Filters, q *room.Query) (*room.Ruling, error) {
	answer := make(chan *room.Ruling, 1)
	filters.Judge(q, func(r *room.Ruling) { answer <- r })
	select {
	case r := <-answer:
		return r, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for the filters: %w", ctx.Err())
	}
}
