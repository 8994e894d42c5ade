package redisbus_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/wsrelay/relay/internal/bus"
	"github.com/wsrelay/relay/internal/bus/redisbus"
	"github.com/wsrelay/relay/internal/bus/redisbus/redistest"
)

// BenchmarkPublish is a message's way to Redis and back to the instance that
// sent it, with many on their way. cpu-µs/op is this process's share.
func BenchmarkPublish(b *testing.B) {
	for _, c := range []struct {
		name string
		keep bus.Retention
	}{{"stored", bus.Retention{Keep: 100, For: time.Hour}}, {"plain", bus.Retention{}}} {
		b.Run(c.name, func(b *testing.B) {
			server := redistest.Start(b)
			n, err := redisbus.New(redisbus.Options{URL: server.URL()})
			if err != nil {
				b.Fatal(err)
			}
			var both sync.WaitGroup
			if err := n.Start(b.Context(), counter{WaitGroup: &both}); err != nil {
				b.Fatal(err)
			}
			defer func() {
				if err := n.Close(b.Context()); err != nil {
					b.Error(err)
				}
			}()
			const rooms = 100
			for i := range rooms {
				if _, err := n.Subscribe(b.Context(), fmt.Sprint("room-", i), c.keep.Kept()); err != nil {
					b.Fatal(err)
				}
			}
			places := make(chan struct{}, 1000)
			body := []byte(fmt.Sprintf(`"%0128d"`, 0))
			before := cpu()
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				both.Add(2)
				places <- struct{}{}
				m := &bus.Message{Retention: c.keep, Event: bus.Event{
					Kind: bus.Chat, Room: fmt.Sprint("room-", i%rooms), ID: bus.NewMessageID(), Time: 1,
					Sender: bus.Sender{Member: "m", User: []byte(`{"id":"m"}`), Conn: "c"}, Body: body,
				}}
				if err := n.Publish(m, receipt(func(r bus.Result) {
					if r.Err != nil {
						b.Error(r.Err)
					}
					<-places
					both.Done()
				})); err != nil {
					b.Fatal(err)
				}
			}
			both.Wait()
			b.StopTimer()
			b.ReportMetric(float64((cpu()-before).Microseconds())/float64(b.N), "cpu-µs/op")
			b.Log(server.Do("--raw", "INFO", "commandstats"))
			b.ReportMetric(float64(n.Stats().Published.Load())/float64(n.Stats().Pipelines.Load()), "msgs/trip")
		})
	}
}

type counter struct {
	bus.AtOnce
	*sync.WaitGroup
}

func (c counter) Deliver(e *bus.Event) {
	if e.Kind == bus.Chat {
		c.Done()
	}
}

func (counter) Sanctioned(*bus.Sanction) {}
func (counter) Lifted(*bus.Sanction)     {}

// BenchmarkSanction is the time from a decision on one instance until it is in
// force on another.
func BenchmarkSanction(b *testing.B) {
	server := redistest.Start(b)
	begin := func(h bus.Handler) *redisbus.Bus {
		n, err := redisbus.New(redisbus.Options{URL: server.URL(), MaxSanctions: 1 << 30})
		if err != nil {
			b.Fatal(err)
		}
		if err := n.Start(b.Context(), h); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() {
			if err := n.Close(context.Background()); err != nil {
				b.Error(err)
			}
		})
		return n
	}
	heard := make(chan string, 1)
	here := begin(counter{WaitGroup: &sync.WaitGroup{}})
	begin(hearing{counter{WaitGroup: &sync.WaitGroup{}}, heard})
	times := make([]time.Duration, 0, b.N)
	b.ResetTimer()
	for i := range b.N {
		began := time.Now()
		s, err := here.Sanction(b.Context(), &bus.Sanction{Kind: bus.Ban, Member: fmt.Sprint(i), Room: "room", Reason: "rude", By: "cli"})
		if err != nil {
			b.Fatal(err)
		}
		if id := <-heard; id != s.ID {
			b.Fatalf("heard of %s", id)
		}
		times = append(times, time.Since(began))
	}
	b.StopTimer()
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Microseconds()), "µs-median")
	b.ReportMetric(float64(times[len(times)-1].Microseconds()), "µs-max")
}

type hearing struct {
	counter
	heard chan<- string
}

func (h hearing) Sanctioned(s *bus.Sanction) { h.heard <- s.ID }

// BenchmarkStartWithSanctions starts an instance where as many are in force as
// may be.
func BenchmarkStartWithSanctions(b *testing.B) {
	server := redistest.Start(b)
	server.Do("EVAL", `for i = 1, 100000 do redis.call('HSET', KEYS[1], 'id' .. i, '1 0 {"k":4,"m":"some-user-' .. i .. '","why":"rude","by":"filter:words"}') end`,
		"1", "relay:{sanctions}:all")
	for b.Loop() {
		n, err := redisbus.New(redisbus.Options{URL: server.URL()})
		if err != nil {
			b.Fatal(err)
		}
		if err := n.Start(b.Context(), counter{WaitGroup: &sync.WaitGroup{}}); err != nil {
			b.Fatal(err)
		}
		if len(n.InForce("some-user-77777", "", "room")) != 1 {
			b.Error("not in force at the start")
		}
		if err := n.Close(b.Context()); err != nil {
			b.Error(err)
		}
	}
}

func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
