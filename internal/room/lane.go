package room

import (
	"context"
	"sync"
)

// maxAsked is how many messages of one lane the filters have at a time. More
// wait in the lane, and the gateway stops reading a socket that has many there.
const maxAsked = 32

// Lane keeps what one connection says in one room in its order while filters
// judge it: messages are handed to the filters in the order in which they came,
// judged side by side, and carried out in the order in which they came. The zero
// Lane is ready.
type Lane struct {
	mu      sync.Mutex
	jobs    []*job        // in order of arrival; guarded by mu, like all below
	asked   int           // jobs at the front that the filters have been given
	judging int           // of those, without a ruling yet
	running bool          // somebody is in run
	idle    chan struct{} // closed when jobs is empty; nil while nobody waits
}

// job is one message on its way through the filters.
type job struct {
	judge func(done func(*Ruling))
	carry func(*Ruling) // called in the lane's order, when everything before was

	ruling *Ruling // guarded by Lane.mu
}

// push appends a job. judge and carry are called without the lane's lock.
func (l *Lane) push(j *job) {
	l.mu.Lock()
	l.jobs = append(l.jobs, j)
	l.run()
}

// empty reports whether nothing is under way.
func (l *Lane) empty() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.jobs) == 0
}

// run asks and carries out whatever can be. One goroutine at a time does: what
// others bring meanwhile it does too. mu is held on entry and not on return.
func (l *Lane) run() {
	if l.running {
		l.mu.Unlock()
		return
	}
	l.running = true
	for {
		switch {
		case len(l.jobs) > 0 && l.jobs[0].ruling != nil:
			j := l.jobs[0]
			l.mu.Unlock()
			j.carry(j.ruling)
			l.mu.Lock()
			l.jobs[0] = nil
			l.jobs = l.jobs[1:]
			l.asked--
		case l.asked < len(l.jobs) && l.judging < maxAsked:
			j := l.jobs[l.asked]
			l.asked++
			l.judging++
			l.mu.Unlock()
			j.judge(func(r *Ruling) { l.ruled(j, r) })
			l.mu.Lock()
		default:
			l.running = false
			if len(l.jobs) == 0 {
				l.jobs = nil
				if l.idle != nil {
					close(l.idle)
					l.idle = nil
				}
			}
			l.mu.Unlock()
			return
		}
	}
}

func (l *Lane) ruled(j *job, r *Ruling) {
	l.mu.Lock()
	j.ruling = r
	l.judging--
	l.run()
}

// Drained waits until nothing is under way.
func (l *Lane) Drained(ctx context.Context) error {
	l.mu.Lock()
	if len(l.jobs) == 0 {
		l.mu.Unlock()
		return nil
	}
	if l.idle == nil {
		l.idle = make(chan struct{})
	}
	ch := l.idle
	l.mu.Unlock()
	select {
	case <-ch:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
