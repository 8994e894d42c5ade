package redisbus

import (
	"net"
	"time"

	"github.com/wsrelay/relay/internal/bus"
)

// line is one pub/sub connection.
type line struct {
	net.Conn
	inbox   inbox    // of the goroutine that reads
	changes []change // not sent yet
	sent    []change // not confirmed yet, in order
	cause   error    // why it was given up, if it did not break
}

// connect subscribes to the lane's probes, and then asks for all that is wanted.
func (r *receiver) connect() (*line, error) {
	b := r.lane.bus
	c, err := reach(r.lane)
	if err != nil {
		return nil, err
	}
	ln := &line{Conn: c.Conn, inbox: inbox{conn: c.Conn, handler: b.handler}}
	if err := r.begin(ln); err != nil {
		ln.inbox.flush()
		_ = ln.Close()
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.line, r.reason = ln, nil
	for channel, s := range r.wanted {
		ln.changes = append(ln.changes, change{channel, s})
	}
	r.nudge()
	if b.ctx.Err() != nil {
		ln.cause = bus.ErrClosed
		_ = ln.Close()
	}
	return ln, nil
}

// begin makes a connection one of pub/sub. A node of a cluster that does not have
// the partition says so here.
func (r *receiver) begin(ln *line) error {
	probe := r.lane.probeChannel()
	ln.sent = []change{{probe, &subscription{channel: probe}}}
	// A server that is only slow is no reason to give up: whoever starts waits for this.
	if err := ln.SetReadDeadline(time.Now().Add(r.lane.bus.time.Dial + r.lane.bus.time.Reply)); err != nil {
		return err
	}
	if err := r.send(ln, true, probe); err != nil {
		return err
	}
	n, err := ln.inbox.next()
	if err == nil {
		err = r.confirm(ln, n)
	}
	if err != nil {
		return err
	}
	// No time limit from here on: one that strikes within a message would leave
	// half of it behind. Probes tell whether the connection lives.
	return ln.SetReadDeadline(time.Time{})
}

// send asks for channels, or for no more of them.
func (r *receiver) send(ln *line, subscribe bool, channels ...string) error {
	b := r.lane.bus
	command := "subscribe"
	if !subscribe {
		command = "unsubscribe"
	}
	if b.sharded {
		command = "s" + command
	}
	cmd := appendArg(appendCommand(nil, 1+len(channels)), command)
	for _, c := range channels {
		cmd = appendArg(cmd, c)
	}
	err := ln.SetWriteDeadline(time.Now().Add(b.time.Reply))
	if err == nil {
		_, err = ln.Write(cmd)
	}
	return err
}
