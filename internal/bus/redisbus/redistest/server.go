// Package redistest starts real Redis servers for tests: a single one, a
// primary with sentinels, a cluster, and a proxy that spoils connections. All
// are on loopback, on ports of their own, and end with the test.
//
// A machine without redis-server fails these tests rather than skipping them:
// what is not tested does not work.
package redistest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// startup bounds how long a server may take to answer.
const startup = 20 * time.Second

// Server is a redis-server process that can be killed, frozen and started again
// on the same port and with the same data.
type Server struct {
	Port int
	Dir  string

	t    testing.TB
	name string // of the program
	args []string
	cmd  *exec.Cmd
	log  *os.File
	done chan struct{} // closed when cmd has been waited for
}

// Start starts a server. Arguments are redis-server's own, such as
// "--appendonly", "yes"; without any nothing is written to disk.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	s := newServer(t, "redis-server", args...)
	s.Up()
	return s
}

// program finds a Redis program, or fails the test with what to do.
func program(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is needed for this test: install it (Debian: apt-get install redis-server redis-sentinel redis-tools): %v", name, err)
	}
	return path
}

func newServer(t testing.TB, name string, args ...string) *Server {
	t.Helper()
	s := &Server{t: t, name: name, Port: FreePort(t), Dir: t.TempDir()}
	s.args = append([]string{
		"--port", strconv.Itoa(s.Port), "--bind", "127.0.0.1", "--dir", s.Dir, "--daemonize", "no", "--save", "", "--protected-mode", "no",
	}, args...)
	log, err := os.Create(filepath.Join(s.Dir, "log"))
	if err != nil {
		t.Fatalf("creating a log for %s: %v", name, err)
	}
	s.log = log
	t.Cleanup(func() {
		s.Kill()
		if t.Failed() {
			if text, err := os.ReadFile(log.Name()); err == nil {
				t.Logf("%s on port %d said:\n%s", s.name, s.Port, tail(text, 2000))
			}
		}
		_ = log.Close() // nothing depends on it any more
	})
	return s
}

func tail(b []byte, n int) []byte { return b[max(0, len(b)-n):] }

// Addr is host:port.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port)) }

// URL is redis://host:port/0.
func (s *Server) URL() string { return "redis://" + s.Addr() + "/0" }

// Up starts the process again after Kill, and waits until it answers.
func (s *Server) Up() {
	s.t.Helper()
	cmd := exec.Command(program(s.t, s.name), s.args...)
	cmd.Stdout, cmd.Stderr = s.log, s.log
	// Its own group, and the death of the test takes it along.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		s.t.Fatalf("starting %s: %v", s.name, err)
	}
	s.cmd, s.done = cmd, make(chan struct{})
	go func(done chan<- struct{}) {
		_ = cmd.Wait() // how it ended is of no interest
		close(done)
	}(s.done)
	Eventually(s.t, startup, fmt.Sprintf("%s on port %d to answer", s.name, s.Port), func() error {
		out, err := s.try("PING")
		if err == nil && !strings.Contains(out, "PONG") && !strings.Contains(out, "NOAUTH") {
			err = errors.New(out)
		}
		return err
	})
}

// Kill ends the process as a crash would. It may be frozen, or dead already.
func (s *Server) Kill() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill() // dead already is fine
	<-s.done
	s.cmd = nil
}

// Freeze stops the process in its tracks: connections stay, nothing answers.
func (s *Server) Freeze() { s.signal(syscall.SIGSTOP) }

// Thaw lets it go on.
func (s *Server) Thaw() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatalf("sending %v to %s: %v", sig, s.name, err)
	}
}

// Do runs one command and returns what redis-cli prints for it.
func (s *Server) Do(args ...string) string {
	s.t.Helper()
	out, err := s.try(args...)
	if err != nil {
		s.t.Fatalf("%s on port %d: %s: %v", s.name, s.Port, strings.Join(args, " "), err)
	}
	return out
}

func (s *Server) try(args ...string) (string, error) { return cli(s.t, s.Port, args...) }

func cli(t testing.TB, port int, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, program(t, "redis-cli"), append([]string{"-p", strconv.Itoa(port)}, args...)...)
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return strings.TrimSpace(out.String()), err
}

// Await runs a command until its output contains a text.
func (s *Server) Await(text string, args ...string) {
	s.t.Helper()
	Eventually(s.t, startup, fmt.Sprintf("%s on port %d to answer %s with %q", s.name, s.Port, strings.Join(args, " "), text), func() error {
		out, err := s.try(args...)
		if err == nil && !strings.Contains(out, text) {
			err = errors.New(out)
		}
		return err
	})
}

// Eventually polls until cond is nil.
func Eventually(t testing.TB, within time.Duration, what string, cond func() error) {
	t.Helper()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := cond()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("waited %v for %s: %v", within, what, err)
		}
	}
}

// FreePort finds a port that nobody listens on, below the range the kernel
// gives to connections, so that none takes it before its server does.
func FreePort(t testing.TB) int {
	t.Helper()
	for range 200 {
		port := 10_000 + rand.IntN(20_000)
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		bus, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port+10_000))) // a cluster node's second port
		closeAll(l)
		if err == nil {
			closeAll(bus)
			return port
		}
	}
	t.Fatal("no free port found")
	return 0
}

func closeAll(all ...io.Closer) {
	for _, c := range all {
		_ = c.Close() // of listeners just made
	}
}
