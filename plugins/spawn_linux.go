package plugins

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"unsafe"
)

// isolated is how a plugin's process is started: the leader of a group of its
// own, so that a terminal's Ctrl-C and our kill concern all of it and nothing
// else, and killed by the kernel when relay ends, however that comes.
func isolated() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// undumpable keeps processes of the same user, which plugins are, from reading
// relay's memory and environment (/proc/PID/mem, environ) and from tracing it.
// It also means no core dumps, and no debugger but the superuser's. A plugin
// that runs as root is not kept from anything.
func undumpable() {
	// Best effort: it cannot fail with these arguments, and relay runs without.
	_, _, _ = syscall.Syscall(syscall.SYS_PRCTL, syscall.PR_SET_DUMPABLE, 0, 0)
}

// Of waitid(2).
const (
	pPID    = 1
	wExited = 0x4
	wNoWait = 0x01000000
)

// awaitExit returns true when the process has ended, and leaves it a zombie: as
// long as it is one, its number and its group's are nobody else's.
func awaitExit(pid int) bool {
	var info [128]byte // siginfo_t, which nobody reads
	for {
		_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, pPID, uintptr(pid), uintptr(unsafe.Pointer(&info)), wExited|wNoWait, 0, 0)
		if errno != syscall.EINTR {
			return errno == 0
		}
	}
}

// residentBytes is the memory that the process has in RAM; 0 when it is gone.
func residentBytes(pid int) int64 {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b))
	if len(f) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(f[1], 10, 64) // 0, as if gone, on nonsense
	return pages * int64(os.Getpagesize())
}
