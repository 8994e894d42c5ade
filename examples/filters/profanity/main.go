// Profanity is a relay filter with a configuration: it masks words that nobody
// wants to read, and mutes who keeps writing them.
//
//	filters:
//	  profanity:
//	    command: ["./profanity"]
//	    unpinned: true
//	    config: {words: [darn, heck], strikes: 3, mute: 10m}
//	    actions: [modify, mute]
package main

import (
	"context"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/wsrelay/relay/plugins/filter"
)

// Config is what relay.yaml has under config. Its JSON Schema is derived from
// these tags.
type Config struct {
	Words   []string `json:"words" jsonschema:"minItems=1" jsonschema_description:"Words to mask, as whole words and in any case."`
	Strikes int      `json:"strikes" jsonschema:"minimum=0" jsonschema_description:"Messages with such words, within an hour, after which their author is muted; 0: never."`
	Mute    string   `json:"mute" jsonschema_description:"How long a mute lasts, like 10m."`
}

func main() { Plugin().Serve() }

// Plugin is the filter; its test runs it in process.
func Plugin() filter.Plugin {
	return filter.Plugin{
		Name: "profanity", Version: "1",
		Config:    filter.Configured(Config{Strikes: 3, Mute: "10m"}, build),
		Actions:   []filter.Action{filter.ActionModify},
		Sanctions: []filter.SanctionKind{filter.Mute},
	}
}

// build makes the judge for a configuration, or says what is wrong with it.
func build(c Config) (filter.Judge, error) {
	if len(c.Words) == 0 {
		return nil, filter.At("/words", "must not be empty")
	}
	mute, err := time.ParseDuration(c.Mute)
	if err != nil || mute <= 0 {
		return nil, filter.At("/mute", "must be a duration such as 10m")
	}
	quoted := make([]string, len(c.Words))
	for i, w := range c.Words {
		quoted[i] = regexp.QuoteMeta(w)
	}
	words := regexp.MustCompile(`(?i)\b(` + strings.Join(quoted, "|") + `)\b`)
	s := &strikes{most: c.Strikes, of: make(map[string][]time.Time)}
	return func(_ context.Context, m *filter.Message) (filter.Verdict, error) {
		if !words.MatchString(m.Text()) {
			return filter.Allow(), nil
		}
		v := filter.Modify(m.MapText(func(text string) string {
			return words.ReplaceAllStringFunc(text, func(w string) string { return strings.Repeat("*", len([]rune(w))) })
		})).Flag("profanity", 1)
		if s.out(m.Room+"\x00"+m.User.ID, time.Now()) {
			v = v.Mute(mute, "Please mind your language.")
		}
		return v, nil
	}, nil
}

// strikes counts what users did in the last hour.
type strikes struct {
	most int

	mu sync.Mutex
	of map[string][]time.Time // guarded by mu
}

// maxUsers bounds who is remembered: beyond it everyone starts anew.
const maxUsers = 100_000

// out counts a strike, and reports whether it was one too many.
func (s *strikes) out(user string, now time.Time) bool {
	if s.most == 0 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.of) >= maxUsers {
		clear(s.of)
	}
	list := s.of[user]
	for len(list) > 0 && now.Sub(list[0]) > time.Hour {
		list = list[1:]
	}
	if list = append(list, now); len(list) >= s.most {
		delete(s.of, user)
		return true
	}
	s.of[user] = list
	return false
}
