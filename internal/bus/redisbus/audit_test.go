package redisbus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/wsrelay/relay/internal/bus"
	"github.com/wsrelay/relay/internal/bus/redisbus/redistest"
)

// plain is what one enters with into a room without history.
func plain(member string) *bus.Entry {
	return &bus.Entry{Room: "room", Member: member, User: fmt.Appendf(nil, `{"id":%q}`, member), Presence: true, Announce: true, Idle: time.Hour}
}

func awaitMembers(t *testing.T, b *Bus, want int) {
	t.Helper()
	redistest.Eventually(t, 20*time.Second, fmt.Sprint(want, " members"), func() error {
		page, err := b.Members(t.Context(), "room", "", 1000)
		if err == nil && page.Count != want {
			err = fmt.Errorf("%d are", page.Count)
		}
		return err
	})
}

func begin(t *testing.T, url string, o Timings) *Bus {
	t.Helper()
	b, err := New(Options{URL: url, Timings: o})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close(context.Background()) })
	if err := b.Start(t.Context(), aloof{}); err != nil {
		t.Fatal(err)
	}
	return b
}

// TestAnAuditTriesAgain: whom Redis refuses is put back, and who is there against
// the roster leaves, as soon as it does not any more.
func TestAnAuditTriesAgain(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	b := begin(t, server.URL(), Timings{Compare: time.Hour, Probe: 20 * time.Millisecond, Sweep: 20 * time.Millisecond})
	for i := range 300 {
		if _, err := b.Enter(t.Context(), plain(fmt.Sprint("m", i))); err != nil {
			t.Fatal(err)
		}
	}
	// Who left with a grace is nobody's here, and stays all the same.
	if _, err := b.Enter(t.Context(), plain("graceful")); err != nil {
		t.Fatal(err)
	}
	if err := b.Leave(t.Context(), &bus.Leaving{Room: "room", Member: "graceful", Grace: time.Hour}); err != nil {
		t.Fatal(err)
	}
	// Who came back in time, which a failover lost, is in Redis with a grace that is running.
	if _, err := b.Enter(t.Context(), plain("returned")); err != nil {
		t.Fatal(err)
	}
	inc := b.lease.incarnation()
	if err := b.lanes[0].calls.run(t.Context(), b.scripts.leave, b.keys.meta("room"), "returned", inc, inc, time.Hour.Milliseconds(), "").Err(); err != nil {
		t.Fatal(err)
	}
	part := partitionOf("room")
	set := b.keys.partition[part] + "n"
	server.Do("EVAL", `
local function one(p) return redis.call('KEYS', p)[1] end
local p, i = one('*:p:room'), one('*}:i:*')
redis.call('HDEL', p, 'm7')
redis.call('ZREM', one('*:o:room'), 'm7')
redis.call('SREM', i, '4:roomm7')
redis.call('HSET', p, 'ghost', redis.call('HGET', p, 'm8'))
redis.call('SADD', i, '4:roomghost')
redis.call('RENAME', KEYS[1], 'aside')
redis.call('SET', KEYS[1], 'no set')`, "1", set)
	before := b.stats.Errors.Load()
	b.audit.ask(part)
	redistest.Eventually(t, 20*time.Second, "the audit to fail twice", func() error {
		if n := b.stats.Errors.Load() - before; n < 2 {
			return fmt.Errorf("%d errors", n)
		}
		return nil
	})
	server.Do("EVAL", "redis.call('DEL', KEYS[1]) redis.call('RENAME', 'aside', KEYS[1])", "1", set)
	awaitMembers(t, b, 302)
	redistest.Eventually(t, 20*time.Second, "the one who came back not to be leaving", func() error {
		if graces := server.Do("--raw", "ZRANGE", b.keys.partition[part]+"g", "0", "-1"); graces != inc+":"+placeOf("room", "graceful") {
			return errors.New(graces)
		}
		return nil
	})
	if n := b.stats.Missing.Load(); n != 2 {
		t.Errorf("%d members were missing", n)
	}
	redistest.Eventually(t, 20*time.Second, "the ghost to leave", func() error {
		if server.Do("--raw", "HEXISTS", b.keys.presence("room"), "ghost") != "0" {
			return errors.New("it is there")
		}
		return nil
	})
	if n := b.stats.Leftover.Load(); n != 1 {
		t.Errorf("%d members were left over", n)
	}
	awaitMembers(t, b, 302)
}

// TestWhenAnAuditIsDue: what many ask for is done once, and not again at once.
func TestWhenAnAuditIsDue(t *testing.T) {
	r, _ := testRoom(t, bus.Position{})
	a := &r.bus.audit
	began := time.Now()
	for range 3 {
		a.ask(5)
		a.ask(9)
	}
	if parts, wait := a.take(began); len(parts) != 0 || wait <= 0 || wait > r.bus.time.Probe+time.Since(began) {
		t.Errorf("at once: %v, and again in %v", parts, wait)
	}
	a.due[9] = began.Add(time.Minute)
	if parts, wait := a.take(began.Add(10 * time.Second)); !slices.Equal(parts, []int{5}) || wait != 50*time.Second {
		t.Errorf("later: %v, and again in %v", parts, wait)
	}
	a.ask(9)
	if parts, _ := a.take(began.Add(time.Minute)); !slices.Equal(parts, []int{9}) {
		t.Errorf("in the end: %v", parts)
	}
}

// TestWhoWasPutBackWithoutAnAnswerCanLeave: Redis has a member by the present
// incarnation, and its instance has not heard so.
func TestWhoWasPutBackWithoutAnAnswerCanLeave(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	way := redistest.NewProxy(t, server.Addr())
	b := begin(t, way.URL(), Timings{Compare: time.Hour, Reply: 300 * time.Millisecond, Lease: time.Minute})
	if _, err := b.Enter(t.Context(), plain("m")); err != nil {
		t.Fatal(err)
	}
	if err := b.lease.take(t.Context()); err != nil { // as where the lease is gone
		t.Fatal(err)
	}
	now := b.lease.incarnation()
	stray := func(rec *record) bool { return rec.inc != now }
	redistest.Eventually(t, 20*time.Second, "a put back without an answer", func() error {
		way.DropReplies()
		if b.putBack(b.roster.pick(stray), stray) {
			t.Fatal("put back, and answered")
		}
		way.Heal()
		redistest.Eventually(t, 20*time.Second, "the way to redis", func() error { return b.ready("room") })
		if server.Do("--raw", "SISMEMBER", b.keys.owned(partitionOf("room"), now), placeOf("room", "m")) != "1" {
			return errors.New("other calls had the connections")
		}
		return nil
	})
	if err := b.Leave(t.Context(), &bus.Leaving{Room: "room", Member: "m"}); err != nil {
		t.Log(err) // it is owed then
	}
	awaitMembers(t, b, 0)
}

func TestPlaces(t *testing.T) {
	for _, c := range []struct{ room, member string }{{"r", "m"}, {"r:1", "m:2"}, {"räume", ""}, {"12:3", "4:5"}} {
		if room, member, ok := parsePlace(placeOf(c.room, c.member)); !ok || room != c.room || member != c.member {
			t.Errorf("%+v came back as %q, %q", c, room, member)
		}
	}
	for _, bad := range []string{"", ":", "x:y", "9:short", "-1:x"} {
		if room, member, ok := parsePlace(bad); ok {
			t.Errorf("%q is %q, %q", bad, room, member)
		}
	}
}
