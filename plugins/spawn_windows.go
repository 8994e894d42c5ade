package plugins

import (
	"os"
	"syscall"
)

// There are no process groups and no ties to the parent here: a plugin ends when
// its standard input does, which the SDK sees to, and what it started itself is
// its own business.
func isolated() *syscall.SysProcAttr { return nil }

func undumpable() {}

func awaitExit(int) bool { return false }

func residentBytes(int) int64 { return 0 }

func killGroup(pid int) error {
	p, err := os.FindProcess(pid)
	if err != nil {
		return err
	}
	return p.Kill()
}

// askGroup cannot ask: there is no such signal.
func askGroup(int) error { return nil }

// lock does nothing: an open file cannot be removed here anyway.
func lock(*os.File) error { return nil }
