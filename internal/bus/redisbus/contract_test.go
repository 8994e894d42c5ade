package redisbus_test

import (
	"flag"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/wsrelay/relay/internal/bus"
	"github.com/wsrelay/relay/internal/bus/bustest"
	"github.com/wsrelay/relay/internal/bus/redisbus"
	"github.com/wsrelay/relay/internal/bus/redisbus/redistest"
)

func TestMain(m *testing.M) {
	flag.Parse()
	// These tests wait for servers more than they compute.
	if err := flag.Set("test.parallel", "6"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// quick are timings that let a test see what takes long in life.
var quick = redisbus.Timings{
	Lease: time.Second, Probe: 50 * time.Millisecond, Silence: 2 * time.Second, Linger: 200 * time.Millisecond,
	Compare: 400 * time.Millisecond, Sweep: 50 * time.Millisecond, GiveUp: 3 * time.Second, Dial: 600 * time.Millisecond, Reply: 600 * time.Millisecond,
}

// steady is for the suite, which is not about answers that are late, and is run on
// machines that have a lot to do.
var steady = func() redisbus.Timings {
	t := quick
	t.Dial, t.Reply = 1500*time.Millisecond, 1500*time.Millisecond
	return t
}()

// maxSanctions is a bound that the suite can reach.
const maxSanctions = 20

func newBus(t testing.TB, o redisbus.Options) *redisbus.Bus {
	t.Helper()
	if o.Timings == (redisbus.Timings{}) {
		o.Timings = quick
	}
	if testing.Verbose() {
		o.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	b, err := redisbus.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestContract gives every instance a proxy of its own to one server.
func TestContract(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	n := 0
	bustest.Run(t, func(t testing.TB, count int) *bustest.Backend {
		n++
		b := &bustest.Backend{}
		o := redisbus.Options{Timings: steady, Prefix: fmt.Sprint("test", n), MaxSanctions: maxSanctions}
		var ways []*redistest.Proxy
		b.Another = func() bus.Bus {
			way := redistest.NewProxy(t, server.Addr())
			ways = append(ways, way)
			o.URL = way.URL()
			return newBus(t, o)
		}
		for range count {
			b.Instances = append(b.Instances, b.Another())
		}
		b.Interrupt = func(i int) { ways[i].Cut() }
		b.Kill = func(i int) { ways[i].Refuse() }
		b.Flush = func() { server.Do("FLUSHALL") }
		b.Down, b.Up = server.Freeze, server.Thaw
		return b
	}, bustest.Capabilities{Lease: quick.Lease, Faults: true, MaxSanctions: maxSanctions})
}
