package app_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	client "github.com/wsrelay/relay/client/go"
)

// unavailable is the one error that a message may get while its filter is away.
const unavailable = "filter_unavailable"

// crowd is members of rooms who say numbered things without waiting for replies,
// and keep what became of each and what they heard: half of each room on one
// instance, half on another.
type crowd struct {
	t       *testing.T
	judged  bool // by obey, which turns what they say to upper case
	talkers []*talker
	began   time.Time
	news    chan struct{} // one token when anything came

	mu      sync.Mutex
	marked  time.Time          // see mark; guarded by mu
	verdict chan time.Duration // guarded by mu; has room for one
}

// talker is one member.
type talker struct {
	*client.Conn
	crowd      *crowd
	name, room string
	near       bool // on the first instance

	mu    sync.Mutex
	said  []fate               // number n is at n-1; guarded by mu, like all below
	open  int                  // of said, those without an answer
	acks  int                  // of said, those that went out
	heard map[string][]message // by who said it, in the order in which it came
	wrong []string             // what must not be, the first few
}

// fate is what became of something said.
type fate struct {
	sent     time.Time
	took     time.Duration // until the answer
	answered bool
	seq      uint64 // where it was acked
	code     string // where it was refused
}

// message is something said, as others hear it.
type message struct {
	n   int
	seq uint64
}

func newCrowd(t *testing.T, judged bool, one, two *instance, rooms []string, each int) *crowd {
	t.Helper()
	c := &crowd{t: t, judged: judged, news: make(chan struct{}, 1), verdict: make(chan time.Duration, 1)}
	for n := range each {
		for i, room := range rooms {
			k := &talker{crowd: c, name: fmt.Sprintf("%s-%d", room, n), room: room, near: (n+i)%2 == 0, heard: map[string][]message{}}
			url := one.url()
			if !k.near {
				url = two.url()
			}
			conn, err := client.Dial(t.Context(), url, client.Options{Handler: k.hear})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(conn.Abort)
			if _, err := conn.Join(t.Context(), room, user(k.name), nil); err != nil {
				t.Fatal(err)
			}
			k.Conn = conn
			c.talkers = append(c.talkers, k)
		}
	}
	return c
}

// talk has one after the other say burst things at once, until stop is called.
func (c *crowd) talk(every time.Duration, burst int) (stop func()) {
	c.began = time.Now()
	ctx, cancel := context.WithCancel(c.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-tick.C:
				for range burst {
					c.talkers[i%len(c.talkers)].say()
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	stop = func() { cancel(); <-done }
	c.t.Cleanup(stop)
	return stop
}

func (k *talker) say() {
	k.mu.Lock()
	k.said = append(k.said, fate{sent: time.Now()})
	k.open++
	n := len(k.said)
	k.mu.Unlock()
	s := fmt.Sprint(k.name, " ", n)
	if k.crowd.judged {
		s = "!modify " + s
	}
	if err := k.Send(&client.Request{Type: "chat", ID: fmt.Sprint("m", n), RoomID: k.room, Message: text(s)}); err != nil {
		k.blame("saying %d: %v", n, err)
	}
}

func (k *talker) blame(format string, args ...any) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.wrong) < 10 {
		k.wrong = append(k.wrong, fmt.Sprintf(format, args...))
	}
}

// hear is the handler of the connection.
func (k *talker) hear(e *client.Event) {
	switch e.Type {
	case "chat":
		k.listen(e)
	case "ack", "error":
		if id, ok := strings.CutPrefix(e.ID, "m"); ok {
			k.answer(id, e)
		}
	case "notice", "closing", "sanction", "redacted":
		k.blame("%s", e.Raw)
	}
	select {
	case k.crowd.news <- struct{}{}:
	default:
	}
}

// judged reports whether a text is what was said after obey has seen it.
func judged(s string) bool { return s != "" && s[0] != '!' && s == strings.ToUpper(s) }

func (k *talker) listen(e *client.Event) {
	s := e.Text()
	if k.crowd.judged && !judged(s) {
		k.blame("heard what nobody judged: %s", e.Raw)
	}
	name, number, _ := strings.Cut(strings.ToLower(s), " ")
	n, err := strconv.Atoi(number)
	if err != nil || e.User == nil || !strings.HasSuffix(e.User.ID, name) {
		k.blame("heard %s", e.Raw)
		return
	}
	k.mu.Lock()
	k.heard[name] = append(k.heard[name], message{n, e.Seq})
	k.mu.Unlock()
}

func (k *talker) answer(id string, e *client.Event) {
	n, err := strconv.Atoi(id)
	k.mu.Lock()
	if err != nil || n < 1 || n > len(k.said) || k.said[n-1].answered {
		k.mu.Unlock()
		k.blame("an answer too many: %s", e.Raw)
		return
	}
	f := &k.said[n-1]
	f.answered, f.took, f.seq, f.code = true, time.Since(f.sent), e.Seq, e.Code
	sent := f.sent
	k.open--
	if e.Type == "ack" {
		k.acks++
	}
	k.mu.Unlock()
	switch {
	case e.Type == "error":
		if !k.crowd.judged || e.Code != unavailable {
			k.blame("%s", e.Raw)
		}
		return
	case k.crowd.judged && !judged(e.Text()):
		k.blame("acked what nobody judged: %s", e.Raw)
	}
	if k.near {
		k.crowd.passed(sent)
	}
}

// mark calls f, and returns a channel that tells how long after it the first
// verdict came on something that was said to the first instance later than that.
func (c *crowd) mark(f func()) <-chan time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.marked = time.Time{} // f may end the test
	f()
	c.marked = time.Now()
	return c.verdict
}

func (c *crowd) passed(sent time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.marked.IsZero() && sent.After(c.marked) {
		c.verdict <- time.Since(c.marked)
		c.marked = time.Time{}
	}
}

// await waits until done, looking whenever anything came.
func (c *crowd) await(what string, done func() bool) {
	c.t.Helper()
	limit := time.After(time.Minute)
	for !done() {
		select {
		case <-c.news:
		case <-limit:
			c.t.Fatalf("waited a minute for %s", what)
		}
	}
}

// spoken is how many messages went to the first instance.
func (c *crowd) spoken() (n int) {
	for _, k := range c.talkers {
		if k.near {
			k.mu.Lock()
			n += len(k.said)
			k.mu.Unlock()
		}
	}
	return n
}

// answered is how many messages to the first instance were acked.
func (c *crowd) answered() (n int) {
	for _, k := range c.talkers {
		if k.near {
			k.mu.Lock()
			n += k.acks
			k.mu.Unlock()
		}
	}
	return n
}

// acked are those of said that went out. mu is held.
func (k *talker) acked() (list []message) {
	for i, f := range k.said {
		if f.answered && f.code == "" {
			list = append(list, message{i + 1, f.seq})
		}
	}
	return list
}

// settle waits until everything is answered, and everybody has heard something
// that everybody said after that.
func (c *crowd) settle() {
	c.t.Helper()
	answered := func() bool {
		return !slices.ContainsFunc(c.talkers, func(k *talker) bool {
			k.mu.Lock()
			defer k.mu.Unlock()
			return k.open > 0
		})
	}
	c.await("an answer to everything", answered)
	last := map[string]int{}
	for _, k := range c.talkers {
		for limit := time.Now().Add(time.Minute); last[k.name] == 0; {
			k.say()
			c.await("an answer to the last message", answered)
			k.mu.Lock()
			if n := len(k.said); k.said[n-1].code == "" {
				last[k.name] = n
			}
			k.mu.Unlock()
			if time.Now().After(limit) {
				c.t.Fatal("no verdict any more")
			}
		}
	}
	c.await("everybody to hear the last messages", func() bool {
		for _, k := range c.talkers {
			for _, other := range c.talkers {
				if other == k || other.room != k.room {
					continue
				}
				k.mu.Lock()
				h := k.heard[other.name]
				k.mu.Unlock()
				if len(h) == 0 || h[len(h)-1].n < last[other.name] {
					return false
				}
			}
		}
		return true
	})
}

// check looks at everything said and heard, after settle: what was acked was
// heard by everybody else once and in its order, and nothing else was.
func (c *crowd) check() {
	c.t.Helper()
	for _, k := range c.talkers {
		if err := k.Err(); err != nil {
			c.t.Errorf("%s lost its socket: %v", k.name, err)
		}
		k.mu.Lock()
		acked, wrong := k.acked(), k.wrong
		k.mu.Unlock()
		for _, w := range wrong {
			c.t.Errorf("%s: %s", k.name, w)
		}
		if !slices.IsSortedFunc(acked, func(a, b message) int { return int(a.seq) - int(b.seq) }) {
			c.t.Errorf("%s: what it said has another order in its room: %v", k.name, acked)
		}
		for _, other := range c.talkers {
			if other == k || other.room != k.room {
				continue
			}
			other.mu.Lock()
			heard := other.heard[k.name]
			other.mu.Unlock()
			if !slices.Equal(heard, acked) {
				c.t.Errorf("%s heard %d messages of %s, of which %d were acked; they differ from %v on", other.name, len(heard), k.name, len(acked), differ(heard, acked))
			}
		}
	}
	c.stored()
}

// stored looks at what the rooms kept.
func (c *crowd) stored() {
	c.t.Helper()
	seen := map[string]bool{}
	for _, k := range c.talkers {
		if seen[k.room] || !c.judged {
			continue
		}
		seen[k.room] = true
		h, err := k.Do(c.t.Context(), &client.Request{Type: "history", RoomID: k.room})
		if err != nil {
			c.t.Error(err)
			continue
		}
		if len(h.Messages) == 0 {
			c.t.Errorf("%s kept nothing", k.room)
		}
		for _, m := range h.Messages {
			if !judged(m.Text()) {
				c.t.Errorf("%s kept what nobody judged: %q", k.room, m.Text())
			}
		}
	}
}

// differ is where two lists part.
func differ(a, b []message) (at []message) {
	for i := range max(len(a), len(b)) {
		if i >= len(a) || i >= len(b) || a[i] != b[i] {
			return append(slices.Clone(a[min(i, len(a)):min(i+1, len(a))]), b[min(i, len(b)):min(i+1, len(b))]...)
		}
	}
	return nil
}

// tally counts what was said and what of it was refused.
func (c *crowd) tally() (said, refused int) {
	for _, k := range c.talkers {
		k.mu.Lock()
		said += len(k.said)
		refused += len(k.said) - k.acks
		k.mu.Unlock()
	}
	return said, refused
}

// latencies are the times to the answers, of what was said before and after a
// moment, sorted.
func (c *crowd) latencies(at time.Time) (before, after []time.Duration) {
	for _, k := range c.talkers {
		k.mu.Lock()
		for _, f := range k.said {
			if f.sent.Before(at) {
				before = append(before, f.took)
			} else {
				after = append(after, f.took)
			}
		}
		k.mu.Unlock()
	}
	slices.Sort(before)
	slices.Sort(after)
	return before, after
}
