package bench

import (
	"context"
	"strconv"
	"strings"
	"time"
)

// load is a run. One goroutine has all of it.
type load struct {
	opt  *Options
	net  network
	now  func() time.Duration // since the run began
	name string               // of the run, random
	mark []byte               // how every stamp of this run begins

	socks   []*sock
	senders []*sender
	turn    int           // whose turn it is, with a rate
	sent    int64         // with a rate: messages that were due and are settled, one way or the other
	ready   []*sender     // who may send again, with in-flight
	spare   []*sender     // the same slice of the time before
	looked  time.Duration // when unstall last did

	phase     Phase
	phaseAt   time.Duration
	from, to  time.Duration // of the measurement
	heard     time.Duration // when anything last came
	joined    int
	res       Result
	latency   histogram
	sendLag   histogram
	delivered int64 // over all phases
	frames    int64
	reads     int64
	bytes     int64

	reported  time.Duration
	reportedN int64
}

// room is what its members have in common.
type room struct {
	id      string
	senders []*sender
}

// sock is one connection: a member of a room, a sender, or both.
type sock struct {
	id     int
	room   *room
	sender *sender // nil: it only listens
	listen bool    // it is owed the messages of the room's other senders
	state  state
	tracks []track // by sender of the room
	rest   []byte  // of a frame that has not come as a whole yet
}

type state uint8

const (
	unconnected state = iota
	joining
	member
	gone
)

// sender is who publishes in a room.
type sender struct {
	sock      *sock
	place     int    // in its room
	template  []byte // its next frame, but for the stamp
	at        int    // where the stamp is
	receivers int64

	published int64
	refused   int64
	delivered int64
	waived    int64         // in-flight messages that are not waited for any more
	progress  time.Duration // when anything last came of its messages
	queued    bool          // is in load.ready
}

// backlogMax is what a generator keeps for a socket that takes no more: beyond
// it, messages that are due are not sent, and counted.
const backlogMax = 256 << 10

// stallAfter is how long a sender with messages in flight waits for any of them.
// Then it takes them for lost, and sends others.
const stallAfter = time.Second

func newLoad(opt *Options, nw network, now func() time.Duration, run string) *load {
	l := &load{opt: opt, net: nw, now: now, name: run, mark: []byte("~" + run)}
	l.res.init(opt)
	for i := range opt.Rooms {
		r := &room{id: opt.Prefix + run + "-" + strconv.Itoa(i)}
		for j := range opt.perRoom() {
			s := &sock{id: len(l.socks), room: r, tracks: make([]track, opt.Senders)}
			s.listen = len(opt.URLs) == 1 || j >= opt.Senders
			if j < opt.Senders {
				s.sender = l.newSender(s)
			}
			l.socks = append(l.socks, s)
		}
	}
	return l
}

func (l *load) newSender(s *sock) *sender {
	p := &sender{sock: s, place: len(s.room.senders), receivers: int64(l.opt.Members)}
	if len(l.opt.URLs) == 1 {
		p.receivers--
	}
	text := strings.Repeat("~", stampSize) + strings.Repeat("x", l.opt.Size-stampSize)
	p.template = appendFrame(nil, opText, []byte(`{"type":"chat","roomId":`+quoted(s.room.id)+`,"message":"`+text+`"}`))
	p.at = len(p.template) - len(`"}`) - l.opt.Size
	s.room.senders = append(s.room.senders, p)
	l.senders = append(l.senders, p)
	return p
}

// server is which of the URLs a socket belongs to.
func (l *load) server(s *sock) int {
	if s.listen {
		return len(l.opt.URLs) - 1
	}
	return 0
}

func (l *load) begin(p Phase) {
	l.phase, l.phaseAt = p, l.now()
	l.reported, l.reportedN = l.phaseAt, l.delivered
	if l.opt.Phase != nil {
		l.opt.Phase(p)
	}
}

// run offers the load to everybody who has joined, and sums up.
func (l *load) run(ctx context.Context) *Result {
	l.begin(Warming)
	start := l.phaseAt
	l.from = start + l.opt.Warm
	l.to = l.from + l.opt.Duration
	for _, p := range l.senders {
		l.wake(p)
	}
	var before snapshot
	for t := start; t < l.to && ctx.Err() == nil; t = l.now() {
		if l.phase == Warming && t >= l.from {
			l.begin(Measuring)
			before = l.snapshot()
		}
		next := min(l.offer(t, start), l.boundary())
		l.net.wait(next-l.now(), l.take)
		l.report()
	}
	after := l.snapshot()
	if l.phase == Warming { // ended before anything was measured
		before = after
	}
	l.to = min(l.to, after.at)
	l.begin(Draining)
	// Until everything has come, and a moment longer for what comes twice.
	for limit := l.phaseAt + l.opt.Drain; l.now() < limit && ctx.Err() == nil && (l.missing() > 0 || l.now()-max(l.heard, l.phaseAt) < quietFor); {
		l.net.wait(20*time.Millisecond, l.take)
		l.report()
	}
	return l.sum(before, after)
}

// boundary is when the loop has to look up at the latest.
func (l *load) boundary() time.Duration {
	next := l.to
	if l.phase == Warming {
		next = l.from
	}
	return min(next, l.now()+100*time.Millisecond)
}

// offer sends what is due and returns when the next message is.
func (l *load) offer(now, start time.Duration) time.Duration {
	switch {
	case l.opt.Rate > 0:
		step := float64(time.Second) / l.opt.Rate
		for {
			due := start + time.Duration(float64(l.sent)*step)
			if due > now {
				return due
			}
			if !l.publish(l.senders[l.turn], due) {
				l.res.Unsent++
			}
			l.sent++
			if l.turn++; l.turn == len(l.senders) {
				l.turn = 0
			}
			if l.sent%64 == 0 {
				now = l.now() // a burst must not keep what came waiting for long
				l.net.wait(0, l.take)
			}
		}
	case l.opt.InFlight > 0:
		l.unstall(now)
		list := l.ready
		l.ready = l.spare[:0]
		for _, p := range list {
			p.queued = false
			for p.inFlight() < int64(l.opt.InFlight) && l.publish(p, l.now()) {
			}
		}
		l.spare = list
	}
	return l.to
}

func (p *sender) inFlight() int64 {
	return p.published - p.refused - p.waived - p.delivered/max(p.receivers, 1)
}

// wake notes that a sender may have room for another message.
func (l *load) wake(p *sender) {
	if l.opt.InFlight > 0 && !p.queued {
		p.queued = true
		l.ready = append(l.ready, p)
	}
}

// unstall lets those send again whose messages do not come, being lost, and
// those who were refused: not at once, so that nobody is asked the same question
// as fast as it is answered.
func (l *load) unstall(now time.Duration) {
	if now-l.looked < stallAfter/2 {
		return
	}
	l.looked = now
	for _, p := range l.senders {
		if n := p.inFlight(); n >= int64(l.opt.InFlight) && now-p.progress > stallAfter {
			p.waived += n
			p.progress = now
			l.res.Stalls++
		}
		if p.inFlight() < int64(l.opt.InFlight) {
			l.wake(p)
		}
	}
}

// publish sends one message; false where the socket takes no more.
func (l *load) publish(p *sender, due time.Duration) bool {
	if p.sock.state != member || l.net.backlog(p.sock.id) > backlogMax {
		return false
	}
	p.published++
	if l.phase == Measuring {
		l.sendLag.add(l.now() - due)
	}
	putStamp(p.template[p.at:], l.name, stamp{p.place, uint64(p.published), int64(due)})
	l.net.write(p.sock.id, p.template)
	return true
}

// missing is how many deliveries are owed.
func (l *load) missing() int64 {
	n := int64(0)
	for _, p := range l.senders {
		n += (p.published - p.refused) * p.receivers
	}
	return n - l.delivered
}

// report tells of progress, once a second.
func (l *load) report() {
	now := l.now()
	since := now - l.reported
	if since < time.Second {
		return
	}
	if l.opt.Progress != nil {
		of := map[Phase]time.Duration{Connecting: l.opt.Connect, Warming: l.opt.Warm, Measuring: l.opt.Duration, Draining: l.opt.Drain}
		l.opt.Progress(Progress{
			Phase: l.phase, Elapsed: now - l.phaseAt, Of: of[l.phase], Joined: l.joined, Sockets: len(l.socks),
			PerSecond: float64(l.delivered-l.reportedN) / since.Seconds(), P99: l.latency.at(0.99), Missing: l.missing(),
		})
	}
	l.reported, l.reportedN = now, l.delivered
}
