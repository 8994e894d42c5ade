package plugins

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/wsrelay/relay/internal/room"
	"github.com/wsrelay/relay/plugins/filter"
)

// Twenty upgrades under load: a new configuration each time. Every message gets a
// verdict, of the old process or the new.
func TestTwentyUpgradesUnderLoadLoseNothing(t *testing.T) {
	h := newHost(t)
	options := func(i int) Options {
		return process(t, "words", "role-words", wordsConfig{Words: []string{"spam"}, Tag: fmt.Sprint(i)})
	}
	var current atomic.Pointer[Chain]
	current.Store(commit(t, h, options(0)))
	load := startLoad(t, latest{&current}, 8)
	for i := 1; i <= 20; i++ {
		set, err := h.Prepare(t.Context(), []Options{options(i)})
		if err != nil {
			t.Fatal(err)
		}
		c, err := set.Chain([]string{"words"}, 0)
		if err != nil {
			t.Fatal(err)
		}
		current.Store(c)
		h.Commit(set)
		if r := judge(t, c, chat(`"x"`)); len(r.Flags) != 1 || r.Flags[0].Label != fmt.Sprint(i) || r.Steps[0].Generation != i+1 {
			t.Errorf("after upgrade %d: %+v", i, r)
		}
	}
	load.stop()
	t.Logf("%d judged, %d not", load.judged.Load(), load.failed.Load())
	if load.failed.Load() > 0 || load.judged.Load() == 0 {
		t.Errorf("%d messages without a verdict", load.failed.Load())
	}
	if st := status1(t, h); st.Failures != 0 || st.Generation != 21 {
		t.Errorf("%+v", st)
	}
}

// latest is a chain that may be exchanged, as a room's policy is at a reload.
type latest struct{ at *atomic.Pointer[Chain] }

func (l latest) Wants(e filter.Event) bool                      { return l.at.Load().Wants(e) }
func (l latest) Recent() int                                    { return 0 }
func (l latest) Judge(q *room.Query, done func(r *room.Ruling)) { l.at.Load().Judge(q, done) }

// A set that is refused leaves what is in force as it is, and one that changed
// nothing of a process leaves that alone.
func TestABadUpgradeLeavesTheOldInForce(t *testing.T) {
	h := newHost(t)
	c := commit(t, h, process(t, "words", "role-words", wordsConfig{Tag: "old"}))
	pid := status1(t, h).PID
	if _, err := h.Prepare(t.Context(), []Options{process(t, "words", "role-dies", wordsConfig{Tag: "new"})}); err == nil {
		t.Fatal("accepted")
	}
	if r := judge(t, c, chat(`"x"`)); r.Flags[0].Label != "old" || status1(t, h).PID != pid {
		t.Errorf("%+v", r)
	}
	discarded, err := h.Prepare(t.Context(), []Options{process(t, "words", "role-words", wordsConfig{Tag: "new"})})
	if err != nil {
		t.Fatal(err)
	}
	discarded.Discard()
	if r := judge(t, c, chat(`"x"`)); r.Flags[0].Label != "old" {
		t.Errorf("%+v", r)
	}
	o := process(t, "words", "role-words", wordsConfig{Tag: "old"})
	o.Timeout, o.Mode = 3*time.Second, Observe
	commit(t, h, o)
	if st := status1(t, h); st.PID != pid || st.Mode != Observe || st.Starts != 1 {
		t.Errorf("%+v", st)
	}
}

// A changed program is another one, under the same name and configuration.
func TestAChangedProgramIsStarted(t *testing.T) {
	h := newHost(t)
	o := process(t, "words", "role-words", nil)
	script := filepath.Join(t.TempDir(), "filter")
	write := func(comment string) {
		t.Helper()
		text := fmt.Sprintf("#!/bin/sh\n# %s\nexec %q role-words\n", comment, o.Command[0])
		if err := os.WriteFile(script+".new", []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(script+".new", script); err != nil {
			t.Fatal(err)
		}
	}
	self := o.Command[0]
	write("one")
	o.Command = []string{script}
	commit(t, h, o)
	pid := status1(t, h).PID
	o2 := o
	commit(t, h, o2)
	if status1(t, h).PID != pid {
		t.Error("an unchanged one was started again")
	}
	o.Command[0] = self
	write("two")
	o.Command[0] = script
	commit(t, h, o)
	if status1(t, h).PID == pid {
		t.Error("a changed one was not started")
	}
}

// A plugin whose program is gone cannot come back by itself: its messages are
// Overload, at once. A reload that names a good one mends that.
func TestAReloadMendsWhatCannotStartAnyMore(t *testing.T) {
	h, book := loggingHost(t)
	good := process(t, "words", "role-words", nil)
	script := filepath.Join(t.TempDir(), "filter")
	if err := os.WriteFile(script, fmt.Appendf(nil, "#!/bin/sh\nexec %q role-words\n", good.Command[0]), 0o700); err != nil {
		t.Fatal(err)
	}
	bad := good
	bad.Command = []string{script}
	c := commit(t, h, bad)
	if err := os.Remove(script); err != nil {
		t.Fatal(err)
	}
	signalPlugin(t, h, syscall.SIGKILL)
	eventually(t, "messages do not wait for it any more", func() bool {
		return judge(t, c, chat(`"x"`)).Steps[0].Failure == Overload
	})
	if st := status1(t, h); st.PID != 0 || st.Breaker != "open" || !strings.Contains(st.LastError, "finding its program") {
		t.Errorf("%+v", st)
	}
	eventually(t, "the log tells how it ended", func() bool { return strings.Contains(book.String(), `how="signal: killed"`) })
	if err := h.Check(t.Context(), []Options{bad}); err == nil {
		t.Error("a reload does not notice")
	}
	commit(t, h, good)
	if r := judge(t, c, chat(`"x"`)); r.Action != filter.ActionAllow || r.Steps[0].Failure != "" {
		t.Errorf("after the reload: %+v", r)
	}
}

// A filter that a configuration does not have any more ends, though somebody may
// still hold a chain of it.
func TestARemovedFilterEnds(t *testing.T) {
	h := newHost(t)
	c := commit(t, h, process(t, "words", "role-words", nil))
	pid := status1(t, h).PID
	commit(t, h)
	if len(h.Status()) != 0 {
		t.Errorf("%+v", h.Status())
	}
	if r := judge(t, c, chat(`"x"`)); r.Action != filter.ActionAllow || r.Steps[0].Failure != "" {
		t.Errorf("who had the chain a moment before: %+v", r)
	}
	eventually(t, "its process is gone", func() bool { return !alive(pid) })
	if r := judge(t, c, chat(`"x"`)); !r.Unavailable || r.Steps[0].Failure != Crash {
		t.Errorf("%+v", r)
	}
}
