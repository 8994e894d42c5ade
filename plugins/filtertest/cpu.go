package filtertest

import (
	"os"
	"strconv"
	"strings"
	"time"
)

// tick is the unit in which Linux tells a process's time: USER_HZ is 100
// wherever Go runs.
const tick = 10 * time.Millisecond

// processorTime is what a process used so far of its processors, in steps of 10
// ms. It reports false where that cannot be known: /proc/PID/stat is Linux's.
func processorTime(pid int) (time.Duration, bool) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, false
	}
	return parseStat(string(text))
}

// parseStat adds fields 14 and 15, utime and stime (proc_pid_stat(5)). The second
// field is the program's name in parentheses and may hold anything.
func parseStat(text string) (time.Duration, bool) {
	f := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(f) < 13 {
		return 0, false
	}
	user, err1 := strconv.ParseInt(f[11], 10, 64)
	system, err2 := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * tick, err1 == nil && err2 == nil
}
