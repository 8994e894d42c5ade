package bustest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/wsrelay/relay/internal/bus"
)

func resumeContracts() []contract {
	return []contract{
		{"ResumeReadsExactlyWhatWasMissed", 2, resumeExact},
		{"ResumeBeyondItsBoundsIsNotRecovered", 2, resumeBounded},
		{"ResumeOfWhatIsGoneIsNotRecovered", 2, resumeGone},
		{"JoinBarrierHasNoHoleAndNoRepeat", 2, joinBarrier},
		{"AJoinIsToldBeforeItsMembersMessages", 2, joinBeforeChat},
	}
}

func resuming(room, member string, keep bus.Retention, from bus.Position) *bus.Entry {
	e := entry(room, member, keep)
	e.Resume, e.ResumeMax, e.ResumeBytes = &from, 1000, 1<<20
	return e
}

func resumeExact(s *session) {
	s.subscribeAll("room", true)
	sent := s.say(s.nodes[0], "room", 20, kept)
	delivered := s.await(s.nodes[0], "room", "20 messages", atLeast(20))
	for from := range uint64(21) {
		n := s.nodes[from%2]
		entered := s.enter(n, resuming("room", "m", kept, bus.Position{Epoch: sent[0].Epoch, Seq: from}))
		if !entered.Recovered || entered.Position != sent[19].Position || !slices.Equal(seqs(entered.Missed), span(from+1, 20)) {
			s.Fatalf("resumed from %d: recovered %v at %d, missed %v", from, entered.Recovered, entered.Seq, seqs(entered.Missed))
		}
		for _, e := range entered.Missed {
			if !same(e, delivered[e.Seq-1]) {
				s.Fatalf("resumed seq %d differs from what was delivered in%s", e.Seq, difference(e, delivered[e.Seq-1]))
			}
		}
	}
}

func resumeBounded(s *session) {
	body := `"` + strings.Repeat("x", 998) + `"`
	var last bus.Result
	for range 10 {
		last = s.publish(s.nodes[0], chat("room", "m", body, kept))
	}
	for _, c := range []struct {
		from       uint64
		max, bytes int
		recovered  bool
	}{
		{5, 5, 1 << 20, true},
		{4, 5, 1 << 20, false},
		{10, 1, 1, true},
		{5, 100, 20_000, true}, // 5,000 bytes of bodies and some for the rest
		{5, 100, 3_000, false},
	} {
		e := resuming("room", "m", kept, bus.Position{Epoch: last.Epoch, Seq: c.from})
		e.ResumeMax, e.ResumeBytes = c.max, c.bytes
		entered := s.enter(s.nodes[1], e)
		if entered.Recovered != c.recovered || entered.Position != last.Position || (!c.recovered && len(entered.Missed) > 0) {
			s.Errorf("%+v: recovered %v with %d missed", c, entered.Recovered, len(entered.Missed))
		}
		if c.recovered && !slices.Equal(seqs(entered.Missed), span(c.from+1, 10)) {
			s.Errorf("%+v: missed %v", c, seqs(entered.Missed))
		}
	}
}

func resumeGone(s *session) {
	keep := bus.Retention{Keep: 10, For: time.Hour}
	last := s.say(s.nodes[0], "room", 300, keep)[299]
	for name, from := range map[string]bus.Position{
		"unknown epoch":       {Epoch: "another", Seq: 300},
		"no epoch":            {Seq: 300},
		"the future":          {Epoch: last.Epoch, Seq: 301},
		"long before history": {Epoch: last.Epoch, Seq: 1},
	} {
		entered := s.enter(s.nodes[1], resuming("room", "m", keep, from))
		if entered.Recovered || len(entered.Missed) > 0 || entered.Position != last.Position || entered.ForkedAt != 0 {
			s.Errorf("%s: entered %+v", name, entered)
		}
	}
	// At the edge: what OldestHistory names is there, one before is not.
	oldest := s.enter(s.nodes[1], entry("room", "m", keep)).OldestHistory
	for from, want := range map[uint64]bool{oldest - 1: true, oldest - 2: false, 290: true} {
		entered := s.enter(s.nodes[1], resuming("room", "m", keep, bus.Position{Epoch: last.Epoch, Seq: from}))
		if entered.Recovered != want {
			s.Errorf("the oldest is %d; resumed from %d: recovered %v", oldest, from, entered.Recovered)
		}
	}
	// A room without history has nothing to resume.
	s.enter(s.nodes[0], entry("plain", "m", plain))
	if entered := s.enter(s.nodes[1], resuming("plain", "m", plain, last.Position)); entered.Recovered || entered.Missed != nil {
		s.Errorf("plain: entered %+v", entered)
	}
}

// joinBarrier enters again and again while messages flow. What Enter read back
// and what is delivered after its position must be everything, once.
func joinBarrier(s *session) {
	const total = 400
	from, to := s.nodes[0], s.nodes[1]
	start := s.publish(from, chat("room", "speaker", `0`, kept)).Position
	s.subscribe(to, "room", true)
	sent := s.sayBeside(from, "room", total, kept)
	var entered []*bus.Entered
	for i := range 20 {
		entered = append(entered, s.enter(to, resuming("room", fmt.Sprint("m", i), kept, start)))
	}
	<-sent
	events := of(s.await(to, "room", "the last message", atLeast(total)), bus.Chat)
	if got := seqs(events); !slices.Equal(got, span(2, total+1)) {
		s.Fatalf("delivered %v", got)
	}
	for i, e := range entered {
		if !e.Recovered || !slices.Equal(seqs(e.Missed), span(2, e.Seq)) {
			s.Fatalf("member %d at %d: recovered %v, missed %v", i, e.Seq, e.Recovered, seqs(e.Missed))
		}
		for _, m := range e.Missed {
			if live := events[m.Seq-2]; !same(m, live) {
				s.Fatalf("missed seq %d differs from what was delivered in%s", m.Seq, difference(m, live))
			}
		}
	}
}

// joinBeforeChat: a message that was published after its sender's Enter
// returned is delivered after the join, and before a leave that follows it.
func joinBeforeChat(s *session) {
	for _, keep := range []bus.Retention{kept, plain} {
		room := fmt.Sprint("room-", keep.Keep)
		s.subscribeAll(room, keep.Kept())
		for i := range 20 {
			n := s.nodes[i%2]
			member := fmt.Sprint("m", i)
			s.enter(n, entry(room, member, keep))
			s.publish(n, chat(room, member, `1`, keep))
			s.leave(n, room, member, 0)
		}
		for i, events := range s.fence(room, keep) {
			for k := 0; k < len(events); k += 3 {
				if e := events[k:]; len(e) < 3 || e[0].Kind != bus.Joined || e[1].Kind != bus.Chat || e[2].Kind != bus.Left {
					s.Fatalf("instance %d: delivered%s", i, showAll(e))
				}
			}
			if len(events) != 60 {
				s.Errorf("instance %d: %d events, want 60", i, len(events))
			}
		}
	}
}
