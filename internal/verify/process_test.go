package verify_test

import (
	"cmp"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/wsrelay/relay/internal/bus/redisbus/redistest"
	"github.com/wsrelay/relay/internal/tlstest"
)

var (
	binary string
	pair   *tlstest.Pair // of all instances that serve over TLS
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "relay-faults")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "relay")
	if pair, err = tlstest.New(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if out, err := exec.Command("go", "build", "-o", binary, "../..").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building relay: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// process is one instance of relay, as users run it.
type process struct {
	t     *testing.T
	file  string
	addr  string
	redis string
	settings
	cmd  *exec.Cmd
	out  *os.File
	done chan struct{}
}

func freeAddr(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// settings are what tests want other than usual in relay.yaml.
type settings struct {
	connects string // default: 10000/s, so that it is not what is tested
	grace    string // default: 5s
	rate     int    // requests a second; default 1000
	tls      bool   // default: -faults.tls
}

func newProcess(t *testing.T, redis string, s settings) *process {
	t.Helper()
	s.tls = s.tls || *overTLS
	p := &process{t: t, addr: freeAddr(t), file: filepath.Join(t.TempDir(), "relay.yaml"), redis: redis, settings: s}
	p.configure(s)
	p.start()
	t.Cleanup(func() { p.kill(); p.out.Close() })
	return p
}

// configure writes relay.yaml.
func (p *process) configure(s settings) {
	p.t.Helper()
	yaml := fmt.Sprintf(`listen: %q
admin: {listen: ""}
redis: {%s}
endpoints: [{path: /ws, auth: [guests], limits: {connects: %s, requests: %d/s}}]
auth: {guests: {type: anonymous}}
rooms: [{match: "*", create: anyone, join: anyone, members: {grace: %s}, history: {keep: 100000}}]
drain: {over: 500ms, timeout: 10s}
`, p.addr, p.redis, cmp.Or(s.connects, "10000/s"), cmp.Or(s.rate, 1000), cmp.Or(s.grace, "5s"))
	if s.tls {
		yaml += pair.YAML()
	}
	if err := os.WriteFile(p.file, []byte(yaml), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

func (p *process) url() string {
	if p.tls {
		return "wss://" + p.addr + "/ws"
	}
	return "ws://" + p.addr + "/ws"
}

// start runs the process, again if it ran before, and returns when it serves.
func (p *process) start() {
	p.t.Helper()
	var err error
	if p.out == nil {
		if p.out, err = os.Create(p.file + ".log"); err != nil {
			p.t.Fatal(err)
		}
	}
	p.cmd = exec.Command(binary, "serve", "-c", p.file)
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	done := make(chan struct{})
	p.done = done
	cmd := p.cmd
	go func() { _ = cmd.Wait(); close(done) }()
	redistest.Eventually(p.t, 15*time.Second, "an instance that listens", func() error {
		c, err := net.Dial("tcp", p.addr)
		if err == nil {
			_ = c.Close()
			return nil
		}
		select {
		case <-done:
			p.t.Fatalf("relay ended:\n%s", p.tail())
		default:
		}
		return err
	})
}

// revive starts the process again and again until it serves, as what looks after
// services does: one that finds no Redis ends.
func (p *process) revive() {
	for until := time.Now().Add(settle); time.Now().Before(until); {
		p.cmd = exec.Command(binary, "serve", "-c", p.file)
		p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
		if err := p.cmd.Start(); err != nil {
			p.t.Error(err)
			return
		}
		done := make(chan struct{})
		p.done = done
		cmd := p.cmd
		go func() { _ = cmd.Wait(); close(done) }()
		for alive := true; alive; {
			if c, err := net.Dial("tcp", p.addr); err == nil {
				_ = c.Close()
				return
			}
			select {
			case <-done:
				alive = false
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	p.t.Errorf("an instance does not start again:\n%s", p.tail())
}

func (p *process) tail() string {
	b, _ := os.ReadFile(p.file + ".log")
	return string(b[max(0, len(b)-4000):])
}

func (p *process) kill() { p.end(syscall.SIGKILL) }

// end sends a signal and waits for the end; an orderly one has to be status 0.
func (p *process) end(s syscall.Signal) {
	p.t.Helper()
	_ = p.cmd.Process.Signal(s)
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
		p.t.Errorf("an instance outlives %v by 20 s", s)
		_ = p.cmd.Process.Kill()
		<-p.done
	}
	if code := p.cmd.ProcessState.ExitCode(); s == syscall.SIGTERM && code != 0 {
		p.t.Errorf("exit status %d after SIGTERM:\n%s", code, p.tail())
	}
}
