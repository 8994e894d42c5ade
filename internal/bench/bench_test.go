package bench

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// fake is a network with a relay behind it that delivers after a delay, in
// virtual time. meddle may change what one receiver gets of one message: which
// copies of it, how late.
type fake struct {
	t     *testing.T
	l     *load
	clock time.Duration
	delay time.Duration
	queue []parcel // by time
	full  map[int]bool
	// meddle returns the delays of the copies that a receiver gets.
	meddle func(to *sock, number uint64, delay time.Duration) []time.Duration
	refuse func(number uint64) bool
}

type parcel struct {
	at   time.Duration
	to   int
	data []byte
	err  error
}

func (f *fake) add(int, net.Conn) error { return nil }
func (f *fake) drop(int)                {}
func (f *fake) close()                  {}

func (f *fake) backlog(id int) int {
	if f.full[id] {
		return backlogMax + 1
	}
	return 0
}

func (f *fake) post(p parcel) {
	i, _ := slices.BinarySearchFunc(f.queue, p, func(a, b parcel) int {
		if a.at <= b.at { // behind those of the same time
			return -1
		}
		return 1
	})
	f.queue = slices.Insert(f.queue, i, p)
}

func (f *fake) write(id int, b []byte) {
	_, payload, ok := unmask(b)
	if !ok {
		f.t.Fatalf("not one frame: %q", b)
	}
	st, ok := findStamp(payload, f.l.mark)
	if !ok {
		return
	}
	from := f.l.socks[id]
	if f.refuse != nil && f.refuse(st.number) {
		f.post(parcel{at: f.clock + f.delay, to: id, data: serverFrame(`{"type":"error","code":"rate_limited","message":"too many"}`)})
		return
	}
	for _, to := range f.l.socks {
		if to.room != from.room || to == from {
			continue
		}
		delays := []time.Duration{f.delay}
		if f.meddle != nil {
			delays = f.meddle(to, st.number, f.delay)
		}
		for _, d := range delays {
			f.post(parcel{at: f.clock + d, to: to.id, data: serverFrame(`{"type":"chat","roomId":"r",` + string(payload[bytes.Index(payload, []byte(`"message"`)):]))})
		}
	}
}

func (f *fake) wait(d time.Duration, take func(int, []byte, error)) {
	until := f.clock + max(d, 0)
	if len(f.queue) > 0 && f.queue[0].at <= until {
		f.clock = max(f.clock, f.queue[0].at)
		for len(f.queue) > 0 && f.queue[0].at <= f.clock {
			p := f.queue[0]
			f.queue = f.queue[1:]
			take(p.to, p.data, p.err)
		}
		return
	}
	f.clock = until
}

func serverFrame(payload string) []byte {
	b := appendFrame(nil, opText, []byte(payload))
	head := len(b) - len(payload)
	b[1] &= 0x7f
	return slices.Delete(b, head-4, head) // the mask
}

func unmask(b []byte) (op byte, payload []byte, ok bool) {
	c := slices.Clone(b)
	head := map[byte]int{126: 4, 127: 10}[c[1]&0x7f]
	if head == 0 {
		head = 2
	}
	c[1] &= 0x7f
	c = slices.Delete(c, head, head+4)
	op, payload, rest, ok, err := cutFrame(c)
	return op, payload, ok && err == nil && len(rest) == 0
}

// virtual runs a load over the fake network.
func virtual(t *testing.T, opt Options, change func(*fake)) *Result {
	t.Helper()
	opt.URLs = append(opt.URLs, "ws://localhost/ws")[:max(len(opt.URLs), 1)]
	opt.Rooms, opt.Senders, opt.Size = max(opt.Rooms, 1), max(opt.Senders, 1), 128
	opt.Warm, opt.Duration, opt.Drain = time.Second, 10*time.Second, 5*time.Second
	if err := opt.validate(); err != nil {
		t.Fatal(err)
	}
	f := &fake{t: t, delay: 3 * time.Millisecond, full: make(map[int]bool)}
	f.l = newLoad(&opt, f, func() time.Duration { return f.clock }, "abcdefgh")
	for _, s := range f.l.socks {
		s.state = joining
		f.l.take(s.id, serverFrame(`{"type":"joined","roomId":"r"}`), nil)
	}
	if f.l.joined != len(f.l.socks) {
		t.Fatal("not everybody joined")
	}
	if change != nil {
		change(f)
	}
	return f.l.run(t.Context())
}

func TestAHealthyRunIsSound(t *testing.T) {
	for name, opt := range map[string]Options{
		"rate":         {Rooms: 3, Members: 5, Rate: 100},
		"in flight":    {Rooms: 3, Members: 5, InFlight: 4},
		"many senders": {Rooms: 2, Members: 5, Senders: 5, Rate: 100},
		"two servers":  {Rooms: 2, Members: 5, Rate: 100, URLs: []string{"ws://a/", "ws://b/"}},
		"quiet":        {Rooms: 2, Members: 5},
	} {
		t.Run(name, func(t *testing.T) {
			r := virtual(t, opt, nil)
			if !r.Sound() || r.Stalls != 0 || r.Unsent != 0 || len(r.Refused) != 0 {
				t.Errorf("not sound: %+v", r)
			}
			switch {
			case opt.Rate > 0:
				receivers := float64(opt.Members - 1)
				if len(opt.URLs) == 2 {
					receivers++
				}
				if r.MessagesPerSecond != opt.Rate || r.DeliveriesPerSecond != opt.Rate*receivers {
					t.Errorf("%v messages/s and %v deliveries/s at a rate of %v", r.MessagesPerSecond, r.DeliveriesPerSecond, opt.Rate)
				}
			case opt.InFlight > 0: // 4 in each of 3 rooms, every 3 ms, to 4 others
				if want := 3 * 4 * 4 * 1000. / 3; r.DeliveriesPerSecond < want*0.99 || r.DeliveriesPerSecond > want*1.01 {
					t.Errorf("%v deliveries/s, want about %v", r.DeliveriesPerSecond, want)
				}
			default:
				if r.Delivered != 0 || r.Latency != nil {
					t.Errorf("a quiet run has deliveries: %+v", r)
				}
				return
			}
			if r.Latency.P50 < 3000 || r.Latency.Max > 3100 {
				t.Errorf("latency %v, want 3 ms", r.Latency)
			}
		})
	}
}

// What goes wrong is seen, and taken for what it is.
func TestPlantedFaultsAreReported(t *testing.T) {
	for name, c := range map[string]struct {
		meddle                     func(to *sock, number uint64, d time.Duration) []time.Duration
		lost, outOfOrder, repeated int64
	}{
		"loss": {meddle: func(to *sock, n uint64, d time.Duration) []time.Duration {
			if to.id == 2 && n == 17 {
				return nil
			}
			return []time.Duration{d}
		}, lost: 1},
		"loss of the last": {meddle: func(to *sock, n uint64, d time.Duration) []time.Duration {
			if n == 1100 {
				return nil
			}
			return []time.Duration{d}
		}, lost: 4},
		"swap": {meddle: func(to *sock, n uint64, d time.Duration) []time.Duration {
			if to.id == 3 && n == 20 {
				return []time.Duration{d + 15*time.Millisecond} // after the next
			}
			return []time.Duration{d}
		}, outOfOrder: 1},
		"repeat": {meddle: func(to *sock, n uint64, d time.Duration) []time.Duration {
			if to.id == 1 && n%100 == 0 {
				return []time.Duration{d, d + 50*time.Millisecond}
			}
			return []time.Duration{d}
		}, repeated: 11},
		"a loss and a repeat do not cancel out": {meddle: func(to *sock, n uint64, d time.Duration) []time.Duration {
			switch n {
			case 30:
				return nil
			case 31:
				return []time.Duration{d, d}
			}
			return []time.Duration{d}
		}, lost: 4, repeated: 4},
	} {
		t.Run(name, func(t *testing.T) {
			r := virtual(t, Options{Members: 5, Rate: 100}, func(f *fake) { f.meddle = c.meddle })
			if r.Lost != c.lost || r.OutOfOrder != c.outOfOrder || r.Repeated != c.repeated {
				t.Errorf("lost %d, out of order %d, repeated %d, want %d, %d, %d", r.Lost, r.OutOfOrder, r.Repeated, c.lost, c.outOfOrder, c.repeated)
			}
			if r.Sound() {
				t.Error("called sound")
			}
		})
	}
}

// A server that stalls is asked no less, and the messages that waited tell.
func TestLatencyCountsFromWhenAMessageWasDue(t *testing.T) {
	r := virtual(t, Options{Members: 5, Rate: 100}, func(f *fake) {
		f.meddle = func(_ *sock, n uint64, d time.Duration) []time.Duration {
			if n >= 300 && n < 400 { // one second, in which everything waits for its end
				return []time.Duration{d + time.Duration(400-n)*10*time.Millisecond}
			}
			return []time.Duration{d}
		}
	})
	if !r.Sound() {
		t.Errorf("not sound: %+v", r)
	}
	// A tenth of the messages waited, for half a second on average.
	if r.Latency.P50 > 3100 || r.Latency.P99 < 800_000 || r.Latency.Max < 1_000_000 {
		t.Errorf("latency %v, want p50 of 3 ms and p99 of about 900 ms", r.Latency)
	}
}

func TestRefusedMessagesAreNeitherLostNorPressed(t *testing.T) {
	for name, opt := range map[string]Options{"rate": {Members: 5, Rate: 100}, "in flight": {Members: 5, InFlight: 4}} {
		t.Run(name, func(t *testing.T) {
			r := virtual(t, opt, func(f *fake) { f.refuse = func(n uint64) bool { return n%10 == 0 } })
			if r.Lost != 0 || r.Refused["rate_limited"] == 0 {
				t.Errorf("lost %d, refused %v", r.Lost, r.Refused)
			}
		})
	}
	r := virtual(t, Options{Members: 5, InFlight: 4}, func(f *fake) { f.refuse = func(uint64) bool { return true } })
	if n := r.Refused["rate_limited"]; n == 0 || n > 200 {
		t.Errorf("asked %d times in 11 s, though always refused", n)
	}
}

func TestASenderWithLostMessagesGoesOn(t *testing.T) {
	r := virtual(t, Options{Members: 5, InFlight: 2}, func(f *fake) {
		f.meddle = func(_ *sock, n uint64, d time.Duration) []time.Duration {
			if n == 10 || n == 11 {
				return nil
			}
			return []time.Duration{d}
		}
	})
	if r.Lost != 8 || r.Stalls != 1 || r.Delivered < 1000 {
		t.Errorf("lost %d with %d stalls, delivered %d", r.Lost, r.Stalls, r.Delivered)
	}
}

func TestAnEndedConnectionIsTold(t *testing.T) {
	r := virtual(t, Options{Members: 5, Rate: 100}, func(f *fake) {
		f.post(parcel{at: 2 * time.Second, to: 4, data: []byte{0x88, 6, 0x11, 0x4d, 's', 'l', 'o', 'w'}})
		f.post(parcel{at: 3 * time.Second, to: 3, err: errors.New("reset")})
	})
	if r.Closed != 2 || !strings.Contains(r.Why, `4429 "slow"`) || r.Lost == 0 || r.Sound() {
		t.Errorf("closed %d (%s), lost %d", r.Closed, r.Why, r.Lost)
	}
}

func TestWhatDoesNotFitIsNotSent(t *testing.T) {
	r := virtual(t, Options{Members: 5, Rate: 100}, func(f *fake) { f.full[0] = true })
	if r.Unsent != 1100 || r.Delivered != 0 || r.Lost != 0 {
		t.Errorf("unsent %d, delivered %d, lost %d", r.Unsent, r.Delivered, r.Lost)
	}
}

func TestARefusedJoinEndsTheRun(t *testing.T) {
	opt := Options{URLs: []string{"ws://a/"}, Rooms: 1, Members: 1, Senders: 1, Size: 128}
	f := &fake{t: t}
	f.l = newLoad(&opt, f, func() time.Duration { return 0 }, "abcdefgh")
	f.l.socks[0].state = joining
	f.l.take(0, serverFrame(`{"type":"error","code":"forbidden","message":"not you","hint":"relay.yaml:7"}`), nil)
	if f.l.res.Closed != 1 || !strings.Contains(f.l.res.Why, "forbidden: not you (relay.yaml:7)") {
		t.Errorf("closed %d: %s", f.l.res.Closed, f.l.res.Why)
	}
}

// Bytes come in any pieces.
func TestFramesComeInPieces(t *testing.T) {
	var stream []byte
	want := 0
	for i, n := range []int{0, 60, 125, 126, 1000, 65535, 65536, 100_000} {
		stream = append(stream, serverFrame(strings.Repeat("x", n))...)
		if i%2 == 0 {
			stream = append(stream, 0x89, 2, 'h', 'i')
			want++
		}
		want++
	}
	opt := Options{URLs: []string{"ws://a/"}, Rooms: 1, Members: 1, Senders: 1, Size: 128}
	for _, most := range []int{1, 7, 4096, len(stream)} {
		pongs := 0
		l := newLoad(&opt, pongCounter{&fake{t: t}, &pongs}, func() time.Duration { return 0 }, "abcdefgh")
		l.socks[0].state = member
		r := rand.New(rand.NewPCG(1, uint64(most)))
		for b := stream; len(b) > 0; {
			n := min(1+r.IntN(most), len(b))
			l.take(0, b[:n], nil)
			b = b[n:]
			if most == 1 && len(b) > 3000 {
				b = b[:3000] // enough of it byte by byte
			}
		}
		if most > 1 && (l.frames != int64(want) || pongs != 4 || l.res.Closed != 0) {
			t.Errorf("pieces of %d: %d frames and %d pongs, want %d and 4; closed: %s", most, l.frames, pongs, want, l.res.Why)
		}
		if len(l.socks[0].rest) > 0 && most > 1 {
			t.Errorf("%d bytes are left over", len(l.socks[0].rest))
		}
	}
}

type pongCounter struct {
	*fake
	n *int
}

func (p pongCounter) write(_ int, b []byte) {
	if op, payload, ok := unmask(b); ok && op == opPong && string(payload) == "hi" {
		*p.n++
	}
}

func TestFragmentsAreRefused(t *testing.T) {
	for _, b := range [][]byte{{0x01, 1, 'x'}, {0x80, 1, 'x'}, {0xc1, 1, 'x'}} {
		if _, _, _, ok, err := cutFrame(b); ok || !errors.Is(err, errFragment) {
			t.Errorf("%x: ok %v, error %v", b, ok, err)
		}
	}
}

func FuzzCutFrame(f *testing.F) {
	f.Add(serverFrame("hello"))
	f.Add([]byte{0x81, 127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		_, payload, rest, ok, err := cutFrame(b)
		if ok && (err != nil || len(payload)+len(rest) >= len(b)) {
			t.Errorf("%x: %d bytes of payload, %d left", b, len(payload), len(rest))
		}
		if !ok && len(rest) != len(b) {
			t.Errorf("%x: took something off without a frame", b)
		}
	})
}

func TestStamps(t *testing.T) {
	b := make([]byte, stampSize)
	want := stamp{sender: 42, number: 123_456_789, due: int64(3 * time.Hour)}
	putStamp(b, "abcdefgh", want)
	if got, ok := findStamp([]byte(`{"message":"`+string(b)+`"}`), []byte("~abcdefgh")); !ok || got != want {
		t.Errorf("%q: %+v, %v", b, got, ok)
	}
	for _, s := range []string{"", "~abcdefgh", string(b[:stampSize-1]), strings.Replace(string(b), "1", "x", 1), strings.Replace(string(b), "a", "b", 1)} {
		if got, ok := findStamp([]byte(s), []byte("~abcdefgh")); ok {
			t.Errorf("%q: found %+v", s, got)
		}
	}
}

func TestTrack(t *testing.T) {
	for _, c := range []struct {
		came  []uint64
		want  string
		count uint64
	}{
		{[]uint64{1, 2, 3}, "[0 0 0]", 3},
		{[]uint64{2, 1}, "[0 1]", 2},
		{[]uint64{1, 1}, "[0 2]", 1},
		{[]uint64{1, 5, 3, 3, 2}, "[0 0 1 2 1]", 4},
		{[]uint64{1, 65, 1}, "[0 0 1]", 2},      // beyond memory: not counted again
		{[]uint64{1, 64, 1}, "[0 0 2]", 2},      // just within
		{[]uint64{1, 1 << 40, 7}, "[0 0 1]", 2}, // a hole that large
	} {
		var tr track
		var got []arrival
		for _, n := range c.came {
			got = append(got, tr.arrive(n))
		}
		if fmt.Sprint(got) != c.want || tr.count != c.count {
			t.Errorf("%v: %v and %d, want %s and %d", c.came, got, tr.count, c.want, c.count)
		}
	}
}

func TestHistogram(t *testing.T) {
	var h histogram
	var all []time.Duration
	r := rand.New(rand.NewPCG(1, 2))
	for range 10_000 {
		d := time.Duration(r.ExpFloat64() * float64(time.Millisecond))
		all = append(all, d)
		h.add(d)
	}
	slices.Sort(all)
	for _, p := range []float64{0.001, 0.5, 0.9, 0.99, 0.999, 1} {
		want := all[int(p*float64(len(all)))-1]
		if got := h.at(p); got < want || float64(got) > float64(want)*33/32+1 {
			t.Errorf("p%v: %v, want %v or up to 3 %% more", 100*p, got, want)
		}
	}
	for _, v := range []uint64{0, 1, 31, 32, 33, 63, 64, 1 << 20, 1<<63 - 1} {
		if b := bucketOf(v); upper(b) < v || b > 0 && upper(b-1) >= v {
			t.Errorf("%d is in bucket %d, which holds %d to %d", v, b, upper(b-1)+1, upper(b))
		}
	}
}

func TestBadOptions(t *testing.T) {
	good := Options{URLs: []string{"ws://localhost/"}, Rooms: 1, Members: 2, Senders: 1, Size: 128, Duration: time.Second, Rate: 1}
	if err := good.validate(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Options){
		"no URL":            func(o *Options) { o.URLs = nil },
		"three URLs":        func(o *Options) { o.URLs = []string{"ws://a", "ws://b", "ws://c"} },
		"http":              func(o *Options) { o.URLs = []string{"http://a"} },
		"no host":           func(o *Options) { o.URLs = []string{"ws:///ws"} },
		"not a URL":         func(o *Options) { o.URLs = []string{"ws://a:b:c"} },
		"no rooms":          func(o *Options) { o.Rooms = 0 },
		"many rooms":        func(o *Options) { o.Rooms = 1 << 40 },
		"many sockets":      func(o *Options) { o.Rooms, o.Members = 1000, 1001 },
		"all tell all":      func(o *Options) { o.Members, o.Senders = 10_000, 10_000 },
		"nobody to hear":    func(o *Options) { o.Members = 1 },
		"too many senders":  func(o *Options) { o.Senders = 3 },
		"rate and window":   func(o *Options) { o.InFlight = 1 },
		"negative rate":     func(o *Options) { o.Rate = -1 },
		"no time":           func(o *Options) { o.Duration = 0 },
		"a week":            func(o *Options) { o.Duration = 7 * 24 * time.Hour },
		"smaller than this": func(o *Options) { o.Size = stampSize - 1 },
		"huge":              func(o *Options) { o.Size = 1 << 20 },
	} {
		o := good
		change(&o)
		if err := o.validate(); !errors.Is(err, ErrOptions) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := (&Options{URLs: []string{"ws://a\x7f/?token=hunter2"}, Rooms: 1, Members: 2, Senders: 1, Size: 128, Duration: 1}).validate(); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a token in a URL is told: %v", err)
	}
}
