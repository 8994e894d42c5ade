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
	publish, redact            *script // through a publisher
	enter, leave, sweep, reap  *redis.Script
	audit                      *redis.Script
	members, heal, fork, pages *redis.Script
	sanction, lift, state      *redis.Script // of the sanctions
}

// script is one that the library does not send.
type script struct{ sha, text string }

func newScripts(k *keys, sharded bool) *scripts {
	publish := "PUBLISH"
	if sharded {
		publish = "SPUBLISH"
	}
	text := func(prefix int, files []string) string {
		var b strings.Builder
		fmt.Fprintf(&b, "local PUBLISH, PREFIX = '%s', %d\n", publish, prefix)
		for _, f := range append([]string{"keys"}, files...) {
			text, err := sources.ReadFile("scripts/" + f + ".lua")
			if err != nil {
				panic(err) // the binary was built without its files
			}
			b.Write(text)
		}
		return b.String()
	}
	of := func(prefix int, files ...string) *redis.Script { return redis.NewScript(text(prefix, files)) }
	make := func(files ...string) *redis.Script { return of(k.partPrefix, files...) }
	ours := func(files ...string) *script {
		s := text(k.partPrefix, files)
		return &script{sha: redis.NewScript(s).Hash(), text: s}
	}
	return &scripts{
		publish: ours("epoch", "append", "publish"),
		redact:  ours("epoch", "append", "redact"),
		enter:   make("epoch", "read", "presence", "enter"),
		leave:   make("presence", "leave"),
		sweep:   make("presence", "sweep"),
		reap:    make("presence", "reap"),
		audit:   make("presence", "audit"),
		members: make("members"),
		heal:    make("epoch", "read", "heal"),
		fork:    make("epoch", "fork"),
		pages:   make("read", "history"),

		sanction: of(len(k.sanctions), "sanctions", "sanction"),
		lift:     of(len(k.sanctions), "sanctions", "lift"),
		state:    of(len(k.sanctions), "state"),
	}
}
