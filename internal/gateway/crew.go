package gateway

import "sync"

// crew does jobs in the order in which they come, so many at a time: when a
// balancer dies, ten thousand sessions leave their rooms at once, and a goroutine
// for each would take more memory than they did. While there is nothing to do it
// has no goroutine.
type crew struct {
	most int

	mu   sync.Mutex
	jobs []func() // not begun; one for each session at most; guarded by mu
	busy int      // goroutines; guarded by mu
}

// do has a job done, and does not wait for it.
func (c *crew) do(job func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.jobs = append(c.jobs, job)
	if c.busy < c.most {
		c.busy++
		go c.work()
	}
}

func (c *crew) work() {
	for {
		c.mu.Lock()
		if len(c.jobs) == 0 {
			c.busy--
			c.jobs = nil // let a long list go
			c.mu.Unlock()
			return
		}
		job := c.jobs[0]
		c.jobs[0] = nil
		c.jobs = c.jobs[1:]
		c.mu.Unlock()
		job()
	}
}
