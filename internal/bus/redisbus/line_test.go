package redisbus

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// canned is a connection to a server that answers every command, and then has
// said what it is given to say, a part with each read.
type canned struct {
	net.Conn // nil

	mu      sync.Mutex
	answers []byte
	parts   [][]byte
	refusal string // of a subscription
}

// Write confirms what is subscribed to, and agrees to all else.
func (c *canned) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for r := bufio.NewReader(bytes.NewReader(b)); ; {
		cmd, err := readAnswer(r)
		switch {
		case errors.Is(err, io.EOF):
			return len(b), nil
		case err != nil:
			return 0, err
		}
		switch cmd.list[0].text {
		case "subscribe":
			if c.refusal != "" {
				c.answers = append(c.answers, c.refusal...)
				continue
			}
			c.answers = fmt.Appendf(c.answers, "*3\r\n$9\r\nsubscribe\r\n$%d\r\n%s\r\n:1\r\n", len(cmd.list[1].text), cmd.list[1].text)
		default:
			c.answers = append(c.answers, "+OK\r\n"...)
		}
	}
}

func (c *canned) Read(b []byte) (n int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case len(c.answers) > 0:
		n = copy(b, c.answers)
		c.answers = c.answers[n:]
	case len(c.parts) > 0:
		n = copy(b, c.parts[0])
		if c.parts[0] = c.parts[0][n:]; len(c.parts[0]) == 0 {
			c.parts = c.parts[1:]
		}
	default:
		return 0, io.EOF
	}
	return n, nil
}

func (c *canned) Close() error                     { return nil }
func (c *canned) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c *canned) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (c *canned) SetDeadline(time.Time) error      { return nil }
func (c *canned) SetReadDeadline(time.Time) error  { return nil }
func (c *canned) SetWriteDeadline(time.Time) error { return nil }

// newCanned is a bus whose server is at the other end of conn.
func newCanned(t testing.TB, conn net.Conn) *Bus {
	t.Helper()
	b, err := New(Options{URL: "redis://canned"})
	if err != nil {
		t.Fatal(err)
	}
	_ = b.client.Close()
	b.single = redis.NewClient(&redis.Options{Dialer: func(context.Context, string, string) (net.Conn, error) { return conn, nil }})
	b.client, b.handler = b.single, aloof{}
	t.Cleanup(func() { _ = b.Close(context.Background()) })
	return b
}

// A node that does not have the partition ends the attempt, not the connection.
func TestSubscribingWhereThePartitionIsNot(t *testing.T) {
	b := newCanned(t, &canned{refusal: "-MOVED 3 127.0.0.1:1\r\n"})
	r := &b.lanes[0].receiver
	if _, err := r.connect(); fateOf(err) != elsewhere || r.line != nil {
		t.Errorf("%v", err)
	}
}

// What was not asked for ends the connection; of what came before, nothing is lost.
func TestConnectionsThatEndUnderAReceiver(t *testing.T) {
	for said, want := range map[string]string{
		"":                    "EOF",
		"-ERR going away\r\n": "going away",
		"*2\r\n$4\r\npong\r\n$0\r\n\r\n*3\r\n$12\r\nsunsubscribe\r\n$1\r\nx\r\n:0\r\n": "on its own",
		"*3\r\n$9\r\nsubscribe\r\n$1\r\nx\r\n:2\r\n":                                   "on its own",
		"*3\r\n$7\r\nmessage\r\n$4\r\nroom\r\n$9999999\r\n":                            errProtocol.Error(),
	} {
		conn := &canned{}
		b := newCanned(t, conn)
		l := b.lanes[0]
		ln, err := l.receiver.connect()
		if err != nil {
			t.Fatal(err)
		}
		l.heard = time.Time{}
		conn.parts = [][]byte{append(appendMessage(nil, l.probeChannel(), "1"), said...)}
		if err := l.receiver.read(ln); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", said, err)
		}
		if l.last().IsZero() {
			t.Errorf("%q: the probe before was not heard", said)
		}
	}
}
