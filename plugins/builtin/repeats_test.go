package builtin

import (
	"context"
	"fmt"
	"hash/maphash"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wsrelay/relay/plugins/filter"
)

// by is a message that somebody says in a room.
func by(user, room, text string) *filter.Message {
	m := chat(text)
	m.User.ID, m.Room = user, room
	return m
}

func TestRepeatsCountWithinTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		judge := build(t, "repeats", `{"max":2,"window":"10s"}`)
		say := func(user, room, text, want string) {
			t.Helper()
			if got := told(t, judge, by(user, room, text)); got != want {
				t.Errorf("after %v %s in %s, %q: %s, want %s", time.Now().Format("05"), user, room, text, got, want)
			}
		}
		say("ann", "lobby", "hello there", "ok")
		say("ann", "lobby", "HELLO,  thére!!", "ok")
		say("ann", "lobby", "hellllo there", "reject repeats")
		say("bob", "lobby", "hello there", "ok") // another user
		say("ann", "attic", "hello there", "ok") // another room
		say("ann", "lobby", "good night", "ok")  // another text
		say("ann", "lobby", "good nights", "ok") // a short one must be equal
		time.Sleep(9 * time.Second)              // virtual
		say("ann", "lobby", "hello there", "reject repeats")
		time.Sleep(time.Second)
		say("ann", "lobby", "hello there", "ok") // what was refused counts, too: it was said 1 s ago
		say("ann", "lobby", "hello there", "reject repeats")
		time.Sleep(10 * time.Second)
		say("ann", "lobby", "hello there", "ok")
	})
}

func TestRepeatsSeeThroughSmallChanges(t *testing.T) {
	const spam = "Buy cheap watches now at the best price of the whole town"
	for _, c := range []struct {
		name, config, again string
		refused             bool
	}{
		{"a suffix", `{"max":1}`, spam + " x7f3q", true},
		{"a prefix", `{"max":1}`, "@bob " + spam, true},
		{"one letter", `{"max":1}`, "Buy cheap watches now at the bost price of the whole town", true},
		{"lookalikes", `{"max":1}`, "Вuу сhеар watches now at the best price of the whole town", true},
		{"invisible", `{"max":1}`, "B\u200buy cheap wat\u00adches now at the best price of the whole town", true},
		{"another text", `{"max":1}`, "Does anybody know when the next train to the coast leaves today", false},
		{"equal alone", `{"max":1,"similar":100}`, spam + " x7f3q", false},
		{"equal alone, equal", `{"max":1,"similar":100}`, spam + "!", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			judge := build(t, "repeats", c.config)
			if got := told(t, judge, chat(spam)); got != "ok" {
				t.Fatalf("the first: %s", got)
			}
			if got := told(t, judge, chat(c.again)); (got != "ok") != c.refused {
				t.Errorf("%q: %s", c.again, got)
			}
		})
	}
}

func TestRepeatsOfWhatHasNoLetters(t *testing.T) {
	judge := build(t, "repeats", `{"max":1,"min_length":1}`)
	for _, c := range []struct{ text, want string }{
		{"!!!", "ok"},
		{"???", "ok"},
		{"!!!", "reject repeats"},
		{"😀", "ok"},
		{"🎉", "ok"},
		{"😀", "reject repeats"},
		{"你好", "ok"},
		{"你好吗", "ok"},
		{"你好", "reject repeats"},
		{"", "ok"},
		{"", "ok"},
	} {
		if got := told(t, judge, chat(c.text)); got != c.want {
			t.Errorf("%q: %s, want %s", c.text, got, c.want)
		}
	}
}

func TestRepeatsOptions(t *testing.T) {
	judge := build(t, "repeats", `{"max":1,"scope":"user","min_length":5,"mute":"1m","action":"drop"}`)
	told(t, judge, by("ann", "lobby", "hello there"))
	v, err := judge(context.Background(), by("ann", "attic", "hello there"))
	if err != nil || v.Action != filter.ActionDrop || len(v.Sanctions) != 1 || v.Sanctions[0].Kind != filter.Mute || v.Sanctions[0].For != time.Minute {
		t.Errorf("%+v, %v", v, err)
	}
	for range 5 {
		if got := told(t, judge, by("ann", "lobby", "ok  ")); got != "ok" {
			t.Errorf("a short text: %s", got)
		}
	}
	judge = build(t, "repeats", `{"max":1}`)
	told(t, judge, chat("a title", "a body"))
	for _, c := range []struct {
		texts []string
		want  string
	}{{[]string{"a title", "another"}, "ok"}, {[]string{"a titlea body"}, "ok"}, {[]string{"a title", "a body"}, "reject repeats"}} {
		if got := told(t, judge, chat(c.texts...)); got != c.want {
			t.Errorf("%q: %s, want %s", c.texts, got, c.want)
		}
	}
}

// What is kept in mind has a bound, and who spoke last stays.
func TestRepeatsForgetsWhoWasSilentForLongest(t *testing.T) {
	judge := build(t, "repeats", `{"max":1,"users":3}`)
	for _, c := range []struct{ user, want string }{
		{"a", "ok"}, {"b", "ok"}, {"c", "ok"}, {"a", "reject repeats"}, // a is newer than b now
		{"d", "ok"}, {"a", "reject repeats"}, {"c", "reject repeats"}, {"b", "ok"}, // b was forgotten, and d goes
		{"a", "reject repeats"}, {"d", "ok"},
	} {
		if got := told(t, judge, by(c.user, "lobby", "hello there")); got != c.want {
			t.Errorf("%s: %s, want %s", c.user, got, c.want)
		}
	}
}

func TestRepeatsBoundsItsMemory(t *testing.T) {
	for _, users := range []int{1, 10, 2000} {
		c := defaultRepeats()
		r := &repeats{config: c, hash: maphash.MakeSeed(), shards: newShards(users, c.Remember)}
		var wg sync.WaitGroup
		for g := range 4 {
			wg.Go(func() {
				for i := range 3000 {
					var u utterance
					r.heard(speakerKey{"lobby", fmt.Sprintf("user %d", g*1000+i)}, &u)
				}
			})
		}
		wg.Wait()
		total := 0
		for i := range r.shards {
			s := &r.shards[i]
			total += len(s.by)
			n := 0
			for p := s.ring.older; p != &s.ring; p = p.older {
				if s.by[p.key] != p {
					t.Fatalf("%d users: the ring has somebody whom the map has not", users)
				}
				n++
			}
			if n != len(s.by) {
				t.Errorf("%d users: %d in the ring, %d in the map", users, n, len(s.by))
			}
		}
		if total > users {
			t.Errorf("%d users are kept in mind, want at most %d", total, users)
		}
	}
}
