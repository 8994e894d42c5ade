//go:build unix

package bench

import (
	"fmt"
	"syscall"
	"time"
)

// spent is the processor time of this process so far.
func spent() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// enoughFiles says beforehand what would go wrong in the middle.
func enoughFiles(sockets int) error {
	const others = 32
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err == nil && uint64(r.Cur) < uint64(sockets+others) {
		return fmt.Errorf("%w: %d sockets, and this process may open %d files: see ulimit -n", ErrOptions, sockets, r.Cur)
	}
	return nil
}
