package redisbus

import (
	"context"
	"net"

	"github.com/wsrelay/relay/internal/bus"
)

// run tells the handler which deliveries come in a row: all that one read of the
// connection brought. The library keeps what it has read and not yet returned to
// itself, so run looks at the connection under it: the library reads there when
// it has returned everything.
type run struct {
	handler bus.Handler
	begun   bool
}

type runKey struct{}

// within has the connection that is dialled with the context report to r.
func (r *run) within(ctx context.Context) context.Context {
	return context.WithValue(ctx, runKey{}, r)
}

// reported is c, and reports to the run that ctx is for, if it is for one.
func reported(ctx context.Context, c net.Conn) net.Conn {
	if r, ok := ctx.Value(runKey{}).(*run); ok {
		return &reportingConn{c, r}
	}
	return c
}

func (r *run) begin() {
	if !r.begun {
		r.begun = true
		r.handler.Gather()
	}
}

func (r *run) end() {
	if r.begun {
		r.begun = false
		r.handler.Flush()
	}
}

type reportingConn struct {
	net.Conn
	run *run
}

// Read implements net.Conn. It may wait: until then nothing must be put off.
func (c *reportingConn) Read(b []byte) (int, error) {
	c.run.end()
	n, err := c.Conn.Read(b)
	c.run.begin()
	return n, err
}
