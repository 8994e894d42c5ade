package redisbus

import (
	"errors"
	"io"
	"net"
	"testing"

	"github.com/wsrelay/relay/internal/bus"
	"github.com/wsrelay/relay/internal/bus/redisbus/redistest"
)

// TestAnAnswerLostBeforeARefusal: what was sent twice and may have happened the
// first time is of unknown outcome, though the second certainly did not happen.
func TestAnAnswerLostBeforeARefusal(t *testing.T) {
	b := begun(t, redistest.Start(t))
	refused := &net.OpError{Op: "dial", Err: errors.New("refused")}
	for _, c := range []struct {
		name string
		errs []error
		want error
	}{
		{"lost, then refused", []error{io.EOF, refused, refused}, bus.ErrUnknownOutcome},
		{"lost in between", []error{refused, io.EOF, refused}, bus.ErrUnknownOutcome},
		{"lost at last", []error{refused, refused, io.EOF}, bus.ErrUnknownOutcome},
		{"refused", []error{refused, refused, refused}, bus.ErrUnavailable},
		{"lost, then answered", []error{io.EOF, nil}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := 0
			err := failure(b.again(t.Context(), "room", func() error { n++; return c.errs[n-1] }))
			if n != len(c.errs) || !errors.Is(err, c.want) || errors.Is(err, bus.ErrUnavailable) != (c.want == bus.ErrUnavailable) {
				t.Errorf("told %v after %d attempts", err, n)
			}
		})
	}
}
