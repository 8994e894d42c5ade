package redisbus_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wsrelay/relay/internal/bus"
	"github.com/wsrelay/relay/internal/bus/redisbus"
	"github.com/wsrelay/relay/internal/bus/redisbus/redistest"
)

// seldom is quick, but for comparisons that come by themselves: whatever is put
// right was found in another way.
func seldom() redisbus.Options {
	o := redisbus.Options{Timings: quick}
	o.Timings.Compare = time.Hour
	return o
}

func through(url string, o redisbus.Options) redisbus.Options {
	o.URL = url
	return o
}

// shown is the list of members as a client has it, who is told all that the
// instance is.
func (n *instance) shown(room string, list ...string) []string {
	for _, e := range n.room(room) {
		switch e.Kind {
		case bus.Joined:
			list = append(list, e.Sender.Member)
		case bus.Left:
			list = slices.DeleteFunc(list, func(m string) bool { return m == e.Sender.Member })
		case bus.Resync:
			list = nil
			for _, u := range e.Members {
				list = append(list, strings.Trim(strings.TrimPrefix(string(u), `{"id":`), `"}`))
			}
		}
	}
	slices.Sort(list)
	return list
}

func (n *instance) awaitShown(room string, want ...string) {
	n.t.Helper()
	want = slices.Sorted(slices.Values(want))
	eventually(n.t, "the list of members to be told", func() error {
		if got := n.shown(room); !slices.Equal(got, want) {
			return fmt.Errorf("%v are shown, want %v", got, want)
		}
		return nil
	})
}

// TestMembersThatCannotBePutBackAtOnce: the ones whom Redis refused when the
// instance put all back are tried again, without a comparison that finds them.
func TestMembersThatCannotBePutBackAtOnce(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	a := startWith(t, through(server.URL(), seldom()))
	var rooms []string
	for i := range 10 {
		rooms = append(rooms, fmt.Sprint("room-", i))
		enter(t, a, rooms[i], "m")
	}
	spoilt := server.Do("--raw", "KEYS", "*:m:"+rooms[3])
	server.Do("EVAL", "redis.call('FLUSHALL') redis.call('SET', KEYS[1], 'no hash')", "1", spoilt)
	present := func() (n int) {
		for _, room := range rooms {
			if page, err := a.Members(t.Context(), room, "", 10); err == nil {
				n += page.Count
			}
		}
		return n
	}
	eventually(t, "all but one to be back", func() error {
		if n := present(); n != 9 {
			return fmt.Errorf("%d are", n)
		}
		return nil
	})
	server.Do("DEL", spoilt)
	eventually(t, "the last one to be back", func() error {
		if n := present(); n != 10 {
			return fmt.Errorf("%d are", n)
		}
		return nil
	})
}

// TestWhoComesBackWithoutAWordIsShown: after a flush members are put back of whom
// nobody was told that they were gone. Who asked in between has a list without
// them, and is told the whole one; in a plain room too.
func TestWhoComesBackWithoutAWordIsShown(t *testing.T) {
	t.Parallel()
	for name, keep := range map[string]bus.Retention{"with history": keep, "plain": {}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			way := redistest.NewProxy(t, server.Addr())
			a, b := startWith(t, through(way.URL(), seldom())), startWith(t, through(server.URL(), seldom()))
			in := func(n *instance, member string) *bus.Entered {
				t.Helper()
				return enterKeeping(t, n, "room", member, keep)
			}
			for _, n := range []*instance{a, b} {
				n.subscribe("room", keep.Kept())
			}
			in(a, "far")
			in(b, "near")
			b.awaitShown("room", "far", "near")
			way.Blackhole() // so that it cannot put back what is lost now
			server.Do("FLUSHALL")
			if at := in(b, "late"); len(at.Members) > 2 {
				t.Errorf("the one that cannot be known yet is listed: %s", at.Members)
			}
			way.Cut()
			way.Heal()
			eventually(t, "the far one to be back", func() error {
				page, err := b.Members(t.Context(), "room", "", 10)
				if err == nil && page.Count != 3 {
					err = fmt.Errorf("%d members", page.Count)
				}
				return err
			})
			in(b, "last") // whose coming is told, and is no sign that all before is known
			for _, n := range []*instance{a, b} {
				n.awaitShown("room", "far", "last", "late", "near")
			}
			eventually(t, "the late one to be shown the far one", func() error {
				for _, e := range b.room("room") {
					if e.Kind == bus.Resync && strings.Contains(string(bytes.Join(e.Members, nil)), `"far"`) {
						return nil
					}
				}
				return errors.New("it is not")
			})
			for _, e := range b.room("room") {
				if e.Kind == bus.Left {
					t.Errorf("%s was told to have left", e.Sender.Member)
				}
			}
		})
	}
}

// TestAServerWithoutItsLastWrites: what a failover or a restart loses of members is
// found out at once, whatever came since: who came last is put back, and who left
// last leaves.
func TestAServerWithoutItsLastWrites(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	o := through(server.URL(), seldom())
	o.Timings.Lease = time.Minute // it is not the lease that notices
	way := redistest.NewProxy(t, server.Addr())
	a, b := startWith(t, through(way.URL(), o)), startWith(t, o)
	in := func(n *instance, member string) {
		t.Helper()
		enterKeeping(t, n, "room", member, bus.Retention{})
	}
	for _, n := range []*instance{a, b} {
		n.subscribe("room", false)
	}
	want := []string{"last-1", "last-2", "since-1", "since-2", "since-3", "since-4"}
	for i := range 20 {
		m := fmt.Sprint("m", 10+i)
		in(a, m)
		want = append(want, m)
	}
	in(a, "left")
	server.Do("SAVE")
	if err := a.Leave(t.Context(), &bus.Leaving{Room: "room", Member: "left"}); err != nil {
		t.Fatal(err)
	}
	in(a, "last-1")
	in(a, "last-2")
	b.awaitShown("room", append(slices.Clone(want[6:]), "last-1", "last-2")...)
	way.Refuse()
	server.Kill()
	server.Up()
	eventually(t, "the way to redis", b.Health)
	for i := range 4 { // as many as were lost, so that the versions tell nothing
		in(b, fmt.Sprint("since-", 1+i))
	}
	way.Heal()
	for _, n := range []*instance{a, b} {
		eventually(t, "the members to be those who are here", func() error {
			page, err := n.Members(t.Context(), "room", "", 100)
			if err == nil && page.Count != len(want) {
				err = fmt.Errorf("%d members", page.Count)
			}
			return err
		})
		n.awaitShown("room", want...)
	}
}

// TestAFewMembersAreLost: the same without a sign of it but in the versions of the
// list, for who hears the next changes or compares.
func TestAFewMembersAreLost(t *testing.T) {
	t.Parallel()
	for name, after := range map[string]int{"nobody came since": 0, "fewer came since": 1, "more came since": 3} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			o := through(server.URL(), seldom())
			if after == 0 {
				o.Timings.Compare = quick.Compare // nothing is heard: it has to be looked for
			}
			a, b := startWith(t, o), startWith(t, o)
			for _, n := range []*instance{a, b} {
				n.subscribe("room", false)
			}
			var want []string
			in := func(n *instance, member string) {
				t.Helper()
				enterKeeping(t, n, "room", member, bus.Retention{})
				want = append(want, member)
			}
			for i := range 20 {
				in(a, fmt.Sprint("m", 10+i))
			}
			in(a, "lost1")
			in(a, "lost2")
			b.awaitShown("room", want...)
			server.Do("EVAL", forget, "0", "lost1", "lost2")
			for i := range after {
				in(b, fmt.Sprint("since", i))
			}
			eventually(t, "the lost ones to be back", func() error {
				page, err := a.Members(t.Context(), "room", "", 100)
				if err == nil && page.Count != len(want) {
					err = fmt.Errorf("%d members", page.Count)
				}
				return err
			})
			for _, n := range []*instance{a, b} {
				n.awaitShown("room", want...)
			}
		})
	}
}

// forget takes members out of a room as if they had never come.
const forget = `
local function one(pattern) return redis.call('KEYS', pattern)[1] end
for _, m in ipairs(ARGV) do
  redis.call('HDEL', one('*:p:room'), m)
  redis.call('ZREM', one('*:o:room'), m)
  redis.call('SREM', one('*}:i:*'), '4:room' .. m)
  redis.call('HINCRBY', one('*:m:room'), 'v', -1)
end`
