package bustest

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/wsrelay/relay/internal/bus"
)

func historyContracts() []contract {
	return []contract{
		{"HistoryReadsBeforeAfterAndTheNewest", 2, historySides},
		{"HistoryIsBoundedInBytes", 2, historyBytes},
		{"HistoryKeepsTheNewest", 2, historyKeep},
		{"HistoryEndsAfterItsTime", 2, historyFor},
		{"PlainRoomsKeepNoHistory", 2, historyOfPlain},
		{"ARepeatedKeyGetsTheFirstResult", 2, keyRepeats},
		{"AKeyIsOneMembersInOneRoom", 2, keyScope},
		{"ConcurrentRepeatsOfAKeyPublishOnce", 2, keyRace},
		{"AKeyWithAnotherMessageIsRefused", 2, keyReused},
		{"RedactLeavesATombstoneAndNoGap", 2, redact},
		{"RedactOfWhatIsNotThereIsErrNotFound", 2, redactMissing},
	}
}

func historySides(s *session) {
	sent := s.say(s.nodes[0], "room", 20, kept)
	for _, c := range []struct {
		name string
		q    bus.HistoryQuery
		want []uint64
	}{
		{"newest", bus.HistoryQuery{Limit: 5}, span(16, 20)},
		{"all", bus.HistoryQuery{Limit: 100}, span(1, 20)},
		{"before", bus.HistoryQuery{Before: 10, Limit: 3}, span(7, 9)},
		{"before the beginning", bus.HistoryQuery{Before: 1, Limit: 3}, nil},
		{"before, running out", bus.HistoryQuery{Before: 3, Limit: 10}, span(1, 2)},
		{"before the future", bus.HistoryQuery{Before: 1000, Limit: 2}, span(19, 20)},
		{"after", bus.HistoryQuery{After: 10, Limit: 3}, span(11, 13)},
		{"after, running out", bus.HistoryQuery{After: 18, Limit: 10}, span(19, 20)},
		{"after the end", bus.HistoryQuery{After: 20, Limit: 10}, nil},
		{"after the future", bus.HistoryQuery{After: 1000, Limit: 10}, nil},
	} {
		c.q.Room = "room"
		for _, n := range s.nodes {
			page := s.history(n, c.q)
			if page.Position != sent[19].Position {
				s.Errorf("%s, instance %d: at %+v, want %+v", c.name, n.index, page.Position, sent[19].Position)
			}
			if got := seqs(page.Events); !slices.Equal(got, c.want) {
				s.Errorf("%s, instance %d: got %v, want %v", c.name, n.index, got, c.want)
			}
			for _, e := range page.Events {
				if e.Position != sent[e.Seq-1].Position || e.ID != sent[e.Seq-1].ID || e.Kind != bus.Chat || e.Room != "room" {
					s.Errorf("%s, instance %d: %+v was sent as %+v", c.name, n.index, e, sent[e.Seq-1])
				}
			}
		}
	}
}

func historyBytes(s *session) {
	body := `"` + strings.Repeat("x", 98) + `"` // 100 bytes
	for range 10 {
		s.publish(s.nodes[0], chat("room", "m", body, kept))
	}
	for _, c := range []struct {
		q    bus.HistoryQuery
		want []uint64
	}{
		{bus.HistoryQuery{Limit: 10, Bytes: 250}, span(9, 10)},
		{bus.HistoryQuery{Limit: 10, Bytes: 300}, span(8, 10)},
		{bus.HistoryQuery{Limit: 2, Bytes: 300}, span(9, 10)},
		{bus.HistoryQuery{Limit: 10, Bytes: 1}, span(10, 10)},
		{bus.HistoryQuery{Limit: 10, Before: 5, Bytes: 250}, span(3, 4)},
		{bus.HistoryQuery{Limit: 10, After: 5, Bytes: 250}, span(6, 7)},
		{bus.HistoryQuery{Limit: 10, After: 5, Bytes: 1}, span(6, 6)},
	} {
		c.q.Room = "room"
		if got := seqs(s.history(s.nodes[1], c.q).Events); !slices.Equal(got, c.want) {
			s.Errorf("%+v: got %v, want %v", c.q, got, c.want)
		}
	}
}

func historyKeep(s *session) {
	keep := bus.Retention{Keep: 10, For: time.Hour}
	s.say(s.nodes[0], "room", 1000, keep)
	page := s.history(s.nodes[1], bus.HistoryQuery{Room: "room", Limit: 10})
	if got := seqs(page.Events); !slices.Equal(got, span(991, 1000)) {
		s.Errorf("the newest are %v, want 991 to 1000", got)
	}
	entered := s.enter(s.nodes[1], entry("room", "m", keep))
	if s.caps.ExactKeep && entered.OldestHistory != 991 {
		s.Errorf("the oldest kept is %d, want 991", entered.OldestHistory)
	}
	// Whatever is kept beyond, history must not grow with what is sent.
	if entered.OldestHistory < 500 || entered.OldestHistory > 991 {
		s.Errorf("the oldest kept is %d of 1000 with 10 to be kept", entered.OldestHistory)
	}
}

func historyFor(s *session) {
	keep := bus.Retention{Keep: 10, For: s.caps.Short}
	s.enter(s.nodes[0], entry("room", "m", keep))
	sent := s.say(s.nodes[0], "room", 3, keep)
	s.eventually("history to be gone", func() bool {
		return len(s.history(s.nodes[1], bus.HistoryQuery{Room: "room", Limit: 10}).Events) == 0
	})
	entered := s.enter(s.nodes[1], entry("room", "m", keep))
	if entered.Position != sent[2].Position || entered.OldestHistory != 0 {
		s.Errorf("entered %+v after a message at %+v", entered, sent[2].Position)
	}
	next := s.publish(s.nodes[0], chat("room", "m", `1`, keep))
	if next.Epoch != sent[2].Epoch || next.Seq != 4 {
		s.Errorf("next is %+v after %+v", next.Position, sent[2].Position)
	}
}

func historyOfPlain(s *session) {
	s.enter(s.nodes[0], entry("room", "m", plain))
	s.publish(s.nodes[0], chat("room", "m", `1`, plain))
	if page, err := s.nodes[0].History(s.ctx, bus.HistoryQuery{Room: "room", Limit: 1}); !errors.Is(err, bus.ErrNoHistory) {
		s.Errorf("history %+v, %v", page, err)
	}
}

func keyRepeats(s *session) {
	s.subscribeAll("room", true)
	first := keyed(chat("room", "m", `1`, kept), "key", 1)
	sent := s.publish(s.nodes[0], first)
	s.say(s.nodes[0], "room", 1, kept)
	for _, n := range s.nodes {
		again := keyed(chat("room", "m", `1`, kept), "key", 1)
		again.Event.Time += 1000
		got := s.publish(n, again)
		if want := (bus.Result{Position: sent.Position, ID: first.Event.ID, Time: first.Event.Time, Duplicate: true}); got != want {
			s.Errorf("instance %d: got %+v, want %+v", n.index, got, want)
		}
	}
	for i, events := range s.fence("room", kept) {
		if got := seqs(events); !slices.Equal(got, span(1, 2)) {
			s.Errorf("instance %d: delivered %v: a repeat was published", i, got)
		}
	}
}

func keyScope(s *session) {
	for i, m := range []*bus.Message{
		keyed(chat("room", "m", `1`, kept), "key", 1),
		keyed(chat("room", "m", `1`, kept), "other key", 1),
		keyed(chat("room", "other", `1`, kept), "key", 2),
		keyed(chat("other room", "m", `1`, kept), "key", 3),
		// Joined carelessly, these would be one.
		keyed(chat("room", "m:k", `1`, kept), "ey", 4),
		keyed(chat("room", "m", `1`, kept), "k:ey", 5),
		chat("room", "m", `1`, kept),
		chat("room", "m", `1`, kept),
	} {
		if got := s.publish(s.nodes[i%2], m); got.Duplicate || got.ID != m.Event.ID {
			s.Errorf("message %d was taken for another: %+v", i, got)
		}
	}
}

func keyRace(s *session) {
	const repeats = 20
	var sent []*receipt
	for i := range repeats {
		r, err := s.nodes[i%2].send(keyed(chat("room", "m", `1`, kept), "key", 1))
		if err != nil {
			s.Fatalf("publishing: %v", err)
		}
		sent = append(sent, r)
	}
	fresh := 0
	ids := make(map[bus.MessageID]bool)
	for _, r := range sent {
		result, err := r.wait(s.caps.Timeout)
		if err != nil || result.Err != nil || result.Seq != 1 {
			s.Fatalf("receipt %+v, %v", result, err)
		}
		if !result.Duplicate {
			fresh++
		}
		ids[result.ID] = true
	}
	if fresh != 1 || len(ids) != 1 {
		s.Errorf("%d of %d were published, with %d ids", fresh, repeats, len(ids))
	}
}

func keyReused(s *session) {
	s.subscribeAll("room", true)
	s.publish(s.nodes[0], keyed(chat("room", "m", `1`, kept), "key", 1))
	for _, n := range s.nodes {
		if got := s.tryPublish(n, keyed(chat("room", "m", `2`, kept), "key", 2)); !errors.Is(got.Err, bus.ErrKeyReused) {
			s.Errorf("instance %d: got %+v", n.index, got)
		}
	}
	for i, events := range s.fence("room", kept) {
		if len(events) != 1 {
			s.Errorf("instance %d: delivered%s", i, showAll(events))
		}
	}
}

func redact(s *session) {
	s.subscribeAll("room", true)
	sent := s.say(s.nodes[0], "room", 5, kept)
	by := bus.Sender{Member: "mod", User: user("mod"), Conn: "c"}
	at, err := s.nodes[1].Redact(s.ctx, &bus.Redaction{
		Room: "room", Target: sent[2].ID, Seq: 3, Reason: "rude", By: by, Retention: kept,
	})
	if err != nil || at.Epoch != sent[0].Epoch || at.Seq != 6 {
		s.Fatalf("redacted at %+v, %v", at, err)
	}
	for i, events := range s.fence("room", kept) {
		if got := seqs(events); !slices.Equal(got, span(1, 6)) {
			s.Fatalf("instance %d: delivered%s", i, showAll(events))
		}
		e := events[5]
		if e.Kind != bus.Redacted || e.Position != at || e.Target != sent[2].ID || e.TargetSeq != 3 || e.Reason != "rude" ||
			e.Sender.Member != "mod" || string(e.Sender.User) != string(by.User) || e.ID.IsZero() {
			s.Errorf("instance %d: told %+v", i, e)
		}
	}
	page := s.history(s.nodes[0], bus.HistoryQuery{Room: "room", Limit: 10})
	if got := seqs(page.Events); page.Seq != 7 || !slices.Equal(got, []uint64{1, 2, 4, 5, 7}) {
		s.Errorf("history at %d has %v", page.Seq, got)
	}
	// Who resumes from before, at and after the redacted message misses nothing.
	for from, want := range map[uint64][]uint64{1: {2, 4, 5, 6, 7}, 2: {4, 5, 6, 7}, 3: {4, 5, 6, 7}, 5: {6, 7}, 6: {7}} {
		e := entry("room", "m", kept)
		e.Resume, e.ResumeMax, e.ResumeBytes = &bus.Position{Epoch: at.Epoch, Seq: from}, 100, 1<<20
		if entered := s.enter(s.nodes[0], e); !entered.Recovered || !slices.Equal(seqs(entered.Missed), want) {
			s.Errorf("resumed from %d: recovered %v, missed %v, want %v", from, entered.Recovered, seqs(entered.Missed), want)
		}
	}
}

func redactMissing(s *session) {
	keep := bus.Retention{Keep: 2, For: time.Hour}
	s.subscribeAll("room", true)
	sent := s.say(s.nodes[0], "room", 300, keep)
	gone := &bus.Redaction{Room: "room", Target: sent[299].ID, Seq: 300, Retention: keep}
	if _, err := s.nodes[0].Redact(s.ctx, gone); err != nil {
		s.Fatalf("redacting: %v", err)
	}
	for name, r := range map[string]*bus.Redaction{
		"again":          gone,
		"wrong id":       {Room: "room", Target: sent[0].ID, Seq: 299, Retention: keep},
		"wrong seq":      {Room: "room", Target: sent[298].ID, Seq: 298, Retention: keep},
		"the redaction":  {Room: "room", Target: sent[299].ID, Seq: 301, Retention: keep},
		"no longer kept": {Room: "room", Target: sent[0].ID, Seq: 1, Retention: keep},
		"not yet there":  {Room: "room", Target: sent[0].ID, Seq: 999, Retention: keep},
	} {
		if at, err := s.nodes[1].Redact(s.ctx, r); !errors.Is(err, bus.ErrNotFound) {
			s.Errorf("%s: redacted at %+v, %v", name, at, err)
		}
	}
	for i, events := range s.fence("room", keep) {
		if n := len(of(events, bus.Redacted)); n != 1 {
			s.Errorf("instance %d: %d redactions told", i, n)
		}
	}
	if _, err := s.nodes[0].Redact(s.ctx, &bus.Redaction{Room: "no room", Target: sent[0].ID, Seq: 1, Retention: keep}); err == nil {
		s.Error("redacted in a room that is not there")
	}
}
