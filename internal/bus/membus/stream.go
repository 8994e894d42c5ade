package membus

import (
	"fmt"
	"slices"
	"time"

	"github.com/wsrelay/relay/internal/bus"
)

// stream is a room's stored events: a ring of consecutive seqs ending at last.
// A redacted message leaves nil in its place, so that its seq is no gap.
type stream struct {
	ring []*bus.Event // its length is a power of two
	head int          // of the oldest
	n    int
	last uint64 // seq of the newest ever stored
}

func (s *stream) at(i int) **bus.Event { return &s.ring[(s.head+i)&(len(s.ring)-1)] }

// first is the seq of the oldest place; last+1 when empty.
func (s *stream) first() uint64 { return s.last - uint64(s.n) + 1 }

// find is the place of seq, or nil.
func (s *stream) find(seq uint64) **bus.Event {
	if seq < s.first() || seq > s.last {
		return nil
	}
	return s.at(int(seq - s.first()))
}

// oldest is the lowest seq that holds an event, 0 when none does.
func (s *stream) oldest() uint64 {
	for i := range s.n {
		if *s.at(i) != nil {
			return s.first() + uint64(i)
		}
	}
	return 0
}

func (s *stream) push(e *bus.Event) {
	if s.n == len(s.ring) {
		ring := make([]*bus.Event, max(4, 2*len(s.ring)))
		for i := range s.n {
			ring[i] = *s.at(i)
		}
		s.ring, s.head = ring, 0
	}
	s.n++
	s.last++
	*s.at(s.n - 1) = e
}

// pop removes the oldest place and returns what it held.
func (s *stream) pop() *bus.Event {
	p := s.at(0)
	e := *p
	*p = nil
	s.head = (s.head + 1) & (len(s.ring) - 1)
	s.n--
	if s.n == 0 {
		s.ring, s.head = nil, 0
	}
	return e
}

// cost is what a stored event weighs against MaxHistoryBytes: what it refers to
// and about what the Event itself and its place take.
func cost(e *bus.Event) int64 {
	if e == nil {
		return 8
	}
	return int64(len(e.Body)+len(e.Sender.User)+len(e.Sender.Member)+len(e.Sender.Conn)+len(e.Key)+len(e.Reason)) + 400
}

// append stores and delivers a message. e is the event to be, the bus's own.
func (s *shard) append(m *bus.Message, e *bus.Event) (bus.Result, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	r := s.room(e.Room)
	if !r.exists {
		if err := r.create(now); err != nil {
			s.tidy(r)
			return bus.Result{}, err
		}
	}
	changed := r.keep(m.Retention)
	if m.Key != "" {
		result, known, err := r.keyed(m, now)
		if known || err != nil {
			return result, err
		}
	}
	r.store(e, m.Retention, now)
	result := bus.Result{Position: e.Position, ID: e.ID, Time: e.Time}
	if m.Key != "" {
		r.keys.add(keyOf(m), m.Digest, result, now)
	}
	if changed || !r.tending.set() || r.keys.len() == 1 {
		r.tend(now)
	}
	r.deliver(e)
	return result, nil
}

// store numbers an event and puts it at the stream's end.
func (r *room) store(e *bus.Event, retention bus.Retention, now time.Time) {
	e.Position = bus.Position{Epoch: r.epoch, Seq: r.stream.last + 1}
	r.published = now
	r.stream.push(e)
	r.shard.broker.historyBytes.Add(cost(e))
	if r.inStreams == nil {
		r.inStreams = r.shard.streams.PushBack(r)
	} else {
		r.shard.streams.MoveToBack(r.inStreams)
	}
	if over := r.stream.n - retention.Keep; over > 0 {
		r.dropOldest(over)
	}
	r.shard.restampStreams()
}

// dropOldest removes the n oldest places of the stream.
func (r *room) dropOldest(n int) {
	var freed int64
	for range n {
		freed += cost(r.stream.pop())
	}
	r.shard.broker.historyBytes.Add(-freed)
	if r.stream.n == 0 && r.inStreams != nil {
		r.shard.streams.Remove(r.inStreams)
		r.inStreams = nil
		r.shard.restampStreams()
	}
}

// resume fills in what came after e.Resume, if all of it is there and fits.
// ResumeMax and ResumeBytes of zero are no bound.
func (r *room) resume(e *bus.Entry, into *bus.Entered) {
	from := e.Resume
	if r.epoch == "" || from.Epoch != r.epoch || from.Seq > r.stream.last || from.Seq+1 < r.stream.first() {
		return
	}
	var missed []*bus.Event
	bytes := 0
	for i := int(from.Seq + 1 - r.stream.first()); i < r.stream.n; i++ {
		event := *r.stream.at(i)
		if event == nil {
			continue // its redaction follows, or was seen
		}
		missed = append(missed, event)
		bytes += len(event.Body)
		if (e.ResumeMax > 0 && len(missed) > e.ResumeMax) || (e.ResumeBytes > 0 && bytes > e.ResumeBytes) {
			return
		}
	}
	into.Recovered, into.Missed = true, missed
}

// page reads chats on one side of a seq.
func (r *room) page(q bus.HistoryQuery) []*bus.Event {
	s := &r.stream
	var events []*bus.Event
	bytes := 0
	take := func(i int) (more bool) {
		e := *s.at(i)
		if e == nil || e.Kind != bus.Chat {
			return true
		}
		bytes += len(e.Body)
		if len(events) == q.Limit || (q.Bytes > 0 && bytes > q.Bytes && len(events) > 0) {
			return false
		}
		events = append(events, e)
		return true
	}
	if q.After != 0 || q.Oldest {
		start := 0
		if q.After >= s.first() {
			start = int(min(q.After+1-s.first(), uint64(s.n)))
		}
		for i := start; i < s.n && take(i); i++ {
		}
		return events
	}
	end := s.n
	if q.Before != 0 {
		end = 0
		if q.Before > s.first() {
			end = int(min(q.Before-s.first(), uint64(s.n)))
		}
	}
	for i := end - 1; i >= 0 && take(i); i-- {
	}
	slices.Reverse(events)
	return events
}

// redact takes a message away and tells so.
func (r *room) redact(q *bus.Redaction, now time.Time) (bus.Position, error) {
	place := r.stream.find(q.Seq)
	if place == nil || *place == nil || (*place).Kind != bus.Chat || (*place).ID != q.Target {
		return bus.Position{}, fmt.Errorf("seq %d: %w", q.Seq, bus.ErrNotFound)
	}
	r.shard.broker.historyBytes.Add(cost(nil) - cost(*place))
	*place = nil
	e := &bus.Event{
		Kind: bus.Redacted, Room: r.name, ID: bus.NewMessageID(), Time: now.UnixMilli(),
		Sender: q.By, Reason: q.Reason, Target: q.Target, TargetSeq: q.Seq,
	}
	changed := r.keep(q.Retention)
	r.store(e, q.Retention, now)
	if changed || !r.tending.set() {
		r.tend(now)
	}
	r.deliver(e)
	return e.Position, nil
}
