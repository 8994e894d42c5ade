package telemetry

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestJSONLineSaysServiceAndInstance(t *testing.T) {
	var b bytes.Buffer
	log, err := NewLog(LogOptions{Output: &b, Format: "auto", Service: "relay", Instance: "i1"})
	if err != nil {
		t.Fatal(err)
	}
	log.Info("hello", "room", "lobby")
	var line map[string]any
	if err := json.Unmarshal(b.Bytes(), &line); err != nil {
		t.Fatalf("%v in %q", err, b.String())
	}
	for k, want := range map[string]string{"msg": "hello", "service": "relay", "instance": "i1", "room": "lobby", "level": "INFO"} {
		if line[k] != want {
			t.Errorf("%s = %v, want %q", k, line[k], want)
		}
	}
}

func TestLevelChangesLive(t *testing.T) {
	var b bytes.Buffer
	log, err := NewLog(LogOptions{Output: &b, Format: "text", Level: "warn"})
	if err != nil {
		t.Fatal(err)
	}
	child := log.With("a", 1)
	child.Info("before")
	if err := log.SetLevel("debug"); err != nil {
		t.Fatal(err)
	}
	child.Debug("after")
	if got := b.String(); strings.Contains(got, "before") || !strings.Contains(got, "after") {
		t.Errorf("wrote %q", got)
	}
}

func TestUnknownLevelAndFormatAreErrors(t *testing.T) {
	for _, opt := range []LogOptions{{Level: "loud"}, {Format: "xml"}} {
		if _, err := NewLog(opt); err == nil {
			t.Errorf("%+v was accepted", opt)
		}
	}
}

// A client's name or room can hold anything; none of it may start a line of its
// own or reach the terminal as an escape.
func TestConsoleQuotesWhatCouldForgeALine(t *testing.T) {
	var b bytes.Buffer
	log := slog.New(newConsole(&b, slog.LevelInfo))
	log.With("user", "eve\n14:00:00 INFO forged").WithGroup("g").Info("hello", "room", "\x1b[2Jx", "n", 3, slog.Group("h", "k", "v"))
	got := b.String()
	if strings.Count(got, "\n") != 1 {
		t.Errorf("more than one line: %q", got)
	}
	for _, want := range []string{`"eve\n14:00:00 INFO forged"`, `"\x1b[2Jx"`, "g.h.k=\x1b[0mv", "g.n=\x1b[0m3"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %q", want, got)
		}
	}
}

func TestConsoleLeavesOutLowerLevelsAndZeroTime(t *testing.T) {
	var b bytes.Buffer
	h := newConsole(&b, slog.LevelWarn)
	if h.Enabled(t.Context(), slog.LevelInfo) {
		t.Error("info is enabled at warn")
	}
	if err := h.Handle(t.Context(), slog.NewRecord(time.Time{}, slog.LevelError, "boom", 0)); err != nil {
		t.Fatal(err)
	}
	if got, want := b.String(), "\x1b[31mERROR\x1b[0m boom\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
