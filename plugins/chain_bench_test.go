package plugins

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/wsrelay/relay/internal/room"
	"github.com/wsrelay/relay/plugins/filter"
)

// BenchmarkChain tells what a message costs at the filters, in processor time of
// the host and of the plugins, and how long it takes. Senders wait for an answer
// before they send the next message. Linux alone tells the plugins' time.
//
//	go test -run '^$' -bench Chain -benchtime 100000x ./plugins/
func BenchmarkChain(b *testing.B) {
	for _, kind := range []string{"plugin", "builtin"} {
		for _, filters := range []int{0, 1, 3} {
			for _, senders := range []int{1, 8, 64, 512} {
				if kind == "builtin" && (filters == 0 || senders > 1) {
					continue
				}
				b.Run(fmt.Sprintf("%s/filters=%d/senders=%d", kind, filters, senders), func(b *testing.B) {
					benchmarkChain(b, kind, filters, senders)
				})
			}
		}
	}
}

func benchmarkChain(b *testing.B, kind string, filters, senders int) {
	h := New(HostOptions{Log: slog.New(slog.DiscardHandler)})
	defer func() { _ = h.Close(context.Background()) }()
	var list []Options
	var names []string
	for i := range filters {
		o := judgeFunc("f"+strconv.Itoa(i), lookForBadWord)
		if kind == "plugin" {
			o = process(b, o.Name, "role-bench", nil)
		}
		list, names = append(list, o), append(names, o.Name)
	}
	set, err := h.Prepare(b.Context(), list)
	if err != nil {
		b.Fatal(err)
	}
	c, err := set.Chain(names, 0)
	if err != nil {
		b.Fatal(err)
	}
	h.Commit(set)
	var pids []int
	for _, st := range h.Status() {
		if st.PID != 0 {
			pids = append(pids, st.PID)
		}
	}
	send(b, c, senders, 20*senders) // warm
	own, theirs := selfCPU(), processorTime(pids)
	b.ResetTimer()
	took := send(b, c, senders, b.N)
	b.StopTimer()
	b.ReportMetric(float64((selfCPU()-own).Nanoseconds())/1e3/float64(b.N), "host-µs/msg")
	b.ReportMetric(float64((processorTime(pids)-theirs).Nanoseconds())/1e3/float64(b.N), "plugin-µs/msg")
	b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1e3, "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds())/1e3, "p99-µs")
}

// send asks n times in all, and returns how long each answer took, sorted.
func send(b *testing.B, c room.Filters, senders, n int) []time.Duration {
	body := `{"text":"` + strings.Repeat("hello moderation world ", 9)[:190] + `"}`
	took := make([]time.Duration, n)
	var next, batches atomic.Int64
	var wg sync.WaitGroup
	for range senders {
		wg.Go(func() {
			answer := make(chan *room.Ruling, 1)
			done := func(r *room.Ruling) { answer <- r }
			q := *chat(body)
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				start := time.Now()
				q := q
				c.Judge(&q, done)
				r := <-answer
				if r.Action != filter.ActionAllow {
					b.Errorf("%+v", r)
				}
				took[i] = time.Since(start)
				for _, st := range r.Steps {
					batches.Add(int64(st.Batch))
				}
			}
		})
	}
	wg.Wait()
	slices.Sort(took)
	if asked := len(c.(*Chain).stages); asked > 0 {
		b.ReportMetric(float64(batches.Load())/float64(n*asked), "batch") // in which a message went, on average
	}
	return took
}

var badWord = []byte("badword")

func lookForBadWord(m *filter.Message) (filter.Verdict, error) {
	if bytes.Contains(m.Body, badWord) {
		return filter.Reject("bad", ""), nil
	}
	return filter.Allow(), nil
}

// processorTime is what processes used so far, by their threads' schedstat.
func processorTime(pids []int) (d time.Duration) {
	for _, pid := range pids {
		dir := fmt.Sprintf("/proc/%d/task", pid)
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			text, _ := os.ReadFile(dir + "/" + e.Name() + "/schedstat")
			first, _, _ := strings.Cut(string(text), " ")
			ns, _ := strconv.ParseInt(first, 10, 64)
			d += time.Duration(ns)
		}
	}
	return d
}

// BenchmarkReplacement kills the plugin every second under 500 messages a second,
// and tells how long it takes from there to the next verdict, and what became of
// the messages.
//
//	go test -run '^$' -bench Replacement -benchtime 30x ./plugins/
func BenchmarkReplacement(b *testing.B) {
	for _, role := range []string{"role-words", "role-stateless"} {
		b.Run(role, func(b *testing.B) {
			h := New(HostOptions{Log: slog.New(slog.DiscardHandler)})
			defer func() { _ = h.Close(context.Background()) }()
			o := process(b, "words", role, nil)
			o.Timeout = 500 * time.Millisecond
			set, err := h.Prepare(b.Context(), []Options{o})
			if err != nil {
				b.Fatal(err)
			}
			c, err := set.Chain([]string{"words"}, 0)
			if err != nil {
				b.Fatal(err)
			}
			h.Commit(set)
			var sent, failed, answered atomic.Int64
			verdicts := make(chan int, 1<<12) // the generations that they are of
			done := func(r *room.Ruling) {
				answered.Add(1)
				if r.Steps[0].Failure != "" {
					failed.Add(1)
					return
				}
				verdicts <- r.Steps[0].Generation
			}
			tick := time.NewTicker(2 * time.Millisecond)
			defer tick.Stop()
			var gaps []time.Duration
			generation := 0
			for range b.N {
				for until := time.Now().Add(time.Second); time.Now().Before(until); { // a second in peace
					<-tick.C
					sent.Add(1)
					c.Judge(chat(`"x"`), done)
					for len(verdicts) > 0 {
						generation = <-verdicts
					}
				}
				killed := time.Now()
				if err := syscall.Kill(h.Status()[0].PID, syscall.SIGKILL); err != nil {
					b.Fatal(err)
				}
				for next := generation; next == generation; {
					select {
					case next = <-verdicts:
					case <-tick.C:
						sent.Add(1)
						c.Judge(chat(`"x"`), done)
					}
				}
				gaps = append(gaps, time.Since(killed))
			}
			for answered.Load() < sent.Load() { // none is left without an answer, or this does not end
				<-tick.C
			}
			slices.Sort(gaps)
			b.ReportMetric(float64(gaps[len(gaps)/2].Microseconds())/1e3, "median-ms")
			b.ReportMetric(float64(gaps[len(gaps)-1].Microseconds())/1e3, "max-ms")
			b.ReportMetric(float64(sent.Load()), "messages")
			b.ReportMetric(float64(failed.Load()), "failed")
			b.ReportMetric(0, "ns/op")
		})
	}
}
