//go:build unix && !linux

package plugins

import "syscall"

// Where the kernel does not tie a child's life to its parent's, a plugin ends
// when its standard input does, which the SDK sees to.
func isolated() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func undumpable() {}

// awaitExit cannot wait without taking the process's number away, so here what a
// plugin left behind in its group is killed only when relay ends the plugin.
func awaitExit(int) bool { return false }

// residentBytes is not known here: the memory limit does not hold.
func residentBytes(int) int64 { return 0 }
