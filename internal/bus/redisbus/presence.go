package redisbus

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wsrelay/relay/internal/bus"
)

// attempts is how often something that may be repeated is sent before its
// failure is told: a connection that breaks is no reason to refuse.
const attempts = 3

// again runs f, a command that may be repeated, until it succeeds, fails for good
// or has failed often enough. Where any attempt may have happened, so may all of
// it: that the last one certainly did not is no comfort.
func (b *Bus) again(ctx context.Context, room string, f func() error) error {
	return b.lane(room).again(ctx, f)
}

func (l *lane) again(ctx context.Context, f func() error) error {
	var doubt error
	for n := 1; ; n++ {
		err := f()
		switch fateOf(err) {
		case done:
			return err
		case unknown:
			doubt = err
		default:
			if doubt != nil {
				err = fmt.Errorf("%w: %w; then %w", errDoubt, doubt, err)
			}
		}
		if n == attempts || !transient(ctx, err) || l.ready() != nil {
			return err
		}
		pause := time.NewTimer(20 * time.Millisecond)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return err
		}
	}
}

// Enter is one script; repeating it after a failure is harmless, which it does
// on its own a few times.
func (b *Bus) Enter(ctx context.Context, e *bus.Entry) (*bus.Entered, error) {
	at, err := b.enter(ctx, e)
	if err != nil {
		return nil, fmt.Errorf("entering room %q: %w", e.Room, err)
	}
	return at, nil
}

func (b *Bus) enter(ctx context.Context, e *bus.Entry) (*bus.Entered, error) {
	if err := b.ready(e.Room); err != nil {
		return nil, err
	}
	rec, err := b.roster.take(ctx, e.Room, e.Member)
	if err != nil {
		return nil, err
	}
	defer b.roster.release(rec)
	before, inc, owed := rec.present, rec.inc, rec.owed
	noted := b.roster.presence(rec, e)
	// Noted before it is sent: the incarnation that is read after this is one
	// that whoever puts members back knows of.
	b.roster.set(rec, noted, inc, nil)
	now := b.lease.incarnation()
	b.roster.set(rec, noted, now, nil)

	var entered *bus.Entered
	var refusal error
	token := createToken(e)
	err = b.again(ctx, e.Room, func() (err error) {
		entered, refusal, err = b.runEnter(ctx, e, now, token, "")
		return err
	})
	switch {
	case fateOf(err) == unknown:
		if before.here() { // if it was not, the presence is still the former incarnation's
			b.stray(rec, noted, inc, nil)
		}
		return nil, failure(err) // present or not, a Leave puts it right
	case err != nil, refusal != nil:
		b.stray(rec, before, inc, owed)
		if err != nil {
			return nil, failure(err)
		}
		return nil, refusal
	}
	if entered.Epoch != "" {
		b.rooms.born(e.Room, entered.Epoch)
	}
	return entered, nil
}

// stray notes what may be so, for an incarnation that may be a former one by now.
func (b *Bus) stray(rec *record, present presence, inc string, owed *bus.Leaving) {
	b.roster.set(rec, present, inc, owed)
	if !present.here() {
		return
	}
	if inc != b.lease.incarnation() {
		b.lease.strays.Store(true)
	}
	b.audit.ask(rec.roll.part)
}

// createToken tells a repeated create from another: by its key, or where it has
// none, as one of this call.
func createToken(e *bus.Entry) string {
	switch {
	case e.Create != bus.MustCreate:
		return ""
	case e.CreateKey == "":
		return rand.Text()
	}
	return hex.EncodeToString([]byte(idempotency(e.Room, e.Member, e.CreateKey)))
}

// runEnter runs the script once. former is set when a member is put back. A
// refusal is the room's, err is of the way to Redis.
func (b *Bus) runEnter(ctx context.Context, e *bus.Entry, inc, token, former string) (in *bus.Entered, refusal, err error) {
	var epoch string
	var seq uint64
	back := "0"
	if e.Resume != nil {
		epoch, seq = e.Resume.Epoch, e.Resume.Seq
		if epoch == "" {
			epoch = "?" // of no room
		}
	}
	if former != "" {
		back = "1"
	}
	keep, life, fresh := 0, int64(0), ""
	if e.Retention.Kept() {
		keep, life, fresh = e.Retention.Keep, e.Retention.For.Milliseconds(), rand.Text()[:12]
	}
	v, err := b.lane(e.Room).calls.run(ctx, b.scripts.enter, b.keys.meta(e.Room),
		e.Member, e.User, inc, int(e.Create), token, e.Max, flag(e.Presence), flag(e.Announce), keep, life,
		e.Idle.Milliseconds(), e.Grace.Milliseconds(), fresh, bus.MembersListed,
		epoch, seq, e.ResumeMax, e.ResumeBytes, back, former).Slice()
	if err != nil {
		return nil, nil, err
	}
	switch status, _ := v[0].(string); status {
	case "E":
		return nil, bus.ErrRoomExists, nil
	case "M":
		return nil, bus.ErrRoomNotFound, nil
	case "F":
		return nil, bus.ErrRoomFull, nil
	}
	in = &bus.Entered{
		Created: number(v[1]) == 1, First: number(v[2]) == 1, Count: int(number(v[5])), Version: number(v[6]),
		OldestHistory: number(v[7]), Recovered: number(v[8]) == 1, ForkedAt: number(v[9]), Members: users(v[10]),
	}
	in.Epoch, _ = v[3].(string)
	in.Seq = number(v[4])
	if in.Recovered {
		pairs, _ := v[11].([]any)
		if in.Missed, in.Recovered = b.decodeStored(e.Room, in.Epoch, pairs); !in.Recovered {
			in.Missed = nil
		}
	}
	return in, nil, nil
}

func flag(is bool) int {
	if is {
		return 1
	}
	return 0
}

func users(v any) [][]byte {
	list, _ := v.([]any)
	if len(list) == 0 {
		return nil
	}
	all := make([][]byte, 0, len(list))
	for _, u := range list {
		text, _ := u.(string)
		all = append(all, []byte(text))
	}
	return all
}

// born tells a room that is received here which epoch it has, if it is one
// that had none when its subscription began.
func (rs *rooms) born(name, epoch string) {
	r := rs.find(partitionOf(name), []byte(name))
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.keeps && r.placed && !r.healing && r.pos.Epoch == "" {
		r.pos.Epoch = epoch
	}
}

// Leave is one script. One that does not get through is owed, and paid by the
// sweeper.
func (b *Bus) Leave(ctx context.Context, l *bus.Leaving) error {
	if err := b.leave(ctx, l); err != nil {
		return fmt.Errorf("leaving room %q: %w", l.Room, err)
	}
	return nil
}

func (b *Bus) leave(ctx context.Context, l *bus.Leaving) error {
	if err := b.open(); err != nil {
		return err
	}
	rec, err := b.roster.take(context.WithoutCancel(ctx), l.Room, l.Member)
	if err != nil {
		return err
	}
	defer b.roster.release(rec)
	noted := *l
	if rec.inc == "" {
		b.roster.set(rec, rec.present, b.lease.incarnation(), nil)
	}
	b.roster.set(rec, rec.present, rec.inc, &noted)
	_, err = b.pay(ctx, rec)
	return err
}

// pay carries out the leave that a record owes, and reports whether Redis had
// anybody to leave. The caller has the turn.
func (b *Bus) pay(ctx context.Context, rec *record) (had bool, err error) {
	if err := b.ready(rec.roll.room); err != nil {
		return false, err
	}
	l := rec.owed
	// Whoever was put back without an answer may be the present incarnation's already.
	now := b.lease.incarnation()
	var n int
	err = b.again(ctx, rec.roll.room, func() (err error) {
		n, err = b.lane(rec.roll.room).calls.run(ctx, b.scripts.leave, b.keys.meta(rec.roll.room),
			rec.member, rec.inc, now, max(0, l.Grace.Milliseconds()), l.Reason).Int()
		return err
	})
	if err != nil {
		return false, unavailable(err)
	}
	b.roster.set(rec, presence{}, "", nil)
	return n > 0, nil
}

// sweep ends graces, on behalf of all instances, and pays the leaves that this
// one owes.
func (b *Bus) sweep() {
	ticker := time.NewTicker(b.time.Sweep)
	defer ticker.Stop()
	for {
		select {
		case <-b.ctx.Done():
			return
		case <-ticker.C:
			b.payAll()
			b.sweepAll()
		}
	}
}

func (b *Bus) payAll() {
	for _, w := range b.roster.pick(func(rec *record) bool { return rec.owed != nil }) {
		if b.ctx.Err() != nil || b.ready(w.room) != nil {
			continue
		}
		rec, err := b.roster.take(b.ctx, w.room, w.member)
		if err != nil {
			return
		}
		if rec.owed != nil {
			_, _ = b.pay(b.ctx, rec) // still owed, then
		}
		b.roster.release(rec)
	}
}

// sweepMax is how many graces one script ends.
const sweepMax = 200

func (b *Bus) sweepAll() {
	parts := make([]int, 0, partitions)
	for p := range partitions {
		if b.laneOf(p).publisher.state() == nil {
			parts = append(parts, p)
		}
	}
	for len(parts) > 0 && b.ctx.Err() == nil {
		replies, err := b.eachPartition(b.ctx, b.scripts.sweep, parts, sweepMax)
		if err != nil {
			b.stats.Errors.Add(1)
		}
		var again []int
		for i, n := range replies {
			if n == sweepMax {
				again = append(again, parts[i])
			}
		}
		parts = again
	}
}

// eachPartition runs a script that replies a number for some partitions, in one
// round trip. A partition that failed has -1; err is one of the failures.
func (b *Bus) eachPartition(ctx context.Context, s *redis.Script, parts []int, args ...any) (replies []int, err error) {
	replies = make([]int, len(parts))
	for attempt := range 2 {
		pipe := b.client.Pipeline()
		cmds := make([]*redis.Cmd, len(parts))
		for i, p := range parts {
			cmds[i] = s.EvalSha(ctx, pipe, []string{b.keys.partition[p]}, args...)
		}
		_, err = pipe.Exec(ctx)
		missing := false
		for i, c := range cmds {
			n, cerr := c.Int()
			replies[i] = n
			if cerr != nil {
				replies[i], err = -1, cerr
				missing = missing || fateOf(cerr) == noScript
			}
		}
		if !missing || attempt > 0 {
			break
		}
		if lerr := s.Load(ctx, b.client).Err(); lerr != nil {
			return replies, lerr
		}
	}
	return replies, err
}

// Members lists by when members came.
func (b *Bus) Members(ctx context.Context, room, cursor string, limit int) (bus.MemberPage, error) {
	if err := b.ready(room); err != nil {
		return bus.MemberPage{}, fmt.Errorf("listing members of room %q: %w", room, err)
	}
	// A cursor that is none of ours begins anew.
	after, _ := strconv.ParseUint(cursor, 10, 53)
	page, err := b.page(ctx, room, after, limit)
	if err != nil {
		return bus.MemberPage{}, fmt.Errorf("listing members of room %q: %w", room, err)
	}
	return page, nil
}

// pageMax bounds a page of members: the script must not hold up the server.
const pageMax = 1000

func (b *Bus) page(ctx context.Context, room string, after uint64, limit int) (page bus.MemberPage, err error) {
	var v []any
	err = b.again(ctx, room, func() error {
		v, err = b.scripts.members.Run(ctx, b.client, []string{b.keys.meta(room)}, after, min(max(limit, 0), pageMax)).Slice()
		return err
	})
	if err != nil || len(v) < 4 {
		return page, unavailable(fmt.Errorf("reading members: %w", err))
	}
	page = bus.MemberPage{Count: int(number(v[0])), Version: number(v[1]), Members: users(v[3])}
	if next := number(v[2]); next != 0 {
		page.Cursor = strconv.FormatUint(next, 10)
	}
	return page, nil
}
