package bench_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/wsrelay/relay/internal/cli"
)

// With this in its environment the test binary is a relay that writes profiles
// into the folder it names. So a profile shows the server and nothing of the
// generator, and no relay that people run has an endpoint for it.
const profileEnv = "RELAY_BENCH_PROFILE_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(profileEnv); dir != "" {
		os.Exit(serveProfiled(dir))
	}
	if os.Getenv(limitEnv) != "" {
		os.Exit(serveLimit())
	}
	goleak.VerifyTestMain(m)
}

// serveProfiled runs the command line that it was given. The words "begin" and
// "end" on its input are where profiles begin and are written.
func serveProfiled(dir string) int {
	go func() {
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			var err error
			switch in.Text() {
			case "begin":
				err = beginProfiles(dir)
			case "end":
				err = writeProfiles(dir)
			}
			fmt.Fprintf(os.Stdout, "%s: %v\n", in.Text(), err)
		}
	}()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	return cli.Run(ctx, cli.Env{Args: os.Args[1:], In: strings.NewReader(""), Out: io.Discard, Err: os.Stderr, Environ: os.Environ()})
}

func beginProfiles(dir string) error {
	f, err := os.Create(filepath.Join(dir, "cpu.pprof"))
	if err != nil {
		return err
	}
	runtime.SetBlockProfileRate(10_000) // ns
	runtime.SetMutexProfileFraction(20)
	return pprof.StartCPUProfile(f) // which closes nothing: the process ends soon
}

func writeProfiles(dir string) error {
	pprof.StopCPUProfile()
	for _, name := range []string{"heap", "allocs", "block", "mutex", "goroutine"} {
		f, err := os.Create(filepath.Join(dir, name+".pprof"))
		if err != nil {
			return err
		}
		if err := pprof.Lookup(name).WriteTo(f, 0); err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return nil
}

// server is a relay, or the limit, in a process of its own.
type server struct {
	t     *testing.T
	cmd   *exec.Cmd
	url   string
	stdin io.Writer
	said  *bufio.Reader
	born  time.Time
}

// startServer runs program serve with a configuration whose listen is on port 0.
func startServer(t *testing.T, program, yaml string, environ ...string) *server {
	t.Helper()
	file := filepath.Join(t.TempDir(), "relay.yaml")
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, exec.Command(program, "serve", "-c", file), environ...)
	if strings.Contains(yaml, "\ntls:") {
		s.url = strings.Replace(s.url, "ws:", "wss:", 1)
	}
	return s
}

// startLimit starts the limit, see limitEnv.
func startLimit(t *testing.T, environ ...string) *server {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return start(t, exec.Command(self), append(environ, limitEnv+"=1")...)
}

// start runs a server that logs where it serves, and waits for that.
func start(t *testing.T, cmd *exec.Cmd, environ ...string) *server {
	t.Helper()
	s := &server{t: t, cmd: cmd}
	s.cmd.Env = append(os.Environ(), environ...)
	log, err := s.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if s.stdin, err = s.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.said = bufio.NewReader(out)
	s.born = time.Now()
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	serving := make(chan string, 1)
	t.Cleanup(func() {
		s.stop()
		for range serving { // until the log has ended
		}
	})
	go func() {
		defer close(serving)
		for lines := bufio.NewScanner(log); lines.Scan(); {
			var line struct{ Msg, Listen, Level, Error string }
			if json.Unmarshal(lines.Bytes(), &line) != nil {
				t.Logf("relay: %s", lines.Bytes())
			}
			if line.Msg == "serving" {
				serving <- line.Listen
			} else if line.Level == "ERROR" {
				t.Logf("relay: %s", lines.Bytes())
			}
		}
	}()
	select {
	case addr, ok := <-serving:
		if !ok {
			t.Fatal("the server ended before it served")
		}
		s.url = "ws://" + addr + "/ws"
	case <-time.After(20 * time.Second):
		t.Fatal("the server does not serve")
	}
	return s
}

func (s *server) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGKILL) // it has nothing to lose, and sockets to close one by one
	_, _ = s.cmd.Process.Wait()               // and not Cmd.Wait, which would close the log before it is read
}

// tell says a word to a profiled server and waits for its answer.
func (s *server) tell(word string) {
	s.t.Helper()
	if _, err := fmt.Fprintln(s.stdin, word); err != nil {
		s.t.Fatal(err)
	}
	answer, err := s.said.ReadString('\n')
	if err != nil || answer != word+": <nil>\n" {
		s.t.Fatalf("%s: %q, %v", word, answer, err)
	}
}

// usage is what a process has used.
type usage struct {
	spent    time.Duration // of the processor
	resident int64         // bytes
	writes   int64         // system calls
}

// usageOf asks the system for it, see proc(5).
func usageOf(t *testing.T, pid int) (u usage) {
	t.Helper()
	read := func(name string) string {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
		if err != nil {
			t.Fatalf("%v (this needs Linux)", err)
		}
		return string(b)
	}
	number := func(text string) int64 {
		n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	// Fields 14 and 15, in ticks of 10 ms; the second, in brackets, may hold spaces.
	stat := read("stat")
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	u.spent = time.Duration(number(fields[11])+number(fields[12])) * 10 * time.Millisecond
	u.resident = number(fields[21]) * int64(os.Getpagesize())
	_, rest, _ := strings.Cut(read("io"), "syscw:")
	text, _, _ := strings.Cut(rest, "\n")
	u.writes = number(text)
	return u
}
