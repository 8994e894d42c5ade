package redisbus_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wsrelay/relay/internal/bus"
	"github.com/wsrelay/relay/internal/bus/redisbus"
	"github.com/wsrelay/relay/internal/bus/redisbus/redistest"
)

var (
	chaosFor  = flag.Duration("chaos.for", 4*time.Second, "how long TestChaos spoils things")
	chaosSeed = flag.Uint64("chaos.seed", 1, "seed of TestChaos; 0: a new one each run")
)

// TestChaos has three instances publish to rooms with history while whatever is
// between them and Redis fails at random. In the end every instance must have
// been given one stream without hole or repeat, in which every message stands
// that was said to be stored, where it was said to be, and none that was said
// not to be; and the members must be those that are there.
func TestChaos(t *testing.T) {
	t.Parallel()
	seed := *chaosSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("repeat with -chaos.seed=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	server := redistest.Start(t)
	const instances, rooms = 3, 5
	var nodes []*instance
	var ways []*redistest.Proxy
	for i := range instances {
		way := redistest.NewProxy(t, server.Addr())
		ways = append(ways, way)
		nodes = append(nodes, start(t, redisbus.Options{URL: way.URL(), Instance: fmt.Sprint("instance-", i)}))
	}
	for _, n := range nodes {
		for r := range rooms {
			n.subscribe(fmt.Sprint("room-", r), true)
			enter(t, n, fmt.Sprint("room-", r), "everywhere")
		}
	}
	var stops [instances][rooms]func() []fate
	for i, n := range nodes {
		for r := range rooms {
			stops[i][r] = flowAs(t, n, fmt.Sprint("room-", r), fmt.Sprint(i, "-"), keep)
		}
	}
	sentences := sentence(t, nodes)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	pause := func(d time.Duration) {
		for range d / (50 * time.Millisecond) {
			<-tick.C
		}
	}
	for until := time.Now().Add(*chaosFor); time.Now().Before(until); pause(time.Duration(rng.IntN(300)) * time.Millisecond) {
		way := ways[rng.IntN(instances)]
		long := time.Duration(100+rng.IntN(1500)) * time.Millisecond
		switch rng.IntN(8) {
		case 0, 1:
			way.Cut()
		case 2:
			way.Blackhole()
			pause(long)
			way.Heal()
		case 3:
			way.HoldReplies()
			pause(long)
			way.Heal()
		case 4:
			way.DropReplies()
			pause(long)
			way.Heal()
		case 5:
			server.Do("CLIENT", "KILL", "TYPE", "pubsub")
		case 6:
			server.Do("SCRIPT", "FLUSH")
		case 7:
			server.Freeze()
			pause(long / 2)
			server.Thaw()
		}
	}
	var sent [rooms][]fate
	for i := range nodes {
		for r := range rooms {
			sent[r] = append(sent[r], stops[i][r]()...)
		}
	}
	wanted := sentences()
	for _, n := range nodes {
		eventually(t, "health", n.Health)
	}
	agree(t, nodes, wanted)
	for r := range rooms {
		room := fmt.Sprint("room-", r)
		f := newFates()
		var lasts []fate
		eventually(t, "a message to be stored", func() error {
			f.send(nodes[0], room, fmt.Sprint("last ", len(lasts)), keep)
			lasts = f.wait(t, len(lasts)+1)
			return lasts[len(lasts)-1].Err
		})
		for i, n := range nodes {
			eventually(t, "the last message", func() error { return n.has(room, lasts[len(lasts)-1].body) })
			if problem := judge(n.room(room), append(sent[r], lasts...)); problem != "" {
				t.Errorf("instance %d, %s: %s", i, room, problem)
			}
		}
		eventually(t, "the members to be listed", func() error {
			page, err := nodes[0].Members(t.Context(), room, "", 10)
			if err == nil && page.Count != 1 {
				t.Errorf("%s: members are %+v", room, page)
			}
			return err
		})
	}
	s := nodes[0].Stats()
	t.Logf("instance 0: published %d, resent %d, unknown %d, refused %d, healed %d, repeated %d, reconnects %d, dropped %d",
		s.Published.Load(), s.Resent.Load(), s.Unknown.Load(), s.Refused.Load(), s.Healed.Load(), s.Repeated.Load(), s.Reconnects.Load(), s.Dropped.Load())
}

// sentence has all instances put sanctions in force, and lift every other, until
// the returned function is called, which tells which are: true in force, false
// not; those that nobody can know are left out.
func sentence(t *testing.T, nodes []*instance) func() map[string]bool {
	end := make(chan struct{})
	known := make(map[string]bool)
	var mu sync.Mutex
	var all sync.WaitGroup
	for i, n := range nodes {
		all.Go(func() {
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for k := 0; ; k++ {
				select {
				case <-end:
					return
				case <-tick.C:
				}
				id := fmt.Sprint("sanction-", i, "-", k)
				_, err := n.Sanction(t.Context(), &bus.Sanction{ID: id, Kind: bus.Ban, Member: id})
				in := err == nil
				if in && k%2 == 0 {
					_, err = n.Lift(t.Context(), id)
					in = false
				}
				mu.Lock()
				switch {
				case err == nil:
					known[id] = in
				case !errors.Is(err, bus.ErrUnavailable) && !errors.Is(err, bus.ErrUnknownOutcome):
					t.Errorf("instance %d: %v", i, err)
				}
				mu.Unlock()
			}
		})
	}
	return func() map[string]bool {
		close(end)
		all.Wait()
		return known
	}
}

// agree waits until every instance holds the same sanctions, those among them
// that are known to be in force, and was told of each in turns. All of it at once:
// one of unknown outcome may come into force after an instance has given it up.
func agree(t *testing.T, nodes []*instance, known map[string]bool) {
	t.Helper()
	if len(known) < 50 {
		t.Errorf("only %d sanctions are known of", len(known))
	}
	list := func(n *instance) (ids []string) {
		page, err := n.Sanctions(t.Context(), "", 1_000_000)
		if err != nil {
			t.Error(err)
		}
		for _, s := range page.Sanctions {
			ids = append(ids, s.ID)
		}
		return ids
	}
	eventually(t, "the instances to agree", func() error {
		first := list(nodes[0])
		for i, n := range nodes {
			ids := list(n)
			if !slices.Equal(ids, first) {
				return fmt.Errorf("instance %d holds %d sanctions, another %d", i, len(ids), len(first))
			}
			if err := n.wasTold(t, ids); err != nil {
				return fmt.Errorf("instance %d %w", i, err)
			}
		}
		for id, in := range known {
			if got := len(nodes[0].InForce(id, "", "")) == 1; got != in {
				return fmt.Errorf("%s: in force %v, want %v", id, got, in)
			}
		}
		return nil
	})
}

// wasTold compares what an instance was told with what is in force.
func (n *instance) wasTold(t *testing.T, inForce []string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for id, told := range n.judged {
		if told != strings.Repeat("+-", len(told)/2)+"+"[:len(told)%2] {
			t.Fatalf("an instance was told %q of %s", told, id)
		}
		if in := slices.Contains(inForce, id); in != (len(told)%2 == 1) {
			return fmt.Errorf("was told %q of %s, which is in force: %v", told, id, in)
		}
	}
	return nil
}

func (n *instance) has(room, body string) error {
	for _, e := range n.room(room) {
		if string(e.Body) == body {
			return nil
		}
	}
	return errors.New("not delivered")
}

// judge compares what one instance was given with what became of all that was
// sent, and says what is wrong, if anything.
func judge(events []*bus.Event, sent []fate) string {
	at := make(map[string]uint64)
	last := make(map[string]int) // by sender
	var seq uint64
	for _, e := range events {
		switch e.Kind {
		case bus.Chat:
		case bus.Notice:
			return fmt.Sprintf("told of a loss (%d) from %d to %d", e.Notice, e.From, e.To)
		case bus.Left:
			return "a member was told to have left"
		default:
			continue
		}
		if e.Seq != seq+1 {
			return fmt.Sprintf("seq %d after %d", e.Seq, seq)
		}
		seq = e.Seq
		body := string(e.Body)
		if at[body] != 0 {
			return fmt.Sprintf("%s at %d and at %d", body, at[body], e.Seq)
		}
		at[body] = e.Seq
		if sender, number, numbered := strings.Cut(body, "-"); numbered {
			var n int
			if _, err := fmt.Sscan(number, &n); err != nil || n <= last[sender] {
				return fmt.Sprintf("%s after %s-%d", body, sender, last[sender])
			}
			last[sender] = n
		}
	}
	for _, f := range sent {
		switch {
		case f.Err == nil && at[f.body] != f.Seq:
			return fmt.Sprintf("%s was said to be at %d, is at %d", f.body, f.Seq, at[f.body])
		case errors.Is(f.Err, bus.ErrUnavailable) && at[f.body] != 0:
			return fmt.Sprintf("%s was said not to have happened (%v), is at %d", f.body, f.Err, at[f.body])
		case f.Err != nil && !errors.Is(f.Err, bus.ErrUnavailable) && !errors.Is(f.Err, bus.ErrUnknownOutcome):
			return fmt.Sprintf("%s: %v", f.body, f.Err)
		}
	}
	return ""
}

// TestTheJudgeSees plants one mistake of each kind.
func TestTheJudgeSees(t *testing.T) {
	chat := func(seq uint64, body string) *bus.Event {
		return &bus.Event{Kind: bus.Chat, Position: bus.Position{Epoch: "e", Seq: seq}, Body: []byte(body)}
	}
	stored := func(seq uint64, body string) fate {
		return fate{body, bus.Result{Position: bus.Position{Epoch: "e", Seq: seq}}}
	}
	failed := func(body string, err error) fate { return fate{body, bus.Result{Err: err}} }
	for name, c := range map[string]struct {
		events []*bus.Event
		sent   []fate
		want   string
	}{
		"nothing wrong": {[]*bus.Event{chat(1, "0-1"), chat(2, "0-3")}, []fate{stored(1, "0-1"), failed("0-2", bus.ErrUnavailable), failed("0-3", bus.ErrUnknownOutcome)}, ""},
		"hole":          {[]*bus.Event{chat(1, "0-1"), chat(3, "0-2")}, nil, "seq 3 after 1"},
		"repeat":        {[]*bus.Event{chat(1, "0-1"), chat(2, "0-1")}, nil, "0-1 at 1 and at 2"},
		"swap":          {[]*bus.Event{chat(1, "0-2"), chat(2, "0-1")}, nil, "0-1 after 0-2"},
		"loss":          {[]*bus.Event{chat(1, "0-1")}, []fate{stored(1, "0-1"), stored(2, "0-2")}, "0-2 was said to be at 2, is at 0"},
		"phantom":       {[]*bus.Event{chat(1, "0-1")}, []fate{failed("0-1", bus.ErrUnavailable)}, "said not to have happened"},
		"other place":   {[]*bus.Event{chat(1, "0-1"), chat(2, "1-1")}, []fate{stored(1, "1-1")}, "1-1 was said to be at 1"},
	} {
		if got := judge(c.events, c.sent); (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
