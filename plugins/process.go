package plugins

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-plugin/runner"
)

// pipeGrace is how long the pipes of a process that has ended are still read: what
// it wrote last is there already, and a child of it that holds them open is not
// waited for.
const pipeGrace = 100 * time.Millisecond

// child is one program that is started: what go-plugin calls a runner. Unlike
// go-plugin's own it has a process group, a standard input that ends with relay,
// and a standard output on which anything may be printed.
type child struct {
	host    *Host
	command []string
	env     []string // all of it
	dir     string   // where its socket must be

	out, errs *output
	shake     *handshakeLine
	gone      chan struct{} // closed when the process is gone
	ended     chan struct{} // closed when its output is read, too
	why       error         // how it ended; set before ended is closed

	mu     sync.Mutex
	cmd    *exec.Cmd // started; guarded by mu, like all below
	stdin  *os.File
	killed bool // by us, or is to be
	reaped bool // its number may be another's
}

var _ runner.Runner = (*child)(nil)

// newChild prepares a start. env and dir are still to be set.
func newChild(h *Host, log *slog.Logger, command []string) *child {
	gone, ended := make(chan struct{}), make(chan struct{})
	return &child{
		host: h, command: command, gone: gone, ended: ended,
		out:   &output{log: log, stream: "stdout", plain: slog.LevelInfo, gone: gone},
		errs:  &output{log: log, stream: "stderr", plain: slog.LevelInfo, gone: gone},
		shake: newHandshakeLine(ended),
	}
}

// Start implements runner.Runner.
func (c *child) Start(context.Context) error {
	files, err := pipes(3)
	if err != nil {
		return fmt.Errorf("making pipes: %w", err)
	}
	inR, inW, outR, outW, errR, errW := files[0], files[1], files[2], files[3], files[4], files[5]
	cmd := exec.Command(c.command[0], c.command[1:]...)
	cmd.Env, cmd.SysProcAttr = c.env, isolated()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = inR, outW, errW
	err = c.begin(cmd, inW)
	for _, f := range []*os.File{inR, outW, errW} {
		_ = f.Close()
	}
	if err != nil {
		for _, f := range []*os.File{inW, outR, errR} {
			_ = f.Close()
		}
		return err
	}
	var reading sync.WaitGroup
	reading.Go(func() { c.out.read(outR, c.shake.hold) })
	reading.Go(func() { c.errs.read(errR, nil) })
	go c.watch(&reading, outR, errR)
	return nil
}

func (c *child) begin(cmd *exec.Cmd, stdin *os.File) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.killed {
		return errors.New("it is not wanted any more")
	}
	if err := c.host.start(cmd); err != nil {
		return err
	}
	c.cmd, c.stdin = cmd, stdin
	return nil
}

// watch waits for the end of the process, kills what it left of its group, and
// reads the rest of what it wrote.
func (c *child) watch(reading *sync.WaitGroup, outR, errR *os.File) {
	if awaitExit(c.cmd.Process.Pid) {
		_ = killGroup(c.cmd.Process.Pid)
	}
	err := c.cmd.Wait()
	c.mu.Lock()
	c.reaped = true
	c.mu.Unlock()
	close(c.gone)
	until := time.Now().Add(pipeGrace)
	_ = outR.SetReadDeadline(until)
	_ = errR.SetReadDeadline(until)
	reading.Wait()
	for _, f := range []*os.File{outR, errR, c.stdin} {
		_ = f.Close()
	}
	c.why = err
	c.out.close()
	c.errs.close()
	close(c.ended)
}

// pipes makes n pipes: reader, writer, reader, writer, …
func pipes(n int) ([]*os.File, error) {
	var files []*os.File
	for range n {
		r, w, err := os.Pipe()
		if err != nil {
			for _, f := range files {
				_ = f.Close()
			}
			return nil, err
		}
		files = append(files, r, w)
	}
	return files, nil
}

// Kill implements runner.AttachedRunner: it kills the process and its group. What
// is not started yet will not be.
func (c *child) Kill(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reaped {
		return nil
	}
	c.killed = true
	if c.cmd == nil {
		return nil
	}
	return killGroup(c.cmd.Process.Pid)
}

// ask sends SIGTERM, for programs that do not mind the end of their input.
func (c *child) ask() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.reaped && c.cmd != nil {
		_ = askGroup(c.cmd.Process.Pid) // Kill comes next
	}
}

// hangUp ends the process's standard input, upon which those made with the SDK
// end.
func (c *child) hangUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stdin != nil {
		_ = c.stdin.Close()
	}
}

// Wait implements runner.AttachedRunner.
func (c *child) Wait(context.Context) error {
	<-c.ended
	return c.why
}

// Stdout implements runner.Runner: the handshake, and nothing else.
func (c *child) Stdout() io.ReadCloser { return c.shake }

// Stderr implements runner.Runner. We read it ourselves.
func (c *child) Stderr() io.ReadCloser { return untilEnd{c.ended} }

// Name implements runner.Runner.
func (c *child) Name() string { return filepath.Base(c.command[0]) }

// ID implements runner.AttachedRunner.
func (c *child) ID() string { return strconv.Itoa(c.pid()) }

func (c *child) pid() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cmd == nil {
		return 0
	}
	return c.cmd.Process.Pid
}

// await waits for the end of the process, for at most d or until ctx is done.
func (c *child) await(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-c.ended:
	case <-t.C:
	case <-ctx.Done():
	}
}

// Diagnose implements runner.Runner.
func (c *child) Diagnose(context.Context) string { return "" }

// PluginToHost implements runner.AddrTranslator: the socket must be where nobody
// else can reach it.
func (c *child) PluginToHost(network, addr string) (string, string, error) {
	if network != "unix" {
		return "", "", fmt.Errorf("the plugin listens on %s, and must on a Unix socket", network)
	}
	rel, err := filepath.Rel(c.dir, addr)
	if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
		return "", "", fmt.Errorf("the plugin made its socket at %s, and must in PLUGIN_UNIX_SOCKET_DIR", addr)
	}
	return network, addr, nil
}

// HostToPlugin implements runner.AddrTranslator.
func (c *child) HostToPlugin(network, addr string) (string, string, error) { return network, addr, nil }

// explain makes of why a start failed what an operator wants to know: how the
// program ended, if it did, and what it said last.
func (c *child) explain(err error) error {
	t := time.NewTimer(pipeGrace)
	defer t.Stop()
	select {
	case <-c.ended:
		c.mu.Lock()
		if !c.killed {
			err = fmt.Errorf("it ended before it was ready (%s)", c.how())
		}
		c.mu.Unlock()
	case <-t.C:
	}
	if said := c.errs.last(); said != "" {
		return fmt.Errorf("%w; its last words:\n\t%s", err, strings.ReplaceAll(said, "\n", "\n\t"))
	}
	return err
}

// how tells how the process ended, if it has.
func (c *child) how() string {
	select {
	case <-c.ended:
	default:
		return "it has not"
	}
	if c.why != nil {
		return c.why.Error()
	}
	return "exit status 0"
}

// environ is a plugin's whole environment.
func environ(own map[string]string, handshake []string) []string {
	env := make([]string, 0, len(own)+len(handshake))
	for k, v := range own {
		env = append(env, k+"="+v)
	}
	slices.Sort(env)
	return append(env, handshake...) // of two with one name the last counts
}

// untilEnd reads as empty, and ends with the process.
type untilEnd struct{ ended <-chan struct{} }

func (u untilEnd) Read([]byte) (int, error) { <-u.ended; return 0, io.EOF }

func (u untilEnd) Close() error { return nil }
