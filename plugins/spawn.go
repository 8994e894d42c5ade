package plugins

import (
	"os/exec"
	"runtime"
)

// spawner starts processes from one thread that lives as long as it does. Linux
// sends the signal for a parent's death when the thread that forked ends, not
// the process: started from any goroutine, a plugin could die with a thread that
// the Go runtime has no more use for.
type spawner struct {
	starts chan start
	done   chan struct{}
}

type start struct {
	cmd *exec.Cmd
	err chan error
}

func newSpawner() *spawner {
	s := &spawner{starts: make(chan start), done: make(chan struct{})}
	go s.run()
	return s
}

func (s *spawner) run() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for {
		select {
		case st := <-s.starts:
			st.err <- st.cmd.Start()
		case <-s.done:
			return
		}
	}
}

// start is cmd.Start on the spawner's thread.
func (s *spawner) start(cmd *exec.Cmd) error {
	st := start{cmd, make(chan error, 1)}
	select {
	case s.starts <- st:
		return <-st.err
	case <-s.done:
		return ErrClosed
	}
}

// close ends the thread. Every process must have ended before.
func (s *spawner) close() { close(s.done) }
