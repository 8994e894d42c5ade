// Package bustest is the one suite that every implementation of bus.Bus passes.
// It has directed tests, each named for the obligation it checks, and a random
// test that compares every reply and every delivery with a small model of the
// contract.
//
// An implementation calls it from its own test:
//
//	func TestContract(t *testing.T) {
//		bustest.Run(t, func(t testing.TB, n int) *bustest.Backend {
//			prefix := freshPrefix()       // rooms of one backend are nobody else's
//			b := &bustest.Backend{}
//			for range n {
//				b.Instances = append(b.Instances, redisbus.New(…))
//			}
//			b.Interrupt = func(i int) { … }
//			return b
//		}, bustest.Capabilities{Faults: true, Lease: time.Second})
//	}
//
// The suite starts and closes the instances. What a test waits for is a
// delivery or a state, with Capabilities.Timeout as the bound; it never sleeps
// to synchronise. A random run that fails prints its seed and the shortest list
// of operations that it could find; -bustest.seed and -bustest.ops repeat it.
package bustest

import (
	"flag"
	"testing"
	"time"

	"github.com/wsrelay/relay/internal/bus"
)

var (
	seedFlag = flag.Uint64("bustest.seed", 1, "seed of the random bus test; 0: a new one each run")
	opsFlag  = flag.Int("bustest.ops", 2000, "operations of the random bus test")
)

// Factory makes a backend with n instances that are not started yet. Whatever
// else it starts, it stops in t.Cleanup.
type Factory func(t testing.TB, n int) *Backend

// Backend is what the instances share, and the faults that can be done to it.
// A nil hook is a fault the backend cannot suffer; its tests are skipped.
type Backend struct {
	Instances []bus.Bus

	// Another makes one more instance, which is not started; the test closes it.
	Another func() bus.Bus

	// Interrupt cuts what instance i receives from its connections and returns
	// when they are cut. The instance heals by itself.
	Interrupt func(i int)
	// Flush empties the backend behind the instances' backs.
	Flush func()
	// Down makes the backend unreachable, Up brings it back with its data.
	Down, Up func()
	// Kill stops instance i as a crash would: nothing more goes out, nothing is
	// given back. The suite closes it afterwards all the same.
	Kill func(i int)
}

// Capabilities say how to run the suite on a backend.
type Capabilities struct {
	// Bubble runs a test in virtual time, as synctest.Test does; nil: real time.
	Bubble func(t *testing.T, test func(*testing.T))
	// Timeout bounds the wait for what must come; default 10 s.
	Timeout time.Duration
	// Short is a grace, idle or retention time that a test can wait for; it
	// must be long against a round trip. Default 300 ms.
	Short time.Duration
	// Lease is after how long a killed or closed instance's presence is seen to
	// be without an owner; 0: not tested.
	Lease time.Duration
	// MaxSanctions is the bound on sanctions that the instances were made with; 0:
	// not tested. At least 20.
	MaxSanctions int
	// ExactKeep says that a room never holds more than Retention.Keep events;
	// otherwise it may hold more for a while.
	ExactKeep bool
	// Faults says that Backend has hooks: their tests run, and one whose hook
	// is missing is reported as skipped rather than left out.
	Faults bool
}

func (c Capabilities) withDefaults() Capabilities {
	if c.Timeout <= 0 {
		c.Timeout = 10 * time.Second
	}
	if c.Short <= 0 {
		c.Short = 300 * time.Millisecond
	}
	if c.Bubble == nil {
		c.Bubble = func(t *testing.T, test func(*testing.T)) { test(t) }
	}
	return c
}

// contract is one obligation and the test for it.
type contract struct {
	name      string
	instances int
	test      func(*session)
}

// Run runs the whole suite.
func Run(t *testing.T, factory Factory, caps Capabilities) {
	caps = caps.withDefaults()
	all := contracts()
	if caps.Faults {
		all = append(all, faultContracts()...)
		all = append(all, sanctionFaultContracts()...)
	}
	for _, c := range all {
		t.Run(c.name, func(t *testing.T) {
			caps.Bubble(t, func(t *testing.T) { c.run(t, factory, caps) })
		})
	}
	t.Run("CloseBeforeStart", func(t *testing.T) {
		caps.Bubble(t, func(t *testing.T) { closeUnstarted(t, factory) })
	})
	t.Run("RandomOperationsMatchTheModel", func(t *testing.T) {
		seed := *seedFlag
		if seed == 0 {
			seed = uint64(time.Now().UnixNano())
		}
		caps.Bubble(t, func(t *testing.T) { runRandom(t, factory, caps, seed, *opsFlag) })
	})
}

func contracts() []contract {
	var all []contract
	all = append(all, orderContracts()...)
	all = append(all, presenceContracts()...)
	all = append(all, capacityContracts()...)
	all = append(all, historyContracts()...)
	all = append(all, resumeContracts()...)
	all = append(all, sanctionContracts()...)
	all = append(all, contract{"AShadowIsNoPartOfTheStream", 2, shadowed})
	return append(all, lifecycleContracts()...)
}

func (c contract) run(t testing.TB, factory Factory, caps Capabilities) {
	s := newSession(t, factory, caps, c.instances)
	defer s.close()
	c.test(s)
	s.verify()
}
