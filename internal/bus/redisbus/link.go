package redisbus

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"time"
)

// link is a connection of ours: a publisher's, with what it found at the other
// end, or one that becomes a receiver's. The library dials and knows who is the
// primary; what is said on the connection is ours, because both send on one
// goroutine and hear on another.
type link struct {
	net.Conn
	r     *bufio.Reader
	reply time.Duration // what an answer may take

	publisher string
	ids       string // run and replication id of the server, hashed: epoch.lua
	arg       string // ARGV[1] of append.lua
	stale     bool   // the server says that ids are not right any more
}

// dial makes a publisher's connection: it loads their scripts at the server and
// reads which one it is.
func dial(l *lane, publisher string) (*link, error) {
	c, err := reach(l)
	if err != nil {
		return nil, err
	}
	c.publisher = publisher
	if err = c.load(l.bus); err == nil {
		err = c.identify()
	}
	if err != nil {
		_ = c.Close() // it is of no use
		return nil, err
	}
	return c, nil
}

// reach connects to the primary that the lane leads to.
func reach(l *lane) (*link, error) {
	b := l.bus
	node, err := l.node(b.ctx)
	if err != nil {
		return nil, err
	}
	opt := node.Options()
	ctx, cancel := context.WithTimeout(b.ctx, b.time.Dial)
	defer cancel()
	nc, err := opt.Dialer(ctx, opt.Network, opt.Addr)
	if err != nil {
		return nil, err
	}
	c := &link{Conn: nc, r: bufio.NewReader(nc), reply: b.time.Reply}
	if err := c.greet(opt.Username, opt.Password, opt.DB, opt.ClientName); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// greet says who we are and which database we want.
func (c *link) greet(user, password string, db int, name string) error {
	var commands [][]string
	switch {
	case user != "":
		commands = append(commands, []string{"auth", user, password})
	case password != "":
		commands = append(commands, []string{"auth", password})
	}
	if db != 0 {
		commands = append(commands, []string{"select", strconv.Itoa(db)})
	}
	if name != "" {
		commands = append(commands, []string{"client", "setname", name})
	}
	for _, args := range commands {
		if _, err := c.do(args...); err != nil {
			return fmt.Errorf("%s: %w", args[0], err)
		}
	}
	return nil
}

// do is one command and its answer.
func (c *link) do(args ...string) (string, error) {
	b := appendCommand(nil, len(args))
	for _, a := range args {
		b = appendArg(b, a)
	}
	answers := make([]answer, 1)
	if err := c.exchange(b, answers); err != nil {
		return "", err
	}
	return answers[0].text, answers[0].err
}

// exchange sends commands, and waits for an answer to each. If the connection
// breaks, that is the answer to those that got none.
func (c *link) exchange(commands []byte, answers []answer) error {
	err := c.SetDeadline(time.Now().Add(c.reply))
	if err == nil {
		_, err = c.Write(commands)
	}
	if err != nil {
		return unanswered(answers, err)
	}
	return c.hear(answers)
}

// hear reads the answers to what was sent, as exchange does.
func (c *link) hear(answers []answer) (err error) {
	for i := range answers {
		if answers[i], err = readAnswer(c.r); err != nil {
			return unanswered(answers[i:], err)
		}
	}
	return nil
}

func unanswered(answers []answer, err error) error {
	for i := range answers {
		answers[i] = answer{err: err}
	}
	return err
}

// interrupt ends a listen.
func (c *link) interrupt() { _ = c.SetReadDeadline(time.Unix(1, 0)) }

// listen waits until an answer begins to come; a timeout is an interrupt.
func (c *link) listen() error {
	_, err := c.r.Peek(1)
	return err
}

func (c *link) load(b *Bus) error {
	for _, s := range []*script{b.scripts.publish, b.scripts.redact} {
		if _, err := c.do("script", "load", s.text); err != nil {
			return fmt.Errorf("loading a script: %w", err)
		}
	}
	return nil
}

var (
	runID  = regexp.MustCompile(`(?m)^run_id:([0-9a-f]+)`)
	replID = regexp.MustCompile(`(?m)^master_replid:([0-9a-f]+)`)
	role   = regexp.MustCompile(`(?m)^role:(\w+)`)
)

// identify reads run and replication id. Any change of them says that writes
// may have been lost in between.
func (c *link) identify() error {
	server, err := c.do("info", "server")
	if err != nil {
		return fmt.Errorf("reading the server's run id: %w", err)
	}
	replication, err := c.do("info", "replication")
	if err != nil {
		return fmt.Errorf("reading the server's replication id: %w", err)
	}
	run, repl, as := runID.FindStringSubmatch(server), replID.FindStringSubmatch(replication), role.FindStringSubmatch(replication)
	if run == nil || repl == nil {
		return errors.New("INFO tells neither run id nor replication id: this is no Redis or Valkey that relay can use")
	}
	if as != nil && as[1] != "master" {
		return fmt.Errorf("the server is a %s, not a primary", as[1])
	}
	sum := sha1.Sum([]byte(run[1] + repl[1])) // as redis.sha1hex in epoch.lua: a name, not a secret
	c.ids = hex.EncodeToString(sum[:])[:16]
	c.arg = c.ids + rand.Text()[:10] + c.publisher
	c.stale = false
	return nil
}
