package filter

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	pb "github.com/wsrelay/relay/plugins/filter/filterpb"
)

// slow is how long one batch may be judged message by message before the rest of
// it gets a goroutine each.
const slow = time.Millisecond

// Session implements pb.FilterServer. It reads all the time, answers pings from
// there, and judges beside it.
func (s *server) Session(stream pb.Filter_SessionServer) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	out := &outlet{send: stream.Send}
	var judging sync.WaitGroup
	for {
		f, err := stream.Recv()
		if errors.Is(err, io.EOF) { // drain
			judging.Wait()
			return out.close()
		}
		if err != nil {
			cancel()
			judging.Wait()
			_ = out.close() // the stream is broken; err says why
			return err
		}
		switch frame := f.GetFrame().(type) {
		case *pb.HostFrame_Ping:
			_ = out.put(&pb.FilterFrame{Frame: &pb.FilterFrame_Pong{Pong: &pb.Pong{N: frame.Ping.GetN()}}})
		case *pb.HostFrame_Batch:
			list := frame.Batch.GetMessages()
			judging.Add(len(list))
			s.judgeBatch(ctx, list, out.late, func(v []*pb.Verdict) {
				out.verdicts(v)
				judging.Add(-len(v))
			})
		}
	}
}

// judgeBatch answers every message of a batch, in one or more calls of tell. It
// returns at once. One goroutine judges one message after the other, which is
// the cheapest as long as judging is quick; when it is not, every message that is
// left gets its own.
func (s *server) judgeBatch(ctx context.Context, list []*pb.Message, later func(string, Verdict) error, tell func([]*pb.Verdict)) {
	if len(list) == 0 {
		return
	}
	s.working.Add(len(list))
	done := func(v []*pb.Verdict) {
		tell(v)
		s.working.Add(-len(v))
	}
	var next atomic.Int64
	go func() {
		if len(list) == 1 {
			done([]*pb.Verdict{s.answer(ctx, list[0], later)})
			return
		}
		own := &batchlet{tell: done}
		hurry := time.AfterFunc(slow, func() {
			own.flush(true)
			for i := next.Add(1) - 1; int(i) < len(list); i = next.Add(1) - 1 {
				go func() { done([]*pb.Verdict{s.answer(ctx, list[i], later)}) }()
			}
		})
		for i := next.Add(1) - 1; int(i) < len(list); i = next.Add(1) - 1 {
			own.add(s.answer(ctx, list[i], later))
		}
		hurry.Stop()
		own.flush(true)
	}()
}

// batchlet gathers the verdicts of one goroutine, until somebody is in a hurry.
type batchlet struct {
	tell func([]*pb.Verdict)

	mu      sync.Mutex
	list    []*pb.Verdict // guarded by mu
	hurried bool          // guarded by mu
}

func (b *batchlet) add(v *pb.Verdict) {
	b.mu.Lock()
	b.list = append(b.list, v)
	now := b.hurried
	b.mu.Unlock()
	if now {
		b.flush(true)
	}
}

func (b *batchlet) flush(hurried bool) {
	b.mu.Lock()
	list := b.list
	b.list, b.hurried = nil, b.hurried || hurried
	b.mu.Unlock()
	if len(list) > 0 {
		b.tell(list)
	}
}

// outlet sends what there is. A stream takes one Send at a time: who finds it
// free sends, and on the way whatever others put there meanwhile. Verdicts that
// wait travel together.
type outlet struct {
	send func(*pb.FilterFrame) error

	mu      sync.Mutex
	sending bool              // guarded by mu, like all below
	ready   []*pb.Verdict     // bounded by what relay keeps in flight
	others  []*pb.FilterFrame // pongs and later verdicts
	err     error
	idle    *sync.Cond
}

// maxOthers bounds what waits beside verdicts while relay does not read.
const maxOthers = 1024

// ErrCongested: relay does not read what this process sends.
var ErrCongested = errors.New("filter: too much waits to be sent to relay")

// verdicts sends verdicts. An error of the stream shows in Recv.
func (o *outlet) verdicts(v []*pb.Verdict) {
	o.mu.Lock()
	o.ready = append(o.ready, v...)
	_ = o.run()
}

func (o *outlet) put(f *pb.FilterFrame) error {
	o.mu.Lock()
	if o.err != nil || len(o.others) >= maxOthers {
		defer o.mu.Unlock()
		if o.err != nil {
			return o.err
		}
		return ErrCongested
	}
	o.others = append(o.others, f)
	return o.run()
}

func (o *outlet) late(id string, v Verdict) error {
	return o.put(&pb.FilterFrame{Frame: &pb.FilterFrame_Late{Late: v.LateProto(id)}})
}

// run sends until nothing is left, unless somebody does that already. mu is held
// on entry and not on return.
func (o *outlet) run() error {
	defer o.mu.Unlock()
	if o.sending {
		return nil
	}
	o.sending = true
	for o.err == nil && (len(o.ready) > 0 || len(o.others) > 0) {
		ready, others := o.ready, o.others
		o.ready, o.others = nil, nil
		o.mu.Unlock()
		err := o.write(ready, others)
		o.mu.Lock()
		o.err = err
	}
	o.sending = false
	if o.idle != nil {
		o.idle.Broadcast()
	}
	return o.err
}

func (o *outlet) write(ready []*pb.Verdict, others []*pb.FilterFrame) error {
	for _, f := range others {
		if err := o.send(f); err != nil {
			return err
		}
	}
	for len(ready) > 0 {
		n := min(len(ready), MaxBatch)
		if err := o.send(&pb.FilterFrame{Frame: &pb.FilterFrame_Verdicts{Verdicts: &pb.VerdictBatch{Verdicts: ready[:n]}}}); err != nil {
			return err
		}
		ready = ready[n:]
	}
	return nil
}

// close waits until all is sent; nothing more is taken after it.
func (o *outlet) close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.idle == nil {
		o.idle = sync.NewCond(&o.mu)
	}
	for o.sending {
		o.idle.Wait()
	}
	err := o.err
	if err == nil {
		o.err = errSessionOver
	}
	return err
}

// errSessionOver is what a later verdict gets when relay has drained the process.
var errSessionOver = errors.New("filter: relay has ended the session")
