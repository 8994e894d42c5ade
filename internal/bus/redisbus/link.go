package redisbus

import (
	"crypto/rand"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"

	"github.com/redis/go-redis/v9"
)

// link is a publisher's connection, with what it found at the other end.
type link struct {
	*redis.Conn
	publisher string
	ids       string // run and replication id of the server, hashed: epoch.lua
	arg       string // ARGV[1] of append.lua
	stale     bool   // the server says that ids are not right any more
}

// dial connects to the primary that the lane leads to, loads the publishers'
// scripts there and reads what server it is.
func dial(l *lane, publisher string) (*link, error) {
	b := l.bus
	node, err := l.node(b.ctx)
	if err != nil {
		return nil, err
	}
	c := &link{Conn: node.EphemeralConn(), publisher: publisher}
	if err = c.load(b); err == nil {
		err = c.identify(b)
	}
	if err != nil {
		_ = c.Close() // it is of no use
		return nil, err
	}
	return c, nil
}

func (c *link) load(b *Bus) error {
	for _, s := range []*redis.Script{b.scripts.publish, b.scripts.redact} {
		if err := s.Load(b.ctx, c).Err(); err != nil {
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
func (c *link) identify(b *Bus) error {
	server, err := c.Info(b.ctx, "server").Result()
	if err != nil {
		return fmt.Errorf("reading the server's run id: %w", err)
	}
	replication, err := c.Info(b.ctx, "replication").Result()
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
