package plugins

import (
	"context"
	"errors"
)

type callState uint8

type unit struct{}

func (u *unit) put(c *call) {}

func (s *stage) prepareProcess(ctx context.Context, h *Host, old *stage) error {
	return &Error{Filter: s.opts.Name, Err: errors.New("plugins in processes of their own come with the next commit")}
}
