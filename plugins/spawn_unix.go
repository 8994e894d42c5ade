//go:build unix

package plugins

import (
	"os"
	"syscall"
)

// killGroup kills all processes in the group that pid leads.
func killGroup(pid int) error { return syscall.Kill(-pid, syscall.SIGKILL) }

// askGroup asks them to end.
func askGroup(pid int) error { return syscall.Kill(-pid, syscall.SIGTERM) }

// lock takes the lock on an open file that its process holds while it lives. It
// does not wait.
func lock(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) }
