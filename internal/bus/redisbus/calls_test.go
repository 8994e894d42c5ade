package redisbus_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wsrelay/relay/internal/bus"
	"github.com/wsrelay/relay/internal/bus/redisbus"
	"github.com/wsrelay/relay/internal/bus/redisbus/redistest"
)

// together enters n members at once, each into the room of its number modulo 10,
// and returns what became of them.
func together(n int, timeout time.Duration, a *instance) []error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), timeout)
			defer cancel()
			_, errs[i] = a.Enter(ctx, entry(fmt.Sprint("room", i%10), fmt.Sprint("member", i)))
		})
	}
	wg.Wait()
	return errs
}

// awaitPresent waits until so many are present: an instance that gets so little
// time that it loses its lease puts its members back.
func awaitPresent(t *testing.T, a *instance, want int) {
	t.Helper()
	redistest.Eventually(t, 20*time.Second, fmt.Sprint(want, " are present"), func() error {
		if n := present(t, a); n != want {
			return fmt.Errorf("%d are", n)
		}
		return nil
	})
}

func present(t *testing.T, a *instance) (n int) {
	for i := range 10 {
		page, err := a.Members(t.Context(), fmt.Sprint("room", i), "", 1000)
		if err != nil {
			t.Fatal(err)
		}
		if page.Count != len(page.Members) {
			t.Errorf("room%d: %d members of %d", i, len(page.Members), page.Count)
		}
		n += page.Count
	}
	return n
}

// Thousands that come and go at once take few round trips and connections, also
// when the server knows none of the scripts.
func TestACrowdComesAndGoesAtOnce(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	a := start(t, redisbus.Options{URL: server.URL()})
	server.Do("SCRIPT", "FLUSH")
	const crowd = 2000
	for i, err := range together(crowd, time.Minute, a) {
		if err != nil {
			t.Fatalf("member%d: %v", i, err)
		}
	}
	awaitPresent(t, a, crowd)
	if list := strings.Count(server.Do("CLIENT", "LIST", "TYPE", "normal"), "name=relay"); list == 0 || list > 12 {
		t.Errorf("%d connections", list)
	}
	var wg sync.WaitGroup
	for i := range crowd {
		wg.Go(func() {
			if err := a.Leave(t.Context(), &bus.Leaving{Room: fmt.Sprint("room", i%10), Member: fmt.Sprint("member", i)}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	awaitPresent(t, a, 0)
}

// While Redis does not answer, what is given up before it left is known not to
// have happened, and nobody waits for longer than they want to.
func TestWhatWaitsForRedisIsGivenUpInTime(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	a := start(t, redisbus.Options{URL: server.URL()})
	if errs := together(10, 10*time.Second, a); errors.Join(errs...) != nil {
		t.Fatal(errs)
	}
	server.Freeze()
	began := time.Now()
	errs := together(500, 500*time.Millisecond, a)
	if took := time.Since(began); took > 20*time.Second { // one after the other they would take minutes
		t.Errorf("it took %v until all were given up", took)
	}
	server.Thaw()
	unknown := 0
	for i, err := range errs {
		switch {
		case errors.Is(err, bus.ErrUnknownOutcome):
			unknown++
			redistest.Eventually(t, 10*time.Second, "leaving a room that it may not be in", func() error {
				return a.Leave(t.Context(), &bus.Leaving{Room: fmt.Sprint("room", i%10), Member: fmt.Sprint("member", i)})
			})
		case errors.Is(err, bus.ErrUnavailable):
		default:
			t.Errorf("member%d: %v", i, err)
		}
	}
	if unknown == 0 || unknown > 400 {
		t.Errorf("of %d nobody knows what became of them", unknown)
	}
	// The first ten were there before: those of them that are known to have failed
	// now are as present as they were.
	want := 0
	for _, err := range errs[:10] {
		if !errors.Is(err, bus.ErrUnknownOutcome) {
			want++
		}
	}
	awaitPresent(t, a, want)
}
