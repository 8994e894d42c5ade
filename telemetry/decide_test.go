package telemetry

import (
	"crypto/rand"
	"encoding/binary"
	"math"
	"testing"
	"time"
)

func randomID() (id [16]byte) {
	_, _ = rand.Read(id[:])
	return id
}

func TestSharesAreKept(t *testing.T) {
	tr := &Traces{}
	for _, p := range []float64{0, 0.001, 0.01, 0.25, 1} {
		const n = 200_000
		got := 0
		o := Origin{Sample: Share(p)}
		for range n {
			if tr.Decide(randomID(), &o, 0).Sampled() {
				got++
			}
		}
		// Six standard deviations: wrong once in a billion runs.
		if off := math.Abs(float64(got) - p*n); off > 6*math.Sqrt(n*p*(1-p)) {
			t.Errorf("a share of %v took %d of %d", p, got, n)
		}
	}
}

// The examples are those of OTel's specification of probability sampling
// (trace/tracestate-probability-sampling.md): a threshold of c is 25 %, and an
// id is taken when its 56 rightmost bits are not below it.
func TestSharesAreThoseOfTheSpecification(t *testing.T) {
	for _, c := range []struct {
		share float64
		low   [8]byte // of the id
		want  bool
	}{
		{0.25, [8]byte{0xff, 0xc0}, true},
		{0.25, [8]byte{0xff, 0xbf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, false},
		{0.5, [8]byte{0, 0x80}, true},
		{0.5, [8]byte{0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, false},
		{1, [8]byte{}, true},
		{0, [8]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, false},
		{math.NaN(), [8]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, false},
	} {
		id := [16]byte{1}
		copy(id[8:], c.low[:])
		if got := Share(c.share).takes(binary.BigEndian.Uint64(id[8:])); got != c.want {
			t.Errorf("%v of %x: %v", c.share, c.low, got)
		}
	}
}

func TestWhoDecides(t *testing.T) {
	id := [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9}
	all, none := Share(1), Share(0)
	sampled := Context{TraceID: [16]byte{9}, SpanID: [8]byte{9}, Flags: FlagSampled}
	unsampled := Context{TraceID: [16]byte{9}, SpanID: [8]byte{9}}
	for name, c := range map[string]struct {
		origin Origin
		room   Sampler
		want   byte
	}{
		"the endpoint, when nobody else says":   {Origin{Sample: all}, 0, FlagSampled},
		"nobody":                                {Origin{}, 0, 0},
		"the room before the endpoint, yes":     {Origin{Sample: none}, all, FlagSampled},
		"the room before the endpoint, no":      {Origin{Sample: all}, none, 0},
		"a trusted parent before the room, yes": {Origin{Sample: none, Parent: sampled}, none, FlagSampled},
		"a trusted parent before the room, no":  {Origin{Sample: all, Parent: unsampled}, all, 0},
		"debug before all":                      {Origin{Sample: none, Parent: unsampled, Debug: true}, none, FlagSampled | FlagDebug},
		"a link is only a link":                 {Origin{Sample: none, Link: sampled}, none, 0},
	} {
		got := (&Traces{}).Decide(id, &c.origin, c.room)
		if got.Flags != c.want {
			t.Errorf("%s: flags %x, want %x", name, got.Flags, c.want)
		}
		if got.TraceID != c.origin.Parent.TraceID {
			t.Errorf("%s: trace %x", name, got.TraceID)
		}
		if got.SpanID != PublishSpan(id) {
			t.Errorf("%s: span %x", name, got.SpanID)
		}
		if off := (*Traces)(nil).Decide(id, &c.origin, c.room); off.Sampled() {
			t.Errorf("%s: sampled although tracing is off", name)
		}
	}
}

func TestClientsContextsAreTakenAsTheEndpointSays(t *testing.T) {
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	now := time.Unix(1000, 0)
	for mode, want := range map[ClientMode][2]bool{Ignore: {}, Link: {false, true}, Trust: {true, false}} {
		o := NewEntrance(EntranceOptions{Sample: Share(1), Client: mode}).Origin([]byte(parent), now)
		if got := [2]bool{!o.Parent.IsZero(), !o.Link.IsZero()}; got != want {
			t.Errorf("mode %d: parent and link %v, want %v", mode, got, want)
		}
		if o.Sample != Share(1) {
			t.Errorf("mode %d: the endpoint's share is lost", mode)
		}
	}
	e := NewEntrance(EntranceOptions{Client: Trust, ClientRate: 10})
	count := func() (n int) {
		for range 50 {
			if !e.Origin([]byte(parent), now).Parent.IsZero() {
				n++
			}
		}
		return n
	}
	if n := count(); n != 10 {
		t.Errorf("a bucket of 10 gave %d", n)
	}
	if o := e.Origin([]byte("nonsense"), now.Add(time.Hour)); !o.Parent.IsZero() {
		t.Error("nonsense was taken for a parent")
	}
	now = now.Add(500 * time.Millisecond)
	if n := count(); n != 5 {
		t.Errorf("half a second of 10 a second gave %d", n)
	}
	if o := (*Entrance)(nil).Origin([]byte(parent), now); o != (Origin{}) {
		t.Errorf("an endpoint without tracing: %v", o)
	}
}

func TestBucketRefillsAndNeverOverflows(t *testing.T) {
	var b bucket
	now := time.Unix(5000, 0)
	if b.take(now) {
		t.Error("a bucket of nothing gave something")
	}
	b.set(4)
	take := func() (n int) {
		for b.take(now) {
			n++
		}
		return n
	}
	for _, step := range []struct {
		after time.Duration
		want  int
	}{{0, 4}, {250 * time.Millisecond, 1}, {time.Second, 4}, {time.Hour, 4}, {-time.Hour, 0}, {time.Hour, 0}, {500 * time.Millisecond, 2}} {
		now = now.Add(step.after)
		if n := take(); n != step.want {
			t.Errorf("%v later: %d, want %d", step.after, n, step.want)
		}
	}
	b.set(0.5)
	now = now.Add(2 * time.Second)
	if n := take(); n != 1 {
		t.Errorf("half a token a second gave %d in two", n)
	}
	b.set(0)
	if now = now.Add(time.Hour); b.take(now) {
		t.Error("a bucket set to nothing gave something")
	}
}
