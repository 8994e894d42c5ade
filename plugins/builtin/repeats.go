package builtin

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/wsrelay/relay/plugins/filter"
)

// RepeatsConfig is the configuration of the filter repeats.
type RepeatsConfig struct {
	Max       int    `json:"max" jsonschema:"minimum=1,maximum=63" jsonschema_description:"Times that a user may say the same within the window. The next time is too much, and so is each one after it until the window is over."`
	Window    string `json:"window" jsonschema_description:"How long what was said counts, such as 30s or 5m."`
	Similar   int    `json:"similar" jsonschema:"minimum=1,maximum=100" jsonschema_description:"Percentage of their three-letter pieces that two texts must share to be the same. Below 12 letters, and with 100, they must be equal but for case, accents, spaces, punctuation and repeated letters."`
	MinLength int    `json:"min_length" jsonschema:"minimum=0" jsonschema_description:"Texts with fewer characters may be said as often as one likes."`
	Scope     string `json:"scope" jsonschema:"enum=room,enum=user" jsonschema_description:"room counts what a user says in each room; user counts it over all rooms of this instance that use the filter."`
	Users     int    `json:"users" jsonschema:"minimum=1,maximum=10000000" jsonschema_description:"Users (with scope room: in each room) to keep in mind, on each instance. Beyond that, who was silent for longest is forgotten."`
	Remember  int    `json:"remember" jsonschema:"minimum=1,maximum=64" jsonschema_description:"Messages of each to keep in mind; more than max. A user takes about 90 bytes for each, and 200 more."`
	Action    string `json:"action" jsonschema:"enum=reject,enum=drop,enum=shadow,enum=flag" jsonschema_description:"What happens to a message that is too much: reject, drop, shadow or flag."`
	Mute      string `json:"mute,omitempty" jsonschema_description:"Also mute its sender in the room for so long, such as 1m. The filter needs mute among its actions in relay.yaml."`
	Code      string `json:"code" jsonschema_description:"A word for programs: told to the sender of a refused message, and the label of a flag."`
	Reason    string `json:"reason" jsonschema_description:"A sentence for people, told to the sender of a refused message."`
}

func defaultRepeats() RepeatsConfig {
	return RepeatsConfig{
		Max: 2, Window: "30s", Similar: 70, MinLength: 4, Scope: "room", Users: 10_000, Remember: 8,
		Action: actReject, Code: "repeats", Reason: "You have said that already.",
	}
}

// shardCount is into how many parts the users are divided, so that few wait for
// each other.
const shardCount = 16

// repeats is the filter at work. It remembers what was said on this instance.
type repeats struct {
	screen
	config       RepeatsConfig
	window, mute time.Duration
	began        time.Time
	hash         maphash.Seed
	seed         uint64 // of the sketches
	shards       []shard
}

func newRepeats(c RepeatsConfig) (filter.Judge, error) {
	warm()
	errs := said("", c.Code, c.Reason)
	errs = append(errs,
		oneOf("/action", c.Action, actReject, actDrop, actShadow, actFlag),
		oneOf("/scope", c.Scope, "room", "user"))
	for _, k := range []struct {
		key              string
		value, low, high int
	}{
		{"max", c.Max, 1, 63},
		{"similar", c.Similar, 1, 100},
		{"min_length", c.MinLength, 0, 1 << 20},
		{"users", c.Users, 1, 10_000_000},
		{"remember", c.Remember, 1, 64},
	} {
		if k.value < k.low || k.value > k.high {
			errs = append(errs, filter.At("/"+k.key, fmt.Sprintf("%d is not from %d to %d", k.value, k.low, k.high)))
		}
	}
	if c.Remember <= c.Max {
		errs = append(errs, filter.At("/remember", fmt.Sprintf("%d messages do not tell whether there were more than max, %d", c.Remember, c.Max)))
	}
	r := &repeats{config: c, screen: screen{action: c.Action, code: c.Code, reason: c.Reason}}
	var err error
	if r.window, err = duration("/window", c.Window); err != nil {
		errs = append(errs, err)
	}
	if c.Mute != "" {
		if r.mute, err = duration("/mute", c.Mute); err != nil {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	r.began, r.hash, r.seed = time.Now(), maphash.MakeSeed(), rand.Uint64()
	r.shards = newShards(c.Users, c.Remember)
	return r.judge, nil
}

// duration reads a length of time in whole milliseconds.
func duration(pointer, s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil || d < time.Millisecond {
		return 0, filter.At(pointer, fmt.Sprintf("%q is no length of time, such as 30s or 5m", s))
	}
	return d.Truncate(time.Millisecond), nil
}

// judge is a filter.Judge.
func (r *repeats) judge(_ context.Context, m *filter.Message) (filter.Verdict, error) {
	n := 0
	for i := range m.Texts {
		n += visible(m.Texts[i].Text, r.config.MinLength-n)
	}
	if len(m.Texts) == 0 || n < r.config.MinLength {
		return filter.Allow(), nil
	}
	var said utterance
	said.begin(r.seed)
	for i := range m.Texts {
		said.add(m.Texts[i].Text, r.seed)
	}
	who := speakerKey{user: m.User.ID}
	if r.config.Scope == "room" {
		who.room = m.Room
	}
	said.when = time.Since(r.began)
	if r.heard(who, &said) < r.config.Max {
		return filter.Allow(), nil
	}
	v := r.verdict(m)
	if r.mute > 0 {
		v = v.Mute(r.mute, r.reason)
	}
	return v, nil
}

// heard notes what somebody says, and tells how often they said the like.
func (r *repeats) heard(who speakerKey, said *utterance) int {
	h := maphash.String(r.hash, who.user)
	s := &r.shards[h%uint64(len(r.shards))]
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.speaker(who)
	times := 0
	for i := range p.said[:p.filled] {
		u := &p.said[i]
		if said.when-u.when < r.window && u.alike(&said.sketch) >= r.config.Similar {
			times++
		}
	}
	p.said[p.next] = *said
	p.next = (p.next + 1) % len(p.said)
	p.filled = min(p.filled+1, len(p.said))
	return times
}

// utterance is what was said, and when: the time since the filter was made.
type utterance struct {
	sketch
	when time.Duration
}

// speakerKey is who speaks; room is empty where that does not matter.
type speakerKey struct{ room, user string }

// speaker is somebody to keep in mind.
type speaker struct {
	key          speakerKey
	newer, older *speaker // by when they spoke last
	said         []utterance
	next, filled int // where the next goes; how many there are
}

// shard is some of the speakers, at most capacity.
type shard struct {
	capacity, remember int

	mu   sync.Mutex
	by   map[speakerKey]*speaker // guarded by mu, as all below
	ring speaker                 // older: who spoke last; newer: who was silent for longest
}

// newShards has room for so many users and messages of each.
func newShards(users, remember int) []shard {
	n := shardCount
	if users < 64*shardCount { // few enough to be exact about whom to forget
		n = 1
	}
	shards := make([]shard, n)
	for i := range shards {
		s := &shards[i]
		s.capacity, s.remember, s.by = users/n, remember, map[speakerKey]*speaker{}
		s.ring.newer, s.ring.older = &s.ring, &s.ring
	}
	return shards
}

// speaker finds somebody, who speaks now, or makes room for them. mu is held.
func (s *shard) speaker(who speakerKey) *speaker {
	p, known := s.by[who]
	switch {
	case known:
		p.leave()
	case len(s.by) < s.capacity:
		p = &speaker{said: make([]utterance, s.remember)}
	default:
		p = s.ring.newer
		p.leave()
		delete(s.by, p.key)
		p.filled, p.next = 0, 0
	}
	if !known {
		p.key = speakerKey{strings.Clone(who.room), strings.Clone(who.user)} // not to keep a whole frame
		s.by[p.key] = p
	}
	first := s.ring.older
	p.newer, p.older = &s.ring, first
	first.newer, s.ring.older = p, p
	return p
}

// leave takes p out of the ring.
func (p *speaker) leave() { p.newer.older, p.older.newer = p.older, p.newer }
