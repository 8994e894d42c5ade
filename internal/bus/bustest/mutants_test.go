package bustest

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/wsrelay/relay/internal/bus"
)

// mutant is one planted mistake. deliver may give the handler something other
// than what came; wrap may break a method.
type mutant struct {
	name    string
	deliver func(n int, e *bus.Event, to bus.Handler)
	told    func(s *bus.Sanction, lifted bool, to bus.Handler)
	wrap    func(bus.Bus) bus.Bus
	// directedOnly: no operation of the random test can show it.
	directedOnly bool
}

// wrapped puts a mutant around an instance.
type wrapped struct {
	bus.Bus
	mutant mutant
}

func (w *wrapped) Start(ctx context.Context, h bus.Handler) error {
	if w.mutant.deliver != nil {
		h = &faulty{to: h, deliver: w.mutant.deliver}
	}
	if w.mutant.told != nil {
		h = teller{h, w.mutant.told}
	}
	return w.Bus.Start(ctx, h)
}

// faulty counts deliveries per room, so that a mistake is in the middle of one.
type faulty struct {
	bus.AtOnce
	to      bus.Handler
	deliver func(int, *bus.Event, bus.Handler)
	mu      sync.Mutex
	counts  map[string]int
}

func (f *faulty) Deliver(e *bus.Event) {
	f.mu.Lock()
	if f.counts == nil {
		f.counts = make(map[string]int)
	}
	f.counts[e.Room]++
	n := f.counts[e.Room]
	f.mu.Unlock()
	f.deliver(n, e, f.to)
}

func (f *faulty) Sanctioned(s *bus.Sanction) { f.to.Sanctioned(s) }
func (f *faulty) Lifted(s *bus.Sanction)     { f.to.Lifted(s) }

// altering hands over a changed copy of every event that when picks.
func altering(when func(n int, e *bus.Event) bool, change func(e *bus.Event)) func(int, *bus.Event, bus.Handler) {
	return func(n int, e *bus.Event, to bus.Handler) {
		if when(n, e) {
			c := clone(e)
			change(&c)
			e = &c
		}
		to.Deliver(e)
	}
}

func third(n int, _ *bus.Event) bool { return n == 3 }
func kind(k bus.Kind) func(int, *bus.Event) bool {
	return func(_ int, e *bus.Event) bool { return e.Kind == k }
}

// swapping holds every event number three back until the next came.
func swapping() func(int, *bus.Event, bus.Handler) {
	var mu sync.Mutex
	held := make(map[bus.Handler]map[string]*bus.Event)
	return func(n int, e *bus.Event, to bus.Handler) {
		mu.Lock()
		defer mu.Unlock()
		if held[to] == nil {
			held[to] = make(map[string]*bus.Event)
		}
		if n == 3 {
			held[to][e.Room] = e
			return
		}
		to.Deliver(e)
		if late := held[to][e.Room]; late != nil {
			delete(held[to], e.Room)
			to.Deliver(late)
		}
	}
}

func mutants() []mutant {
	return slices.Concat(deliveryMutants(), replyMutants(), publishMutants(), sanctionMutants())
}

func deliveryMutants() []mutant {
	return []mutant{
		{name: "drops an event", deliver: func(n int, e *bus.Event, to bus.Handler) {
			if n != 3 {
				to.Deliver(e)
			}
		}},
		{name: "repeats an event", deliver: func(n int, e *bus.Event, to bus.Handler) {
			to.Deliver(e)
			if n == 3 {
				to.Deliver(e)
			}
		}},
		{name: "swaps two events", deliver: swapping()},
		{name: "wrong seq", deliver: altering(third, func(e *bus.Event) { e.Seq++ })},
		{name: "wrong epoch", deliver: altering(third, func(e *bus.Event) { e.Epoch += "x" })},
		{name: "another body", deliver: altering(kind(bus.Chat), func(e *bus.Event) { e.Body = append(e.Body, ' ') })},
		{name: "loses the trace", deliver: altering(kind(bus.Chat), func(e *bus.Event) { e.Trace = bus.Trace{} })},
		{name: "loses the key", deliver: altering(kind(bus.Chat), func(e *bus.Event) { e.Key = "" })},
		{name: "loses the reason", deliver: altering(kind(bus.Left), func(e *bus.Event) { e.Reason = "" })},
		{name: "wrong count of a join", deliver: altering(kind(bus.Joined), func(e *bus.Event) { e.Count++ })},
		{name: "one version for all", deliver: altering(kind(bus.Left), func(e *bus.Event) { e.Version = 1 })},
		{name: "redaction without target", deliver: altering(kind(bus.Redacted), func(e *bus.Event) { e.TargetSeq = 0 })},
		{name: "no joins", deliver: func(_ int, e *bus.Event, to bus.Handler) {
			if e.Kind != bus.Joined {
				to.Deliver(e)
			}
		}},
		{name: "leaves told twice", deliver: func(_ int, e *bus.Event, to bus.Handler) {
			to.Deliver(e)
			if e.Kind == bus.Left {
				to.Deliver(e)
			}
		}},
		{name: "a phantom message", deliver: func(n int, e *bus.Event, to bus.Handler) {
			to.Deliver(e)
			if n == 2 {
				to.Deliver(&bus.Event{Kind: bus.Chat, Room: e.Room, ID: bus.NewMessageID(), Time: 1})
			}
		}},
		{name: "a sequenced signal", deliver: altering(kind(bus.Signal), func(e *bus.Event) { e.Seq = 1 })},
		{name: "a needless notice", deliver: func(n int, e *bus.Event, to bus.Handler) {
			if n == 3 {
				to.Deliver(&bus.Event{Kind: bus.Notice, Room: e.Room, Notice: bus.NoticeLost, From: 1, To: 2, Time: 1})
			}
			to.Deliver(e)
		}},
		{name: "no signals", directedOnly: true, deliver: func(_ int, e *bus.Event, to bus.Handler) {
			if e.Kind != bus.Signal {
				to.Deliver(e)
			}
		}},
		{name: "writes to an event later", deliver: func(n int, e *bus.Event, to bus.Handler) {
			c := clone(e)
			to.Deliver(&c)
			if n == 2 && len(c.Body) > 0 {
				c.Body[0]++
			}
		}},
	}
}

func replyMutants() []mutant {
	return []mutant{
		{name: "forgets presence", wrap: func(b bus.Bus) bus.Bus {
			return replies{Bus: b, before: func(ctx context.Context, e *bus.Entry) {
				_ = b.Leave(ctx, &bus.Leaving{Room: e.Room, Member: e.Member})
			}}
		}},
		{name: "no capacity", wrap: entryMutant(func(e *bus.Entry) { e.Max = 0 })},
		{name: "capacity off by one", wrap: entryMutant(func(e *bus.Entry) {
			if e.Max > 0 {
				e.Max++
			}
		})},
		{name: "creates twice", wrap: entryMutant(func(e *bus.Entry) { e.Create = bus.MayCreate })},
		{name: "ignores creation keys", wrap: entryMutant(func(e *bus.Entry) { e.CreateKey = "" })},
		{name: "announces nothing", wrap: entryMutant(func(e *bus.Entry) { e.Announce = false })},
		{name: "announces everything", wrap: entryMutant(func(e *bus.Entry) { e.Announce = true })},
		{name: "never forgets", directedOnly: true, wrap: entryMutant(func(e *bus.Entry) { e.Idle += 100 * time.Hour })},
		{name: "forgets at once", directedOnly: true, wrap: entryMutant(func(e *bus.Entry) { e.Idle, e.Retention.For = 0, 1 })},
		{name: "reads one too many", wrap: entryMutant(func(e *bus.Entry) {
			if e.Resume != nil && e.Resume.Seq > 0 {
				e.Resume = &bus.Position{Epoch: e.Resume.Epoch, Seq: e.Resume.Seq - 1}
			}
		})},
		{name: "resume without bounds", wrap: entryMutant(func(e *bus.Entry) { e.ResumeMax, e.ResumeBytes = 1e6, 1e9 })},
		{name: "always recovered", wrap: enteredMutant(func(e *bus.Entered) { e.Recovered = true })},
		{name: "position behind", wrap: enteredMutant(func(e *bus.Entered) {
			if e.Seq > 0 {
				e.Seq--
			}
		})},
		{name: "wrong oldest", wrap: enteredMutant(func(e *bus.Entered) { e.OldestHistory++ })},
		{name: "lists one less", wrap: enteredMutant(func(e *bus.Entered) { e.Members = e.Members[1:] })},
		{name: "one version", wrap: enteredMutant(func(e *bus.Entered) { e.Version = 1 })},
		{name: "does not leave", wrap: func(b bus.Bus) bus.Bus { return stays{b} }},
		{name: "no grace", wrap: leaveMutant(func(l *bus.Leaving) { l.Grace = 0 })},
		{name: "endless grace", directedOnly: true, wrap: leaveMutant(func(l *bus.Leaving) { l.Grace *= 1000 })},
		{name: "history without the newest", wrap: func(b bus.Bus) bus.Bus { return shortHistory{b} }},
		{name: "history one too many", wrap: func(b bus.Bus) bus.Bus { return longHistory{b} }},
		{name: "pages without end", wrap: func(b bus.Bus) bus.Bus { return samePage{b} }},
		{name: "subscribes too late", wrap: func(b bus.Bus) bus.Bus { return lateSubscriber{b} }},
		{name: "unsubscribes all at once", wrap: func(b bus.Bus) bus.Bus { return &uncounted{Bus: b, n: make(map[string]int)} }},
		{name: "redacts without a trace", wrap: func(b bus.Bus) bus.Bus { return deafRedact{b} }},
	}
}

func publishMutants() []mutant {
	return []mutant{
		{name: "ignores keys", wrap: messageMutant(func(m *bus.Message) { m.Event.Key, m.Key = m.Key, "" })},
		{name: "ignores digests", wrap: messageMutant(func(m *bus.Message) { m.Digest = [16]byte{} })},
		{name: "one key for all members", directedOnly: true, wrap: messageMutant(func(m *bus.Message) {
			if m.Key != "" {
				m.Event.Sender.Member, m.Key = "everybody", m.Event.Sender.Member+m.Key
			}
		})},
		{name: "keeps too little", wrap: messageMutant(func(m *bus.Message) { m.Retention.Keep = min(m.Retention.Keep, 4) })},
		{name: "keeps too much", wrap: messageMutant(func(m *bus.Message) { m.Retention.Keep *= 2 })},
		{name: "stores plain messages", wrap: messageMutant(func(m *bus.Message) { m.Retention.Keep = max(m.Retention.Keep, 1) })},
		{name: "stores nothing", wrap: messageMutant(func(m *bus.Message) { m.Retention = plain })},
		{name: "calls a receipt twice", wrap: receiptMutant(func(r bus.Receipt, got bus.Result) { r.Published(got); r.Published(got) })},
		{name: "never calls a receipt", wrap: receiptMutant(func(bus.Receipt, bus.Result) {})},
		{name: "a receipt ahead", wrap: receiptMutant(func(r bus.Receipt, got bus.Result) { got.Seq++; r.Published(got) })},
		{name: "silent repeats", wrap: receiptMutant(func(r bus.Receipt, got bus.Result) { got.Duplicate = false; r.Published(got) })},
		{name: "swaps two messages", wrap: func(b bus.Bus) bus.Bus { return &swapper{Bus: b} }},
		{name: "loses what is gathered", directedOnly: true, wrap: func(b bus.Bus) bus.Bus { return &forgetful{Bus: b} }},
		{name: "takes messages after Close", directedOnly: true, wrap: func(b bus.Bus) bus.Bus { return undead{b} }},
	}
}

// forgetful does nothing with the last that is published before Flush.
type forgetful struct {
	bus.Bus
	mu   sync.Mutex
	open int
	last func()
}

func (f *forgetful) Gather() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open++
	f.last = nil
	f.Bus.Gather()
}

func (f *forgetful) Publish(m *bus.Message, r bus.Receipt) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.last != nil {
		f.last()
		f.last = nil
	}
	if f.open == 0 {
		return f.Bus.Publish(m, r)
	}
	f.last = func() { _ = f.Bus.Publish(m, r) }
	return nil
}

func (f *forgetful) Flush() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open--
	f.Bus.Flush()
}

// replies wraps Enter, before and after.
type replies struct {
	bus.Bus
	before func(context.Context, *bus.Entry)
	after  func(*bus.Entered)
}

func (r replies) Enter(ctx context.Context, e *bus.Entry) (*bus.Entered, error) {
	c := *e
	if r.before != nil {
		r.before(ctx, &c)
	}
	entered, err := r.Bus.Enter(ctx, &c)
	if err == nil && r.after != nil {
		r.after(entered)
	}
	return entered, err
}

func entryMutant(change func(*bus.Entry)) func(bus.Bus) bus.Bus {
	return func(b bus.Bus) bus.Bus {
		return replies{Bus: b, before: func(_ context.Context, e *bus.Entry) { change(e) }}
	}
}

func enteredMutant(change func(*bus.Entered)) func(bus.Bus) bus.Bus {
	return func(b bus.Bus) bus.Bus { return replies{Bus: b, after: change} }
}

type stays struct{ bus.Bus }

func (stays) Leave(context.Context, *bus.Leaving) error { return nil }

type leaver struct {
	bus.Bus
	change func(*bus.Leaving)
}

func (b leaver) Leave(ctx context.Context, l *bus.Leaving) error {
	c := *l
	b.change(&c)
	return b.Bus.Leave(ctx, &c)
}

func leaveMutant(change func(*bus.Leaving)) func(bus.Bus) bus.Bus {
	return func(b bus.Bus) bus.Bus { return leaver{b, change} }
}

type shortHistory struct{ bus.Bus }

func (b shortHistory) History(ctx context.Context, q bus.HistoryQuery) (bus.HistoryPage, error) {
	page, err := b.Bus.History(ctx, q)
	page.Events = page.Events[:max(0, len(page.Events)-1)]
	return page, err
}

type longHistory struct{ bus.Bus }

func (b longHistory) History(ctx context.Context, q bus.HistoryQuery) (bus.HistoryPage, error) {
	q.Limit++
	return b.Bus.History(ctx, q)
}

type samePage struct{ bus.Bus }

func (b samePage) Members(ctx context.Context, room, _ string, limit int) (bus.MemberPage, error) {
	return b.Bus.Members(ctx, room, "", limit)
}

type lateSubscriber struct{ bus.Bus }

func (b lateSubscriber) Subscribe(ctx context.Context, room string, keeps bool) (bus.Position, error) {
	at, err := b.Bus.Subscribe(ctx, room, keeps)
	if at.Seq > 0 {
		at.Seq--
	}
	return at, err
}

type uncounted struct {
	bus.Bus
	mu sync.Mutex
	n  map[string]int
}

func (b *uncounted) Subscribe(ctx context.Context, room string, keeps bool) (bus.Position, error) {
	b.mu.Lock()
	b.n[room]++
	b.mu.Unlock()
	return b.Bus.Subscribe(ctx, room, keeps)
}

func (b *uncounted) Unsubscribe(room string) {
	b.mu.Lock()
	n := b.n[room]
	b.n[room] = 0
	b.mu.Unlock()
	for range n {
		b.Bus.Unsubscribe(room)
	}
}

// deafRedact answers as if it had redacted.
type deafRedact struct{ bus.Bus }

func (b deafRedact) Redact(ctx context.Context, q *bus.Redaction) (bus.Position, error) {
	page, err := b.History(ctx, bus.HistoryQuery{Room: q.Room, Limit: 1})
	page.Seq++
	return page.Position, err
}

type publisher struct {
	bus.Bus
	change  func(*bus.Message)
	receipt func(bus.Receipt, bus.Result)
}

func (b publisher) Publish(m *bus.Message, r bus.Receipt) error {
	c := *m
	if b.change != nil {
		b.change(&c)
	}
	if b.receipt != nil {
		r = altered{r, b.receipt}
	}
	return b.Bus.Publish(&c, r)
}

type altered struct {
	to   bus.Receipt
	call func(bus.Receipt, bus.Result)
}

func (r altered) Published(got bus.Result) { r.call(r.to, got) }

func messageMutant(change func(*bus.Message)) func(bus.Bus) bus.Bus {
	return func(b bus.Bus) bus.Bus { return publisher{Bus: b, change: change} }
}

func receiptMutant(call func(bus.Receipt, bus.Result)) func(bus.Bus) bus.Bus {
	return func(b bus.Bus) bus.Bus { return publisher{Bus: b, receipt: call} }
}

// swapper holds every fourth message back until the next, or a second later.
type swapper struct {
	bus.Bus
	mu   sync.Mutex
	n    int
	held func()
}

func (b *swapper) Publish(m *bus.Message, r bus.Receipt) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.n++; b.n%4 == 0 && b.held == nil {
		b.held = sync.OnceFunc(func() { _ = b.Bus.Publish(m, r) })
		time.AfterFunc(time.Second, b.held)
		return nil
	}
	err := b.Bus.Publish(m, r)
	if b.held != nil {
		b.held()
		b.held = nil
	}
	return err
}

type undead struct{ bus.Bus }

func (undead) Publish(_ *bus.Message, r bus.Receipt) error {
	r.Published(bus.Result{})
	return nil
}
