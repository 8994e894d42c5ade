package socket

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/wsrelay/relay/internal/wire"
)

// still is a line on which nothing ever moves.
type still struct{ ups int }

func (*still) begin()       {}
func (s *still) wake()      { s.ups++ }
func (*still) write([]byte) {}
func (*still) behind() bool { return false }
func (*still) proceed()     {}
func (*still) hangUp()      {}

// stuck is a connection whose client takes nothing.
func stuck(opt Options) *conn {
	c, g := &conn{}, newGroup()
	opt = opt.withDefaults()
	c.setUp(g.shards[0], &opt, &still{})
	return c
}

// drain takes what a writer would write, in pieces of at most n bytes.
func drain(c *conn, n int) (pieces []string) {
	buf := make([]byte, 0, n)
	for {
		b := c.outgoing(buf)
		if b == nil {
			return pieces
		}
		pieces = append(pieces, string(b))
		c.sent(len(b))
	}
}

func TestTheReasonOfACloseIsUTF8(t *testing.T) {
	if f := closeFrame(wire.CloseForbidden, "a\xff"); !utf8.Valid(f[4:]) {
		t.Errorf("%q", f[4:])
	}
}

func TestAPongUnreadDuringAPauseIsNotMissed(t *testing.T) {
	c := stuck(Options{PingEvery: 25e9, PongTimeout: 10e9})
	c.pingedAt, c.pauses = 1e9, 1
	c.heard.Store(5e8)
	c.group.clock.Store(12e9)
	c.Resume()
	c.check(12e9)
	if c.closing {
		t.Errorf("closed right at the end of a pause: %+v", c.cause)
	}
}

func TestAFloodOfPingsWaitsAsOnePong(t *testing.T) {
	c := stuck(Options{})
	for i := range 10_000 {
		c.pinged(fmt.Sprint(i))
	}
	if got := fmt.Sprint(drain(c, 1<<10)); got != "[\x8a\x049999]" {
		t.Errorf("%q", got)
	}
	if c.ctl != nil {
		t.Error("a quiet connection keeps a place for control frames")
	}
}

func TestPongAndPingGoBeforeFramesAndCloseAfter(t *testing.T) {
	c := stuck(Options{PingEvery: 1e9, PongTimeout: 1e9})
	c.Send(text("1"))
	c.Send(text("2"))
	c.pinged("x")
	c.check(3e9)
	c.Close(wire.CloseNormal, "")
	want := "\x8a\x01x\x89\x00" + string(text("1").Bytes()) + string(text("2").Bytes())
	if got := drain(c, 1<<10); len(got) != 2 || got[0] != want || got[1] != "\x88\x02\x03\xe8" {
		t.Errorf("%q", got)
	}
	if !c.closeSent || c.writing {
		t.Errorf("close sent %v, writing %v", c.closeSent, c.writing)
	}
}

// Nothing may come between the bytes of a frame, however little goes out at once.
func TestAControlFrameWaitsForTheFrameThatWasBegun(t *testing.T) {
	for step := 1; step < 40; step++ {
		c := stuck(Options{})
		var out strings.Builder
		want := ""
		for i := range 4 {
			f := text(strings.Repeat("x", 10*i))
			c.Send(f)
			want += string(f.Bytes())
		}
		for n := 0; ; n++ {
			b := c.outgoing(make([]byte, 0, 64))
			if b == nil {
				break
			}
			b = b[:min(len(b), step)]
			out.Write(b)
			c.sent(len(b))
			if n == 1 {
				c.pinged("p")
			}
		}
		pong := "\x8a\x01p"
		i := strings.Index(out.String(), pong)
		if i < 0 || out.String()[:i]+out.String()[i+len(pong):] != want {
			t.Fatalf("%d bytes at a time: %q", step, out.String())
		}
		if n := c.group.stats.QueuedBytes.Load(); n != 0 || c.queue.cost != 0 || c.queue.frames != nil {
			t.Fatalf("%d bytes at a time: %d are left, cost %d", step, n, c.queue.cost)
		}
	}
}

func TestThePongTimeoutCountsFromWhenThePingWasWritten(t *testing.T) {
	c := stuck(Options{PingEvery: 25e9, PongTimeout: 10e9, WriteStall: 1e12})
	at := func(now int64) {
		c.group.clock.Store(now)
		c.check(now)
	}
	at(30e9) // wants to ping, but nothing moves
	at(90e9)
	if c.closing {
		t.Fatal("closed for want of an answer to a ping that was never written")
	}
	drain(c, 1<<10)
	at(99e9)
	if c.closing {
		t.Fatal("closed before its time")
	}
	at(101e9)
	if !c.closing || c.cause.Code != wire.CloseTimeout {
		t.Errorf("%+v", c.cause)
	}
}

func TestWhoIsNotWrittenToIsPingedThoughItTalks(t *testing.T) {
	c := stuck(Options{PingEvery: 25e9, PongTimeout: 10e9})
	for now := int64(1e9); now <= 26e9; now += 1e9 {
		c.heard.Store(now)
		c.group.clock.Store(now)
		c.check(now)
	}
	if got := drain(c, 1<<10); len(got) != 1 {
		t.Errorf("%q", got)
	}
}

func TestSmallFramesCountForTheirPlace(t *testing.T) {
	c := stuck(Options{MaxQueue: 1 << 20})
	for range 1 << 20 {
		c.Send(text(""))
	}
	if c.cause == nil || c.cause.Code != wire.CloseSlow {
		t.Error("a million frames were queued for a client that reads none")
	}
	d := stuck(Options{MaxQueue: 1 << 20})
	n := 0
	for ; d.cause == nil; n++ {
		d.Send(text(""))
	}
	if n != 1<<20/minCost+1 {
		t.Errorf("closed at the %d. frame", n)
	}
}

// Of what a slow client loses, messages are counted as such, whatever room they
// are of.
func TestChatsThatAreCutAreCounted(t *testing.T) {
	c := stuck(Options{MaxQueue: 4 * minCost})
	for _, f := range []*wire.Frame{chat(0, 1), text("a reply"), chat(7, 1), signal("a", "1"), chat(8, 1)} { // the last is one too many
		c.Send(f)
	}
	c.Send(chat(9, 1)) // after the end: nobody is there to miss it
	if st := &c.group.stats; st.SlowCut.Load() != 1 || st.CutChats.Load() != 3 {
		t.Errorf("%d connections were cut and %d chats with them, want 1 and 3", st.SlowCut.Load(), st.CutChats.Load())
	}
}

// What a writer has taken is little: the rest can still be shed.
func TestAWriterHoldsLittleOfTheQueue(t *testing.T) {
	c := stuck(Options{MaxQueue: 1 << 20, Slow: Shed})
	for i := range 1000 {
		c.Send(chat(0, i))
	}
	b := c.outgoing(make([]byte, 0, chunk))
	if len(b) == 0 || len(b) > chunk {
		t.Fatalf("took %d bytes", len(b))
	}
	pinned := c.queue.pinned
	if c.queue.drop(); c.queue.len() != pinned || pinned >= 1000 {
		t.Errorf("%d of %d frames are held", c.queue.len(), pinned)
	}
	c.sent(len(b))
	if c.queue.cost != 0 {
		t.Errorf("%d bytes are left", c.queue.cost)
	}
}

func TestASignalNeverPushesOutAChat(t *testing.T) {
	for _, flood := range []*wire.Frame{signal("a", "1"), (&wire.MemberJoined{RoomID: "r", User: []byte(`{}`)}).Frame()} {
		c := stuck(Options{MaxQueue: 20 * minCost, Slow: Shed})
		for i := range 20 {
			c.Send(chat(0, i))
		}
		for range 100 {
			c.Send(flood)
		}
		if st := &c.group.stats; st.ShedChats.Load() != 0 || c.queue.kinds[wire.ClassChat] != 20 || c.closing {
			t.Errorf("%v: %d chats were shed, %d wait", flood.Class(), st.ShedChats.Load(), c.queue.kinds[wire.ClassChat])
		}
		c.Send(chat(0, 20))
		if n := c.queue.kinds[wire.ClassChat]; n < 19 || c.closing || c.queue.frames[len(c.queue.frames)-1].Class() != wire.ClassChat {
			t.Errorf("a chat does not take an older one's place: %d wait", c.queue.kinds[wire.ClassChat])
		}
	}
}

func TestTheNewestSignalOfASenderWins(t *testing.T) {
	var q queue
	for _, f := range []*wire.Frame{signal("a", "1"), signal("b", "1"), signal("a", "2"), chat(0, 1), signal("a", "3")} {
		q.push(f, q.costOf(f))
	}
	s := q.shed(2*minCost, wire.ClassChat)
	if s.signals != 2 || s.chats != 0 || q.len() != 3 {
		t.Fatalf("%+v, %d frames left", s, q.len())
	}
	if got := string(q.frames[2].Payload()); got != string(signal("a", "3").Payload()) {
		t.Errorf("kept %s", got)
	}
	s = q.shed(1<<20, wire.ClassReply)
	if s.signals != 2 || s.chats != 1 || q.cost != 0 || q.kinds != [5]int32{} {
		t.Errorf("%+v, %d bytes left, %v", s, q.cost, q.kinds)
	}
}

// A full queue is not walked through for every frame that it is offered.
func BenchmarkSendToAFullShedQueue(b *testing.B) {
	c := stuck(Options{MaxQueue: 1 << 20, Slow: Shed})
	f := chat(0, 1)
	for range 2 << 20 / minCost {
		c.Send(f)
	}
	for b.Loop() {
		c.Send(f)
	}
}

// One delivery through a queue: in, gathered with those that wait, and out.
func BenchmarkQueue(b *testing.B) {
	for _, waiting := range []int{1, 4, 16} {
		b.Run(fmt.Sprint(waiting), func(b *testing.B) {
			c := stuck(Options{})
			f := chat(1, 1)
			buf := make([]byte, 0, chunk)
			for b.Loop() {
				for range waiting {
					c.Send(f)
				}
				c.sent(len(c.outgoing(buf)))
				c.outgoing(buf)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*waiting), "ns/delivery")
		})
	}
}

// fate writes down what it hears of a frame.
type fate struct{ heard []string }

func (f *fate) Wrote(about any, conn string, _ time.Time) {
	f.heard = append(f.heard, fmt.Sprint(conn, " wrote ", about))
}

func (f *fate) Dropped(about any, conn, why string) {
	f.heard = append(f.heard, fmt.Sprint(conn, " ", why, " ", about))
}

type namedHandler struct{ Handler }

func (namedHandler) ID() string { return "c1" }

func TestWhoTracksAFrameHearsWhatBecameOfIt(t *testing.T) {
	var f fate
	tracked := func(n int) *wire.Frame {
		fr := chat(0, n)
		fr.Track(&f, n, true)
		return fr
	}
	c := stuck(Options{MaxQueue: 3 * minCost, Slow: Shed})
	c.Start(namedHandler{})
	c.Send(tracked(1))
	drain(c, 1<<10)
	for n := range 4 {
		c.Send(tracked(n)) // one too many
	}
	c.Close(wire.CloseNormal, "")
	c.Send(tracked(5))
	c.end(Cause{})
	if got, want := fmt.Sprint(f.heard), "[c1 wrote 1 c1 shed 0 c1 shed 1 c1 closed 5 c1 closed 2 c1 closed 3]"; got != want {
		t.Errorf("heard %s\nwant  %s", got, want)
	}
}
