package bench

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// Result is what came of a run. Times are in microseconds.
type Result struct {
	Rooms    int     `json:"rooms"`
	Members  int     `json:"members"`
	Senders  int     `json:"senders"`
	Sockets  int     `json:"sockets"`
	Size     int     `json:"size"`
	Rate     float64 `json:"rate,omitempty"`
	InFlight int     `json:"inFlight,omitempty"`

	ConnectsPerSecond float64  `json:"connectsPerSecond"` // with their joins
	Connect           *Latency `json:"connectMicros"`

	Seconds             float64  `json:"seconds"` // that were measured
	MessagesPerSecond   float64  `json:"messagesPerSecond"`
	DeliveriesPerSecond float64  `json:"deliveriesPerSecond"`
	Latency             *Latency `json:"latencyMicros,omitempty"` // from when a message was due to its arrival
	SendLag             *Latency `json:"sendLagMicros,omitempty"` // from when it was due to when it left: the generator's own delay

	// Over the whole run, warm-up included.
	Delivered  int64            `json:"delivered"`
	Lost       int64            `json:"lost"`
	OutOfOrder int64            `json:"outOfOrder"`
	Repeated   int64            `json:"repeated"`
	Refused    map[string]int64 `json:"refused"` // messages that the server did not take, by its error code
	Unsent     int64            `json:"unsent"`  // messages that were due and could not leave, as the server read too slowly
	Stalls     int64            `json:"stalls"`  // times that a sender gave up waiting for its messages in flight
	Closed     int64            `json:"closed"`  // connections that ended
	Why        string           `json:"why,omitempty"`

	BytesPerDelivery  float64 `json:"bytesPerDelivery,omitempty"`
	FramesPerRead     float64 `json:"framesPerRead,omitempty"` // more than one: the server gathers
	GeneratorPerFrame float64 `json:"generatorMicrosPerFrame,omitempty"`
	GeneratorBusy     float64 `json:"generatorBusy"` // of one core, 0 to 1 and more

	dials histogram
}

// Latency is a distribution, in microseconds.
type Latency struct {
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p999"`
	Max  float64 `json:"max"`
}

func latencyOf(h *histogram) *Latency {
	if h.count == 0 {
		return nil
	}
	return &Latency{micros(h.at(0.5)), micros(h.at(0.9)), micros(h.at(0.99)), micros(h.at(0.999)), micros(h.longest)}
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()/100) / 10 }

func (r *Result) init(o *Options) {
	r.Rooms, r.Members, r.Senders, r.Sockets = o.Rooms, o.Members, o.Senders, o.sockets()
	r.Size, r.Rate, r.InFlight = o.Size, o.Rate, o.InFlight
	r.Refused = make(map[string]int64)
}

func (r *Result) connected(took time.Duration, n int) {
	r.ConnectsPerSecond = round(float64(n) / took.Seconds())
	r.Connect = latencyOf(&r.dials)
}

// Sound reports whether everything arrived, once and in order, and nobody was
// cut off.
func (r *Result) Sound() bool {
	return r.Lost == 0 && r.OutOfOrder == 0 && r.Repeated == 0 && r.Closed == 0
}

// snapshot is the counters of a moment.
type snapshot struct {
	at                                         time.Duration
	delivered, published, frames, reads, bytes int64
	spent                                      time.Duration
}

func (l *load) snapshot() snapshot {
	s := snapshot{at: l.now(), delivered: l.delivered, frames: l.frames, reads: l.reads, bytes: l.bytes, spent: spent()}
	for _, p := range l.senders {
		s.published += p.published
	}
	return s
}

func (l *load) sum(from, to snapshot) *Result {
	r := &l.res
	r.Delivered, r.Lost = l.delivered, l.missing()
	r.Latency, r.SendLag = latencyOf(&l.latency), latencyOf(&l.sendLag)
	seconds := (to.at - from.at).Seconds()
	if seconds <= 0 {
		return r
	}
	r.Seconds = round(seconds)
	r.GeneratorBusy = round((to.spent - from.spent).Seconds() / seconds)
	r.MessagesPerSecond = round(float64(to.published-from.published) / seconds)
	if n := float64(to.delivered - from.delivered); n > 0 {
		r.DeliveriesPerSecond = round(n / seconds)
		r.BytesPerDelivery = round(float64(to.bytes-from.bytes) / n)
		r.FramesPerRead = round(float64(to.frames-from.frames) / float64(to.reads-from.reads))
		r.GeneratorPerFrame = round(micros(to.spent-from.spent) / float64(to.frames-from.frames))
	}
	return r
}

// round keeps what is worth reading.
func round(f float64) float64 {
	if f < 100 {
		return float64(int64(f*1000+0.5)) / 1000
	}
	return float64(int64(f + 0.5))
}

// Print writes the result for people.
func (r *Result) Print(w io.Writer) {
	row := func(name, format string, args ...any) {
		fmt.Fprintf(w, "  %-14s %s\n", name, fmt.Sprintf(format, args...))
	}
	row("connected", "%s sockets, %s a second with their joins; %s", grouped(int64(r.Sockets)), grouped(int64(r.ConnectsPerSecond)), r.Connect)
	if r.Rate > 0 || r.InFlight > 0 {
		row("messages", "%s a second, of %d bytes", grouped(int64(r.MessagesPerSecond)), r.Size)
		row("deliveries", "%s a second, measured for %.1f s", grouped(int64(r.DeliveriesPerSecond)), r.Seconds)
		row("latency", "%s", r.Latency)
		row("lost", "%s of %s", grouped(r.Lost), grouped(r.Delivered+r.Lost))
		row("out of order", "%s", grouped(r.OutOfOrder))
		row("repeated", "%s", grouped(r.Repeated))
		row("refused", "%s", r.refusals())
	}
	if r.Unsent > 0 {
		row("unsent", "%s: the server reads more slowly than messages are due", grouped(r.Unsent))
	}
	if r.Stalls > 0 {
		row("stalls", "%s times a sender waited for a second in vain", grouped(r.Stalls))
	}
	if r.Closed > 0 {
		row("closed", "%s connections; the first: %s", grouped(r.Closed), r.Why)
	}
	if r.GeneratorBusy > 0.9 {
		row("note", "the generator was busy for %.0f %% of a core: it may be what is slow", 100*r.GeneratorBusy)
	}
}

func (r *Result) refusals() string {
	if len(r.Refused) == 0 {
		return "0"
	}
	var list []string
	for _, code := range slices.Sorted(maps.Keys(r.Refused)) {
		list = append(list, code+" "+grouped(r.Refused[code]))
	}
	return strings.Join(list, ", ")
}

// String is for people: milliseconds.
func (l *Latency) String() string {
	if l == nil {
		return "nothing came"
	}
	ms := func(us float64) string { return fmt.Sprintf("%.2f", us/1000) }
	return fmt.Sprintf("p50 %s, p90 %s, p99 %s, p99.9 %s, at most %s ms", ms(l.P50), ms(l.P90), ms(l.P99), ms(l.P999), ms(l.Max))
}

// grouped writes thousands apart.
func grouped(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
