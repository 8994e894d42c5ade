package filter

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"time"
)

// Run asks the judge about one message within its budget, and makes an error of
// a panic. It is what stands between a judge and everything else, in a plugin's
// process as in relay's own.
func (j Judge) Run(ctx context.Context, m *Message) (v Verdict, err error) {
	start := time.Now()
	bounded := &budgeted{Context: ctx, deadline: start.Add(m.Budget)}
	defer func() {
		if r := recover(); r != nil {
			v, err = Verdict{}, &PanicError{Value: r, Stack: stack()}
		}
		bounded.cancel()
		v.Elapsed = time.Since(start)
	}()
	return j(bounded, m)
}

// PanicError is the error of a judge that panicked.
type PanicError struct {
	Value any
	Stack string
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

func stack() string {
	buf := make([]byte, 8<<10)
	return string(buf[:runtime.Stack(buf, false)])
}

// budgeted is a context with a deadline that costs a timer only when somebody
// waits for it: most judges are done before they would look.
type budgeted struct {
	context.Context
	deadline time.Time

	mu     sync.Mutex
	done   bool
	timed  context.Context // made by the first Done; guarded by mu
	stopIt context.CancelFunc
}

// Deadline implements context.Context.
func (b *budgeted) Deadline() (time.Time, bool) {
	if d, ok := b.Context.Deadline(); ok && d.Before(b.deadline) {
		return d, true
	}
	return b.deadline, true
}

// Done implements context.Context.
func (b *budgeted) Done() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.timed == nil {
		b.timed, b.stopIt = context.WithDeadline(b.Context, b.deadline)
		if b.done {
			b.stopIt()
		}
	}
	return b.timed.Done()
}

// Err implements context.Context.
func (b *budgeted) Err() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.timed != nil {
		return b.timed.Err()
	}
	switch {
	case b.Context.Err() != nil:
		return b.Context.Err()
	case b.done:
		return context.Canceled
	case time.Now().Before(b.deadline):
		return nil
	}
	return context.DeadlineExceeded
}

func (b *budgeted) cancel() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done = true
	if b.stopIt != nil {
		b.stopIt()
	}
}
