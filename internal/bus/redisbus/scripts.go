package redisbus

import (
	"embed"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"
)

//go:embed scripts/*.lua
var sources embed.FS

// scripts are the server's side of the bus: what must be one step there. Each
// file says what it takes and replies.
type scripts struct {
	publish, redact            *redis.Script // through a publisher
	enter, leave, sweep, reap  *redis.Script
	members, heal, fork, pages *redis.Script
}

func newScripts(k *keys, sharded bool) *scripts {
	publish := "PUBLISH"
	if sharded {
		publish = "SPUBLISH"
	}
	head := fmt.Sprintf("local PUBLISH, PREFIX = '%s', %d\n", publish, k.partPrefix)
	make := func(files ...string) *redis.Script {
		var b strings.Builder
		b.WriteString(head)
		for _, f := range append([]string{"keys"}, files...) {
			text, err := sources.ReadFile("scripts/" + f + ".lua")
			if err != nil {
				panic(err) // the binary was built without its files
			}
			b.Write(text)
		}
		return redis.NewScript(b.String())
	}
	return &scripts{
		publish: make("epoch", "append", "publish"),
		redact:  make("epoch", "append", "redact"),
		enter:   make("epoch", "read", "presence", "enter"),
		leave:   make("presence", "leave"),
		sweep:   make("presence", "sweep"),
		reap:    make("presence", "reap"),
		members: make("members"),
		heal:    make("epoch", "read", "heal"),
		fork:    make("epoch", "fork"),
		pages:   make("read", "history"),
	}
}
