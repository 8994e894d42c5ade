package plugins

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/wsrelay/relay/plugins/filter"
	pb "github.com/wsrelay/relay/plugins/filter/filterpb"
)

// maxBatchBytes keeps a batch to about this, unless one message alone is larger.
const maxBatchBytes = 1 << 20

// session carries a unit's calls to one process and the verdicts back.
type session struct {
	u          *unit
	link       *link
	generation int
	maxBatch   int

	wake  chan struct{} // has a token when the sender is to look
	asked atomic.Int64  // when a ping was wanted that nothing was heard after, by Host.clock; 0: none
	ended chan struct{} // closed when nothing comes any more

	// Guarded by u.mu.
	slots    *slots
	idle     bool   // the sender waits for wake
	draining bool   // no more calls, unless the unit is closed and has some
	pinging  bool   // a ping is to be sent
	lost     bool   // it is over
	why      string // it is to be ended, when that was decided here
}

// attach makes a session over a link the one that takes calls, and returns the
// one that did before. u.mu is held.
func (u *unit) attach(l *link) (old *session) {
	u.generation++
	s := &session{
		u: u, link: l, generation: u.generation, maxBatch: l.desc.MaxBatch,
		wake: make(chan struct{}, 1), ended: make(chan struct{}), slots: newSlots(l.desc.MaxInFlight),
	}
	old = u.session
	u.session, u.spec, u.down, u.breaker = s, l.spec, false, breaker{}
	u.tally.starts.Add(1)
	if l.stream != nil {
		u.work.Go(s.send)
		u.work.Go(s.receive)
	} else {
		u.work.Go(s.converse)
	}
	u.work.Go(s.mourn)
	return old
}

func (s *session) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// ping wants a ping to be sent. Without a stream there is none; see check.
func (s *session) ping() {
	if s.link.stream == nil {
		return
	}
	s.asked.CompareAndSwap(0, s.u.host.clock())
	s.u.mu.Lock()
	s.pinging = true
	s.idle = false
	s.u.mu.Unlock()
	s.signal()
}

// hear notes that the plugin lives.
func (s *session) hear() {
	if s.asked.Load() != 0 {
		s.asked.Store(0)
	}
}

// mourn ends the session when its process is gone, should the stream not notice:
// a child of the process may hold its socket. What the stream still holds gets
// a moment to be read.
func (s *session) mourn() {
	select {
	case <-s.ended:
		return
	case <-s.link.child.ended:
	}
	t := time.NewTimer(pipeGrace)
	defer t.Stop()
	select {
	case <-s.ended:
	case <-t.C:
		s.link.cancel()
	}
}

// errOver: the sender has nothing more to do.
var errOver = errors.New("session over")

// parcel is a call as it was when it was taken to be sent. The call itself may go
// on meanwhile, to another session even.
type parcel struct {
	call  *call
	n     uint64
	msg   *filter.Message
	until time.Time
}

// take waits for calls and takes as many as are queued and make one batch, or for
// a ping to be due.
func (s *session) take(ctx context.Context) (batch []parcel, ping bool, err error) {
	u := s.u
	for {
		u.mu.Lock()
		switch {
		case s.lost:
			u.mu.Unlock()
			return nil, false, errOver
		case ctx.Err() != nil: // what is queued is for the next one
			u.mu.Unlock()
			return nil, false, ctx.Err()
		case s.pinging:
			s.pinging = false
			u.mu.Unlock()
			return nil, true, nil
		}
		mine := u.session == s
		if mine && u.queued > 0 {
			batch = s.fill()
		}
		if batch == nil && s.draining && !(mine && u.queued > 0) {
			u.mu.Unlock()
			return nil, false, errOver
		}
		s.idle = batch == nil
		u.mu.Unlock()
		if batch != nil {
			return batch, false, nil
		}
		select {
		case <-s.wake:
			// Whoever else is about to queue something goes first: that makes one
			// batch of what would be many, and costs nothing when nobody is.
			runtime.Gosched()
		case <-ctx.Done():
			return nil, false, ctx.Err()
		}
	}
}

// fill takes calls off the queue into slots. u.mu is held.
func (s *session) fill() []parcel {
	u := s.u
	room := min(s.maxBatch, len(s.slots.list)-s.slots.taken)
	now := time.Now()
	taken, bytes := 0, 0
	batch := make([]parcel, 0, min(room, u.queued))
	for _, c := range u.queue[u.head:] {
		if c.state == settled {
			taken++
			continue
		}
		if len(batch) >= room || len(batch) > 0 && bytes+len(c.msg.Body) > maxBatchBytes {
			break
		}
		taken++
		bytes += 2*len(c.msg.Body) + 256 // its texts are in it twice
		s.slots.put(c)
		c.state, c.sent, c.generation = flying, now, s.generation
		batch = append(batch, parcel{c, c.n, c.msg, c.deadline()})
	}
	u.drop(taken)
	u.queued -= len(batch)
	if len(batch) == 0 {
		return nil
	}
	for _, p := range batch {
		p.call.batch = len(batch)
	}
	return batch
}

// send sends what is queued, until the session is over.
func (s *session) send() {
	for {
		batch, ping, err := s.take(s.link.ctx)
		switch {
		case errors.Is(err, errOver):
			_ = s.link.stream.CloseSend() // drain; a broken stream shows in receive
			return
		case err != nil:
			return
		}
		var f any = &batchFrame{batch: batch, now: time.Now()}
		if ping {
			f = &pb.HostFrame{Frame: &pb.HostFrame_Ping{Ping: &pb.Ping{N: uint64(time.Now().UnixNano())}}}
		}
		if err := s.link.stream.SendMsg(f); err != nil && !errors.Is(err, io.EOF) {
			s.link.cancel() // it could not be encoded, say; with EOF, receive has the reason
			return
		} else if err != nil {
			return
		}
	}
}

// receive takes what the plugin says, until the stream ends.
func (s *session) receive() {
	for {
		var f replyFrame
		if err := s.link.stream.RecvMsg(&f); err != nil {
			s.finish(err)
			return
		}
		s.hear()
		if f.verdicts != nil {
			s.u.verdicts(s, f.verdicts)
		}
		if late := f.other.GetLate(); late != nil {
			s.u.later(late)
		}
	}
}

// converse is send and receive for a plugin without Session: one CheckBatch after
// the other.
func (s *session) converse() {
	for {
		batch, _, err := s.take(s.link.ctx)
		if err != nil {
			if errors.Is(err, errOver) {
				err = io.EOF
			}
			s.finish(err)
			return
		}
		s.check(batch)
	}
}

// check asks about one batch.
func (s *session) check(batch []parcel) {
	now := time.Now()
	req := &pb.Batch{Messages: make([]*pb.Message, len(batch))}
	until := now
	for i, p := range batch {
		m := *p.msg
		m.Budget = p.until.Sub(now)
		req.Messages[i] = m.Proto(p.n)
		if p.until.After(until) {
			until = p.until
		}
	}
	ctx, cancel := context.WithDeadline(s.link.ctx, until)
	res, err := s.link.api.CheckBatch(ctx, req)
	cancel()
	switch {
	case err == nil:
		s.hear()
		list := make([]verdict, len(res.GetVerdicts()))
		for i, p := range res.GetVerdicts() {
			list[i] = verdictOf(p)
		}
		s.u.verdicts(s, list)
		s.abort(batch, Failed, errors.New("the answer to CheckBatch had no verdict on it"))
	case s.link.ctx.Err() != nil || status.Code(err) == codes.Unavailable:
		s.link.cancel() // the process is gone; take tells
	case status.Code(err) == codes.DeadlineExceeded:
		s.asked.CompareAndSwap(0, s.u.host.clock())
		s.abort(batch, Timeout, nil)
		s.suspect()
	default:
		s.hear()
		s.abort(batch, Failed, fmt.Errorf("CheckBatch: %w", plain(err)))
	}
}

// suspect ends a process that has answered nothing for as long as a ping may take.
// In a session it is called when a ping is due; without one, when a batch was not
// answered in time: an idle plugin is not suspected of anything.
func (s *session) suspect() {
	asked, limit := s.asked.Load(), s.u.host.times.health
	if asked != 0 && time.Duration(s.u.host.clock()-asked) >= limit {
		s.u.log.Error("the plugin answers nothing and is taken for frozen", "pid", s.link.child.pid(), "for", limit)
		s.kill("it was frozen: no answer to a ping, nor any other")
	}
}

// abort answers those calls of a batch that still wait.
func (s *session) abort(batch []parcel, why string, err error) {
	now := time.Now()
	u := s.u
	var list []*call
	u.mu.Lock()
	for _, p := range batch {
		if s.slots.take(p.n) != nil { // nobody else can have it back
			u.settle(p.call)
			list = append(list, p.call)
		}
	}
	if why == Timeout {
		u.breaker.failed(len(list), now)
	}
	s.slots.forgive()
	u.mu.Unlock()
	for _, c := range list {
		c.run.answer(c, outcome{failure: why, err: err, end: now})
	}
}

// finish ends the session: what was in flight goes to the next process, if the
// plugin is stateless and it was not there already, or has no verdict.
func (s *session) finish(err error) {
	now := time.Now()
	u := s.u
	u.mu.Lock()
	s.lost = true
	if u.session == s {
		u.session = nil
	}
	var again, crashed []*call
	for _, c := range s.slots.calls() {
		if s.link.desc.Stateless && !c.retried && !u.closed {
			s.slots.take(c.n)
			again = append(again, c)
		} else {
			u.settle(c)
			crashed = append(crashed, c)
		}
	}
	if len(again) > 0 {
		slices.SortFunc(again, func(a, b *call) int { return a.start.Compare(b.start) })
		u.again(again)
	}
	if !s.draining {
		u.tally.failures.Add(1)
		u.lastError = s.reason(err)
	}
	s.signal()
	u.mu.Unlock()
	close(s.ended)
	for _, c := range crashed {
		c.run.answer(c, outcome{failure: Crash, end: now})
	}
	u.look()
}

// reason tells why a session ended. u.mu is held.
func (s *session) reason(err error) string {
	if s.why != "" {
		return s.why
	}
	if errors.Is(err, io.EOF) {
		return "it ended the session unasked"
	}
	return plain(err).Error()
}

// drain lets the plugin answer what it has, for a limited time, and ends it.
func (s *session) drain() {
	u := s.u
	limit := u.host.times.drain
	u.mu.Lock()
	s.draining, s.idle = true, false
	u.mu.Unlock()
	s.signal()
	t := time.NewTimer(limit)
	defer t.Stop()
	grace := u.host.times.end
	select {
	case <-s.ended:
	case <-t.C:
		u.log.Warn("the plugin did not answer all it had before its time was over", "limit", limit)
		grace = 0
	case <-u.host.hard.Done():
		grace = 0
	}
	s.link.end(u.host.hard, u.log, grace)
	<-s.ended
}

// kill ends the process at once. Its session notices.
func (s *session) kill(why string) {
	s.u.mu.Lock()
	s.why = why
	s.u.mu.Unlock()
	_ = s.link.child.Kill(context.Background())
}
