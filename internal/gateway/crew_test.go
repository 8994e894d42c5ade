package gateway

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestACrewIsNoLargerThanItMayBe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := crew{most: 3}
		var now, most, done atomic.Int32
		began := time.Now()
		var all sync.WaitGroup
		all.Add(30)
		for range 30 {
			c.do(func() {
				defer all.Done()
				if n := now.Add(1); n > most.Load() {
					most.Store(n)
				}
				time.Sleep(time.Second) // of virtual time
				now.Add(-1)
				done.Add(1)
			})
		}
		all.Wait()
		if most.Load() != 3 || done.Load() != 30 || time.Since(began) != 10*time.Second {
			t.Errorf("%d jobs in %v, up to %d at a time", done.Load(), time.Since(began), most.Load())
		}
		synctest.Wait()
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.busy != 0 || c.jobs != nil {
			t.Errorf("%d goroutines and %d jobs are left", c.busy, len(c.jobs))
		}
	})
}
