package redisbus_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/wsrelay/relay/internal/bus"
	"github.com/wsrelay/relay/internal/bus/bustest"
	"github.com/wsrelay/relay/internal/bus/redisbus"
	"github.com/wsrelay/relay/internal/bus/redisbus/redistest"
)

func TestContractOnCluster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 0)
	n := 0
	bustest.Run(t, func(t testing.TB, count int) *bustest.Backend {
		n++
		b := &bustest.Backend{}
		o := redisbus.Options{Timings: steady, Cluster: cluster.Addrs(), Prefix: fmt.Sprint("test", n), MaxSanctions: maxSanctions}
		b.Another = func() bus.Bus { return newBus(t, o) }
		for range count {
			b.Instances = append(b.Instances, b.Another())
		}
		// All are cut off, which the suite allows.
		b.Interrupt = func(int) {
			for _, node := range cluster.Nodes {
				node.Do("CLIENT", "KILL", "TYPE", "pubsub")
			}
		}
		b.Flush = func() {
			for _, p := range cluster.Primaries() {
				p.Do("FLUSHALL")
			}
		}
		b.Down = func() {
			for _, node := range cluster.Nodes {
				node.Freeze()
			}
		}
		b.Up = func() {
			for _, node := range cluster.Nodes {
				node.Thaw()
			}
		}
		return b
	}, bustest.Capabilities{Lease: quick.Lease, Faults: true, Timeout: 20 * time.Second, MaxSanctions: maxSanctions})
}

func TestContractOnSentinels(t *testing.T) {
	t.Parallel()
	set := redistest.StartSentinels(t, 30*time.Second)
	n := 0
	bustest.Run(t, func(t testing.TB, count int) *bustest.Backend {
		n++
		b := &bustest.Backend{}
		o := redisbus.Options{
			Timings: steady, Sentinel: &redisbus.Sentinel{Master: set.Name, Addrs: set.Addrs()},
			Prefix: fmt.Sprint("test", n), MaxSanctions: maxSanctions,
		}
		b.Another = func() bus.Bus { return newBus(t, o) }
		for range count {
			b.Instances = append(b.Instances, b.Another())
		}
		b.Interrupt = func(int) { set.Primary().Do("CLIENT", "KILL", "TYPE", "pubsub") }
		b.Flush = func() { set.Primary().Do("FLUSHALL") }
		b.Down, b.Up = set.Servers[0].Freeze, set.Servers[0].Thaw
		return b
	}, bustest.Capabilities{Lease: quick.Lease, Faults: true, MaxSanctions: maxSanctions})
}

// TestFailoverThatLosesWrites: the replica that is promoted has not got the last
// messages. They are told as lost, and what follows is a new epoch.
func TestFailoverThatLosesWrites(t *testing.T) {
	t.Parallel()
	set := redistest.StartSentinels(t, time.Second)
	o := redisbus.Options{Sentinel: &redisbus.Sentinel{Master: set.Name, Addrs: set.Addrs()}}
	a, b := start(t, o), start(t, o)
	b.subscribe("room", true)
	enter(t, a, "room", "m")
	f := newFates()
	say := func(from, to int) {
		for i := from; i < to; i++ {
			f.send(a, "room", fmt.Sprint(i), keep)
		}
	}
	say(0, 5)
	before := f.wait(t, 5)
	storedOf(t, before)
	primary, replica := set.Servers[0], set.Servers[1]
	eventually(t, "the replica to have the messages", func() error {
		if out := replica.Do("--raw", "HGET", replica.Do("--raw", "KEYS", "*:m:room"), "s"); out != "5" {
			return fmt.Errorf("it is at %s", out)
		}
		return nil
	})
	replica.Freeze()
	primary.Do("CLIENT", "KILL", "TYPE", "replica") // nothing more reaches its socket
	say(5, 10)
	lost := f.wait(t, 10)[5:]
	storedOf(t, lost)
	b.follows("room", append(before, lost...))
	primary.Kill()
	replica.Thaw()
	set.AwaitFailover(primary)
	eventually(t, "health", a.Health)
	eventually(t, "health", b.Health)
	f.send(a, "room", "after", keep)
	after := f.wait(t, 11)[10]
	if after.Err != nil || after.Epoch == before[0].Epoch || after.Seq != 6 {
		t.Fatalf("published %+v after %+v", after, before[4])
	}
	eventually(t, "the message after", func() error {
		var told []string
		for _, e := range b.room("room") {
			switch {
			case e.Kind == bus.Notice && e.Notice == bus.NoticeEpoch && e.To == 5 && e.Epoch == after.Epoch:
				told = append(told, "epoch")
			case e.Kind == bus.Notice && e.Notice == bus.NoticeLost && e.From == 6 && e.To == 10:
				told = append(told, "lost")
			case string(e.Body) == "after" && e.Position == after.Position:
				told = append(told, "after")
			}
		}
		if got := fmt.Sprint(told); got != "[lost epoch after]" {
			return fmt.Errorf("told %s", got)
		}
		return nil
	})
	for from, recovered := range map[uint64]bool{3: true, 5: true, 6: false, 10: false} {
		e := entry("room", "m")
		e.Resume, e.ResumeMax, e.ResumeBytes = &bus.Position{Epoch: before[0].Epoch, Seq: from}, 100, 1<<20
		in, err := b.Enter(t.Context(), e)
		if err != nil || in.Recovered != recovered || in.ForkedAt != 5 {
			t.Errorf("resumed from %d: %+v, %v", from, in, err)
		}
	}
}

// TestClusterPrimaryKilled: the rooms of the others go on, and those of the one
// that is gone when its replica takes over.
func TestClusterPrimaryKilled(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 1)
	o := redisbus.Options{Cluster: cluster.Addrs()}
	a, b := start(t, o), start(t, o)
	victim := cluster.Owner("relay:{p05}:m:lobby") // partition 5, as envelope_test.go has it
	other := ""
	for i := range 100 {
		room := fmt.Sprint("other-", i)
		enter(t, a, room, "m") // makes its key
		if key := cluster.Key("m:" + room); key != "" && cluster.Owner(key) != victim {
			other = room
			break
		}
	}
	b.subscribe("lobby", true)
	b.subscribe(other, true)
	stop, stopOther := flow(t, a, "lobby", keep), flow(t, a, other, keep)
	b.awaitMore("lobby", 20)
	victim.Kill()
	b.awaitMore(other, 20)
	eventually(t, "messages of the room that moved", func() error {
		for _, e := range b.room("lobby") {
			if e.Kind == bus.Notice && e.Notice == bus.NoticeEpoch {
				return nil
			}
		}
		return errors.New("no new epoch yet")
	})
	b.awaitMore("lobby", 20)
	storedOf(t, stop(), bus.ErrUnavailable, bus.ErrUnknownOutcome)
	b.follows(other, storedOf(t, stopOther()))
	eventually(t, "health", a.Health)
	eventually(t, "health", b.Health)
}

// TestClusterSlotMoved: a partition goes to another primary while messages flow.
func TestClusterSlotMoved(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 0)
	o := redisbus.Options{Cluster: cluster.Addrs()}
	a, b := start(t, o), start(t, o)
	b.subscribe("lobby", true)
	enter(t, a, "lobby", "m")
	stop := flow(t, a, "lobby", keep)
	const key = "relay:{p05}:m:lobby"
	for range 3 {
		b.awaitMore("lobby", 20)
		from := cluster.Owner(key)
		to := cluster.Primaries()[0]
		if to == from {
			to = cluster.Primaries()[1]
		}
		cluster.MoveSlot(cluster.Slot(key), from, to)
	}
	b.awaitMore("lobby", 50)
	b.follows("lobby", storedOf(t, stop(), bus.ErrUnavailable))
	page, err := a.Members(t.Context(), "lobby", "", 10)
	if err != nil || page.Count != 1 {
		t.Errorf("members are %+v, %v", page, err)
	}
}
