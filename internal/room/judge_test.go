package room

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wsrelay/relay/internal/bus"
	"github.com/wsrelay/relay/internal/room/policy"
	"github.com/wsrelay/relay/internal/wire"
	"github.com/wsrelay/relay/plugins/filter"
)

func TestALaneKeepsItsOrder(t *testing.T) {
	const n = 500
	var (
		l       Lane
		mu      sync.Mutex
		open    []func(*Ruling) // asked and without a ruling
		asked   []int
		carried []int
		most    int
	)
	for i := range n {
		l.push(&job{
			judge: func(done func(*Ruling)) {
				mu.Lock()
				asked = append(asked, i)
				if i%7 == 0 { // some are judged on the spot
					mu.Unlock()
					done(&Ruling{})
					return
				}
				open = append(open, done)
				most = max(most, len(open))
				mu.Unlock()
			},
			carry: func(*Ruling) { carried = append(carried, i) },
		})
	}
	if err := l.Drained(canceled(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("drained with %d on their way: %v", n, err)
	}
	var judges sync.WaitGroup
	for range 8 {
		judges.Go(func() {
			for {
				mu.Lock()
				if len(open) == 0 {
					mu.Unlock()
					return
				}
				i := rand.IntN(len(open))
				done := open[i]
				open = slices.Delete(open, i, i+1)
				mu.Unlock()
				done(&Ruling{})
			}
		})
	}
	judges.Wait()
	for len(open) > 0 { // a judge that found nothing gave up early
		done := open[0]
		open = open[1:]
		done(&Ruling{})
	}
	if err := l.Drained(t.Context()); err != nil || !l.empty() {
		t.Fatal("not drained")
	}
	if len(carried) != n || !slices.IsSorted(carried) || !slices.IsSorted(asked) {
		t.Errorf("carried %d in order %v, asked in order %v", len(carried), slices.IsSorted(carried), slices.IsSorted(asked))
	}
	if most != maxAsked {
		t.Errorf("%d with the filters at once, want %d", most, maxAsked)
	}
}

func canceled(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

// bench is filters whose rulings a test decides.
type bench struct {
	events []filter.Event
	recent int
	asked  []*Query
	answer []func(*Ruling)
}

func (b *bench) Wants(e filter.Event) bool { return slices.Contains(b.events, e) }
func (b *bench) Recent() int               { return b.recent }
func (b *bench) Judge(q *Query, done func(*Ruling)) {
	b.asked, b.answer = append(b.asked, q), append(b.answer, done)
}

// courtroom is a room with filters, one seat, and a bus that takes everything.
type courtroom struct {
	*scripted
	g         *Registry
	seat      *Seat
	filters   *bench
	sink      *ear
	published []*bus.Message
	receipts  []bus.Receipt
}

func newCourtroom(t *testing.T, s policy.Settings, events ...filter.Event) *courtroom {
	t.Helper()
	c := &courtroom{scripted: &scripted{at: bus.Position{Epoch: "e"}}, filters: &bench{events: events}, sink: &ear{}}
	c.enter = func() (*bus.Entered, error) { return &bus.Entered{Position: bus.Position{Epoch: "e"}}, nil }
	c.publish = func(m *bus.Message, r bus.Receipt) error {
		c.published, c.receipts = append(c.published, m), append(c.receipts, r)
		return nil
	}
	c.g = registry(t, c.scripted, s)
	f := *c.g.force.Load()
	f.Filters = []Filters{c.filters}
	c.g.force.Store(&f)
	return c
}

func (c *courtroom) join(t *testing.T) {
	t.Helper()
	seat, err := c.g.Join(t.Context(), actor("a"), c.sink, "r", nil, func(*bus.Entered) *wire.Frame { return (&wire.Joined{}).Frame() })
	if err != nil {
		t.Fatal(err)
	}
	c.seat = seat
}

// say publishes, and notes what becomes of it among what is heard.
func (c *courtroom) say(t *testing.T, text string) {
	t.Helper()
	if e := c.seat.Publish(Chat{Message: []byte(text)}, func(at Accepted, e *wire.Error) {
		switch {
		case e != nil:
			c.sink.heard = append(c.sink.heard, fmt.Sprintf("%s %s %s %s", e.Code, text, e.ReasonCode, e.Reason))
		default:
			c.sink.heard = append(c.sink.heard, strings.TrimSpace(fmt.Sprintf("ack %s %d %s", text, at.Seq, at.Message)))
		}
	}); e != nil {
		t.Fatal(e)
	}
}

// store lets the bus store the i-th published message under seq.
func (c *courtroom) store(i int, seq uint64) {
	e := c.published[i].Event
	e.Position = bus.Position{Epoch: "e", Seq: seq}
	c.receipts[i].Published(bus.Result{Position: e.Position, ID: e.ID, Time: e.Time})
	c.g.Deliver(&e)
}

func (c *courtroom) heard() string { return strings.Join(c.sink.heard, ",") }

func TestVerdictsTakeEffect(t *testing.T) {
	c := newCourtroom(t, kept, filter.Chat)
	c.join(t)
	c.say(t, `"one"`)
	c.say(t, `"two"`)
	c.say(t, `"three"`)
	if len(c.published) != 0 || len(c.filters.asked) != 3 {
		t.Fatalf("%d published before any ruling, %d asked", len(c.published), len(c.filters.asked))
	}
	c.filters.answer[2](&Ruling{Action: filter.ActionModify, Body: []byte(`"3"`)})
	c.filters.answer[1](&Ruling{Action: filter.ActionReject, Code: "spam", Reason: "no"})
	if c.heard() != "joined" {
		t.Fatalf("out of turn: %s", c.heard())
	}
	if err := c.seat.Drained(canceled(t)); err == nil {
		t.Error("drained with messages at the filters")
	}
	c.filters.answer[0](&Ruling{})
	c.store(0, 1)
	c.store(1, 2)
	if want := `joined,rejected "two" spam no,ack "one" 1,ack "three" 2 "3"`; c.heard() != want {
		t.Errorf("heard %s, want %s", c.heard(), want)
	}
	if string(c.published[1].Event.Body) != `"3"` {
		t.Errorf("published %s", c.published[1].Event.Body)
	}
	if err := c.seat.Drained(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAnErrorOfAFilterIsNoRejection(t *testing.T) {
	c := newCourtroom(t, kept, filter.Chat)
	c.join(t)
	c.say(t, `1`)
	c.filters.answer[0](&Ruling{Action: filter.ActionReject, Unavailable: true})
	if want := "joined,filter_unavailable 1  "; c.heard() != want {
		t.Errorf("heard %q, want %q", c.heard(), want)
	}
}

// Dropped and shadowed messages are acked behind what was said before, under a
// number of the room, as if they were there.
func TestDropAndShadowLookLikeAnyOther(t *testing.T) {
	c := newCourtroom(t, kept, filter.Chat)
	c.join(t)
	for _, text := range []string{`1`, `2`, `3`} {
		c.say(t, text)
	}
	c.filters.answer[0](&Ruling{})
	c.filters.answer[1](&Ruling{Action: filter.ActionDrop})
	c.filters.answer[2](&Ruling{Action: filter.ActionShadow})
	if c.heard() != "joined" {
		t.Errorf("an ack out of turn: %s", c.heard())
	}
	c.store(0, 7)
	if want := "joined,ack 1 7,ack 2 7,ack 3 7"; c.heard() != want {
		t.Errorf("heard %s, want %s", c.heard(), want)
	}
	if len(c.published) != 2 || c.published[1].Event.Kind != bus.Shadow || c.published[1].Retention.Kept() {
		t.Fatalf("published %d", len(c.published))
	}
	// The shadow is seen on the sender's other sockets alone.
	other, stranger := &ear{}, &ear{}
	for _, j := range []struct {
		a    *Actor
		sink *ear
	}{{&Actor{Identity: actor("a").Identity, User: actor("a").User, Conn: "c-a2"}, other}, {actor("b"), stranger}} {
		if _, err := c.g.Join(t.Context(), j.a, j.sink, "r", nil, func(*bus.Entered) *wire.Frame { return (&wire.Joined{}).Frame() }); err != nil {
			t.Fatal(err)
		}
	}
	c.g.Deliver(&c.published[1].Event)
	if got := strings.Join(other.heard, ","); got != "joined,chat" {
		t.Errorf("the other socket heard %s", got)
	}
	if got := strings.Join(stranger.heard, ","); got != "joined" {
		t.Errorf("a stranger heard %s", got)
	}
	if want := "joined,ack 1 7,ack 2 7,ack 3 7"; c.heard() != want {
		t.Errorf("the socket itself heard %s", c.heard())
	}
}

// A message that no filter wants to see goes behind those that one does.
func TestNoMessageOvertakes(t *testing.T) {
	c := newCourtroom(t, kept, filter.Chat)
	c.join(t)
	c.say(t, `1`)
	c.filters.events = nil // a reload
	c.say(t, `2`)
	if len(c.published) != 0 {
		t.Fatal("overtaken")
	}
	c.filters.answer[0](&Ruling{})
	if len(c.published) != 2 || len(c.filters.asked) != 1 {
		t.Errorf("%d published, %d asked", len(c.published), len(c.filters.asked))
	}
}

func TestSanctionsOfAVerdict(t *testing.T) {
	c := newCourtroom(t, kept, filter.Chat)
	issued := make(chan *bus.Sanction, 4)
	c.sanction = func(s *bus.Sanction) { issued <- s }
	c.join(t)
	c.say(t, `1`)
	c.filters.answer[0](&Ruling{Action: filter.ActionReject, Sanctions: []FilterSanction{
		{"words", filter.Sanction{Kind: filter.Mute, For: time.Minute, Reason: "calm down"}},
		{"words", filter.Sanction{Kind: filter.Ban, Everywhere: true}},
	}})
	if err := c.g.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := map[bus.SanctionKind]*bus.Sanction{}
	for range 2 {
		s := <-issued
		got[s.Kind] = s
	}
	if m := got[bus.Mute]; m == nil || m.Room != "r" || m.Member != "a" || m.By != "filter:words" || m.Reason != "calm down" || time.Until(time.UnixMilli(m.Until)) > time.Minute || m.Until == 0 {
		t.Errorf("mute %+v", m)
	}
	if b := got[bus.Ban]; b == nil || b.Room != "" || b.Until != 0 {
		t.Errorf("ban %+v", b)
	}
}

// What was not done is not in the audit.
func TestTheAuditTellsWhatIsDone(t *testing.T) {
	for _, away := range []error{nil, bus.ErrUnavailable} {
		c := newCourtroom(t, kept, filter.Chat)
		c.sanction, c.away = func(*bus.Sanction) {}, away
		c.join(t)
		c.say(t, `1`)
		c.filters.answer[0](&Ruling{Sanctions: []FilterSanction{{"words", filter.Sanction{Kind: filter.Mute}}}})
		if err := c.g.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		var lines, lost int64
		c.g.Stats().Audits(func(_ string, n int64) { lines += n })
		lost = c.g.Stats().AsideDropped.Load()
		if done := away == nil; done != (lines == 1) || done != (lost == 0) {
			t.Errorf("%v: %d lines, %d lost", away, lines, lost)
		}
	}
}

func TestASanctionIsInForce(t *testing.T) {
	c := newCourtroom(t, kept)
	c.join(t)
	mute := &bus.Sanction{Kind: bus.Mute, Member: "a", Room: "r", Reason: "calm down"}
	c.inForce = []*bus.Sanction{mute}
	if e := c.seat.Publish(Chat{Message: []byte(`1`)}, nil); e == nil || e.Code != wire.Muted || e.Reason != "calm down" {
		t.Errorf("published: %v", e)
	}
	if e := c.seat.Signal([]byte(`1`)); e == nil || e.Code != wire.Muted {
		t.Errorf("signalled: %v", e)
	}
	c.inForce = []*bus.Sanction{{Kind: bus.Ban, Member: "b", Room: "r"}}
	_, e := c.g.Join(t.Context(), actor("b"), &ear{}, "r", nil, nil)
	if e == nil || e.Code != wire.Banned {
		t.Errorf("joined: %v", e)
	}
	c.inForce = nil
	c.g.Sanctioned(mute)
	c.g.Sanctioned(&bus.Sanction{Kind: bus.Kick, Member: "somebody", Room: "r"})
	c.g.Sanctioned(&bus.Sanction{Kind: bus.Kick, Member: "a", Room: "elsewhere"})
	if c.heard() != "joined,sanction" {
		t.Errorf("heard %s", c.heard())
	}
	c.g.Sanctioned(&bus.Sanction{Kind: bus.Ban, Member: "a", Room: "r"})
	if err := c.g.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c.heard() != "joined,sanction,sanction,evicted" || len(c.left) != 1 || c.left[0].Reason != ReasonBanned || c.left[0].Grace != 0 {
		t.Errorf("heard %s, left %+v", c.heard(), c.left)
	}
}

func TestALateRulingTakesTheMessageBack(t *testing.T) {
	for _, order := range []string{"stored first", "ruled first"} {
		t.Run(order, func(t *testing.T) {
			c := newCourtroom(t, kept, filter.Chat)
			done := make(chan *bus.Redaction, 1)
			c.redact = func(r *bus.Redaction) { done <- r }
			c.join(t)
			c.say(t, `1`)
			c.filters.answer[0](&Ruling{})
			late := func() {
				c.filters.asked[0].Late(&Ruling{Action: filter.ActionReject, Filter: "review", Reason: "rude"})
			}
			if order == "stored first" {
				c.store(0, 3)
				late()
			} else {
				late()
				c.store(0, 3)
			}
			r := <-done
			if r.Seq != 3 || r.Target != c.published[0].Event.ID || r.Reason != "rude" || r.By.Member != "filter:review" {
				t.Errorf("%+v", r)
			}
			if err := c.g.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestFiltersJudgeJoins(t *testing.T) {
	c := newCourtroom(t, kept, filter.Join)
	answer := make(chan *wire.Error)
	asked := make(chan struct{})
	c.enter = func() (*bus.Entered, error) { t.Error("entered"); return nil, bus.ErrUnavailable }
	c.g.force.Store(&Rules{Policies: c.g.force.Load().Policies, Filters: []Filters{onAsk{c.filters, func() { close(asked) }}}})
	go func() {
		_, e := c.g.Join(t.Context(), actor("a"), c.sink, "r", nil, nil)
		answer <- e
	}()
	<-asked
	if q := c.filters.asked[0]; q.Event != filter.Join || q.Room != "r" || q.Actor.Identity.ID != "a" {
		t.Errorf("asked about %+v", q)
	}
	c.filters.answer[0](&Ruling{Action: filter.ActionReject, Code: "full_moon", Reason: "not tonight"})
	if e := <-answer; e == nil || e.Code != wire.Rejected || e.ReasonCode != "full_moon" {
		t.Errorf("%v", e)
	}
}

// onAsk tells when a filter is asked.
type onAsk struct {
	*bench
	tell func()
}

func (o onAsk) Judge(q *Query, done func(*Ruling)) {
	o.bench.Judge(q, done)
	o.tell()
}

func TestSignalsAreJudgedBehindMessages(t *testing.T) {
	c := newCourtroom(t, kept, filter.Chat, filter.Signal)
	var sent []string
	c.signal = func(e *bus.Event) { sent = append(sent, string(e.Body)) }
	c.watch(t, 1, "members")
	c.join(t)
	c.say(t, `1`)
	for _, data := range []string{`"a"`, `"b"`} {
		if e := c.seat.Signal([]byte(data)); e != nil {
			t.Fatal(e)
		}
	}
	if q := c.filters.asked; !q[0].Sampled || q[1].Sampled {
		t.Errorf("sampled: the message %v, the signal %v", q[0].Sampled, q[1].Sampled)
	}
	c.filters.answer[1](&Ruling{})
	c.filters.answer[2](&Ruling{Action: filter.ActionReject})
	if len(sent) != 0 {
		t.Error("a signal overtook a message")
	}
	c.filters.answer[0](&Ruling{})
	if strings.Join(sent, ",") != `"a"` {
		t.Errorf("sent %v", sent)
	}
	c.store(0, 1)
	if err := c.seat.Drained(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestFiltersSeeWhatWasSaidBefore(t *testing.T) {
	c := newCourtroom(t, kept, filter.Chat)
	c.filters.recent = 2
	c.history = []*bus.Event{chat("e", 1), chat("e", 2)}
	c.join(t)
	for seq := uint64(3); seq < 6; seq++ {
		c.g.Deliver(chat("e", seq))
	}
	c.say(t, `1`)
	var seqs []uint64
	for _, e := range c.filters.asked[0].Recent {
		seqs = append(seqs, e.Seq)
	}
	if !slices.Equal(seqs, []uint64{4, 5}) {
		t.Errorf("recent %v", seqs)
	}
}
