package filtertest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wsrelay/relay/plugins/filter"
)

// Load is what a benchmark offers.
type Load struct {
	Senders int           // who wait for a verdict at a time; default 64
	For     time.Duration // default 3 s
	Message Message
}

// Speed is what came of it.
type Speed struct {
	Messages, Failed    int
	Took                time.Duration
	P50, P99, P999, Max time.Duration // from being handed over to the verdict

	// CPU is the plugin's process's time for all messages together; 0 for one in
	// process, and where the system does not tell.
	CPU time.Duration
}

// PerSecond is the rate of messages.
func (s Speed) PerSecond() float64 { return float64(s.Messages) / s.Took.Seconds() }

func (s Speed) String() string {
	cpu := ""
	if s.CPU > 0 {
		cpu = fmt.Sprintf("plugin's CPU %.1f µs a message, ", float64(s.CPU.Nanoseconds())/1e3/float64(max(1, s.Messages)))
	}
	return fmt.Sprintf("%.0f messages/s, p50 %v, p99 %v, p99.9 %v, max %v, %s%d without a verdict",
		s.PerSecond(), s.P50.Round(time.Microsecond), s.P99.Round(time.Microsecond), s.P999.Round(time.Microsecond), s.Max.Round(time.Microsecond), cpu, s.Failed)
}

// Bench loads a filter and measures how long verdicts take.
func Bench(ctx context.Context, s *Subject, l Load) (Speed, error) {
	if l.Senders <= 0 {
		l.Senders = 64
	}
	if l.For <= 0 {
		l.For = 3 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, l.For+30*time.Second)
	defer cancel()
	var (
		over   atomic.Bool
		failed atomic.Int64
		mu     sync.Mutex
		all    []time.Duration // guarded by mu
		first  error           // guarded by mu
		work   sync.WaitGroup
	)
	used := s.used()
	begin := time.Now()
	defer time.AfterFunc(l.For, func() { over.Store(true) }).Stop()
	for i := range l.Senders {
		work.Go(func() {
			m := l.Message
			m.Event, m.User = event(s), filter.User{ID: fmt.Sprintf("user-%d", i)}
			var own []time.Duration
			var err error
			for !over.Load() && err == nil {
				start := time.Now()
				var a Answer
				a, err = s.Judge(ctx, m)
				own = append(own, time.Since(start))
				if a.Failure != "" {
					failed.Add(1)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, own...)
			if first == nil {
				first = err
			}
		})
	}
	work.Wait()
	took := time.Since(begin)
	cpu := max(0, s.used()-used) // below 0 when the process was replaced
	if first != nil {
		return Speed{}, first
	}
	slices.Sort(all)
	at := func(p float64) time.Duration { return all[min(len(all)-1, int(p*float64(len(all))))] }
	return Speed{Messages: len(all), Failed: int(failed.Load()), Took: took, P50: at(.5), P99: at(.99), P999: at(.999), Max: all[len(all)-1], CPU: cpu}, nil
}

// used is the processor time of the subject's process so far.
func (s *Subject) used() time.Duration {
	st := s.host.Status()
	if len(st) == 0 || st[0].PID == 0 {
		return 0
	}
	d, _ := processorTime(st[0].PID) // 0 where nobody knows
	return d
}
