package plugins

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wsrelay/relay/plugins/filter"
)

func TestAPluginJudges(t *testing.T) {
	h := newHost(t)
	c := commit(t, h, process(t, "words", "role-words", wordsConfig{Words: []string{"spam"}, Tag: "v1"}))
	r := judge(t, c, chat(`{"text":"buy spam"}`))
	if r.Action != filter.ActionReject || r.Code != "word" || r.Filter != "words" || r.Unavailable {
		t.Fatalf("%+v", r)
	}
	if st := r.Steps[0]; !st.Plugin || st.Batch != 1 || st.Generation != 1 || st.Failure != "" {
		t.Errorf("%+v", st)
	}
	if r := judge(t, c, chat(`{"text":"hello"}`)); r.Action != filter.ActionAllow || len(r.Flags) != 1 || r.Flags[0].Label != "v1" {
		t.Errorf("%+v", r)
	}
	if st := status1(t, h); st.PID == 0 || st.Starts != 1 || st.Name != "words" || st.Breaker != "closed" || len(st.Results) != 2 {
		t.Errorf("%+v", st)
	}
}

// prepareError is why options are not accepted, and that it took no longer than
// most.
func prepareError(t *testing.T, most time.Duration, list ...Options) error {
	t.Helper()
	start := time.Now()
	set, err := newHost(t).Prepare(t.Context(), list)
	if err == nil {
		set.Discard()
		t.Fatal("Prepare accepted it")
	}
	if took := time.Since(start); took > most {
		t.Errorf("it took %v to say %v", took, err)
	}
	return err
}

func wantIn(t *testing.T, err error, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("the error does not say %q:\n%v", p, err)
		}
	}
}

func TestAMistakeInAConfigurationHasItsPath(t *testing.T) {
	err := prepareError(t, 10*time.Second, process(t, "words", "role-words", wordsConfig{Words: []string{"a", ""}}))
	wantIn(t, err, "filter words: config/words/1: empty")
	var e *Error
	if !errors.As(err, &e) || e.Filter != "words" || e.Pointer != "/words/1" || !e.InConfig {
		t.Errorf("%+v", e)
	}
	o := process(t, "words", "role-words", nil)
	o.Config = json.RawMessage(`{"wrods":[]}`)
	wantIn(t, prepareError(t, 10*time.Second, o), "config/wrods: unknown key")
}

func TestAllMistakesAreToldAtOnce(t *testing.T) {
	a, b := process(t, "a", "role-words", wordsConfig{Words: []string{""}}), process(t, "b", "role-dies", nil)
	err := prepareError(t, 10*time.Second, a, b, Options{Name: "c"})
	wantIn(t, err, "filter a: config/words/0", "filter b: ", "filter c: set one of")
}

func TestAFileThatIsNotThePinnedOneDoesNotRun(t *testing.T) {
	o := process(t, "words", "role-words", nil)
	o.Unpinned = false
	wantIn(t, prepareError(t, time.Second, o), "is not pinned", "relay plugin pin")
	o.SHA256 = map[string][]string{o.Command[0]: {strings.Repeat("0", 64)}}
	wantIn(t, prepareError(t, 10*time.Second, o), "filter words: ", "which is not among the pinned")
	sum, err := Sum(o.Command[0])
	if err != nil {
		t.Fatal(err)
	}
	o.SHA256[o.Command[0]] = []string{strings.Repeat("0", 64), strings.ToUpper(sum)}
	if err := newHost(t).Check(t.Context(), []Options{o}); err != nil {
		t.Errorf("the pinned one: %v", err)
	}
	if sum, err = Sum("/bin/sh"); err != nil {
		t.Skip("there is no /bin/sh")
	}
	o.Command, o.SHA256 = []string{"sh", "-c", "exec " + o.Command[0] + " role-words"}, map[string][]string{"sh": {sum}}
	if err := newHost(t).Check(t.Context(), []Options{o}); err != nil {
		t.Errorf("one that is found in PATH: %v", err)
	}
}

func TestAProgramThatIsNotThere(t *testing.T) {
	o := process(t, "words", "role-words", nil)
	o.Command = []string{"./no-such-filter"}
	wantIn(t, prepareError(t, time.Second, o), "filter words: finding its program: ", "no-such-filter")
}

func TestAProgramThatEndsAtOnceSaysWhy(t *testing.T) {
	err := prepareError(t, 4*time.Second, process(t, "words", "role-dies", nil))
	wantIn(t, err, "it ended before it was ready (exit status 3)", "no such model: fluff")
}

func TestAProgramThatNeverListensTimesOut(t *testing.T) {
	if usual.start != 5*time.Second {
		t.Errorf("a start has %v", usual.start)
	}
	h := newHost(t)
	h.times.start = time.Second // time enough to load the test binary
	_, err := h.Prepare(t.Context(), []Options{process(t, "words", "role-silent", nil)})
	if err == nil {
		t.Fatal("Prepare accepted it")
	}
	wantIn(t, err, "within 1s", "loading the model")
}

func TestPrepareEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := newHost(t).Prepare(ctx, []Options{process(t, "words", "role-silent", nil)}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

// What is printed before, with and after the handshake goes to the log, with the
// filter's name.
func TestNoiseOnStandardOutputIsSurvived(t *testing.T) {
	h, book := loggingHost(t)
	c := commit(t, h, process(t, "noisy", "role-noisy", nil))
	if r := judge(t, c, chat(`"x"`)); r.Action != filter.ActionAllow || len(r.Steps) != 1 {
		t.Errorf("%+v", r)
	}
	eventually(t, "what the judge printed is in the log", func() bool {
		return strings.Contains(book.String(), `msg="a judge prints" filter=noisy stream=stdout`)
	})
	if !strings.Contains(book.String(), `msg="warming up" filter=noisy stream=stderr`) {
		t.Error("what it wrote to standard error is not in the log")
	}
}

// A plugin gets the environment that it is given and nothing of relay's.
func TestAPluginInheritsNoEnvironment(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("reads /proc")
	}
	t.Setenv("REDIS_PASSWORD", "s3cret")
	h := newHost(t)
	commit(t, h, process(t, "words", "role-words", nil))
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", status1(t, h).PID))
	if err != nil {
		t.Fatal(err)
	}
	for v := range strings.SplitSeq(strings.TrimRight(string(b), "\x00"), "\x00") {
		name, value, _ := strings.Cut(v, "=")
		if !strings.HasPrefix(name, "PLUGIN_") && name != filter.CookieKey && v != "HELLO=plugin" && name != "GORACE" {
			t.Errorf("it has %s (%d bytes)", name, len(value))
		}
	}
}

// The folder with the sockets is nobody else's, and nothing of it stays.
func TestTheSocketIsPrivateAndGoesAway(t *testing.T) {
	h := newHost(t)
	commit(t, h, process(t, "words", "role-words", nil))
	dir := h.sockets.path
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v %v", info, err)
	}
	var sockets []string
	_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type() == os.ModeSocket {
			sockets = append(sockets, path)
		}
		return nil
	})
	if len(sockets) != 1 {
		t.Errorf("sockets %q", sockets)
	}
	if err := h.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after Close: %v", err)
	}
}

// What a host left that was killed, the next one removes; what is in use stays.
func TestLeftOversOfAKilledHostAreRemoved(t *testing.T) {
	base, err := os.MkdirTemp("/tmp", "s")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(base)
	old := time.Now().Add(-time.Hour)
	stale := filepath.Join(base, dirPrefix+"stale")
	if err := os.MkdirAll(filepath.Join(stale, "1"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(stale, lockName), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(stale, old, old); err != nil {
		t.Fatal(err)
	}
	used, err := newSocketDir(base)
	if err != nil {
		t.Fatal(err)
	}
	defer used.remove()
	if _, err := os.Stat(stale); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("stale: %v", err)
	}
	if err := os.Chtimes(used.path, old, old); err != nil {
		t.Fatal(err)
	}
	next, err := newSocketDir(base)
	if err != nil {
		t.Fatal(err)
	}
	defer next.remove()
	if _, err := os.Stat(used.path); err != nil {
		t.Errorf("in use: %v", err)
	}
}

// state is a process's state as ps shows it; empty when there is none.
func state(pid int) string {
	b, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	_, rest, _ := strings.Cut(string(b), ") ")
	return rest[:min(len(rest), 1)]
}

// alive reports whether a process is there and no zombie.
func alive(pid int) bool { return !strings.Contains("ZX", state(pid)) }

func TestNoProcessOutlivesAClosedHost(t *testing.T) {
	h := newHost(t)
	commit(t, h, process(t, "a", "role-words", nil), process(t, "b", "role-forks", nil))
	var pids []int
	for _, st := range h.Status() {
		pids = append(pids, st.PID)
	}
	pids = append(pids, childrenOf(t, pids[1])...)
	if len(pids) != 3 {
		t.Fatalf("processes %v", pids)
	}
	if err := h.Close(t.Context()); err != nil {
		t.Error(err)
	}
	for _, pid := range pids {
		if alive(pid) {
			t.Errorf("%d of %v lives", pid, pids)
		}
	}
	if _, err := h.Prepare(t.Context(), nil); !errors.Is(err, ErrClosed) {
		t.Errorf("Prepare after Close: %v", err)
	}
}

// childrenOf waits for the one process that a plugin in role-forks starts.
func childrenOf(t *testing.T, pid int) (list []int) {
	t.Helper()
	eventually(t, "the plugin has a child", func() bool {
		list = nil
		entries, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		for _, e := range entries {
			b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pid, e.Name()))
			for f := range strings.FieldsSeq(string(b)) {
				if n, err := strconv.Atoi(f); err == nil {
					list = append(list, n)
				}
			}
		}
		return len(list) == 1
	})
	return list
}

// forks is a plugin with a child that keeps its pipes open.
func forks() {
	cmd := exec.Command("sleep", "60")
	cmd.Path, cmd.Stdout, cmd.Stderr = "/bin/sleep", os.Stdout, os.Stderr
	cmd.Err = nil
	if err := cmd.Start(); err != nil {
		panic(err)
	}
	filter.Plugin{Name: "forks", Stateless: true, Config: filter.Configured(wordsConfig{}, words)}.Serve()
}

// relayThatDies is a host that tells its plugin's number and waits to be killed.
func relayThatDies() {
	h := New(HostOptions{Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	set, err := h.Prepare(context.Background(), []Options{{Name: "words", Command: []string{self, "role-words"}, Unpinned: true, MTLS: true, Enforce: 100}})
	if err != nil {
		panic(err)
	}
	h.Commit(set)
	fmt.Println(h.Status()[0].PID)
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// The kernel takes care of that, also when the plugin is stopped and reads no end
// of its standard input.
func TestNoProcessOutlivesAKilledHost(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the kernel does not see to it here")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "role-host")
	cmd.Env = []string{"TMPDIR=/tmp"}
	stdin, _ := cmd.StdinPipe()
	defer stdin.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Fscan(out, &pid); err != nil || !alive(pid) {
		_ = cmd.Process.Kill()
		t.Fatalf("plugin %d: %v", pid, err)
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Error(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait()
	eventually(t, "the plugin is gone with its host", func() bool { return !alive(pid) })
}
