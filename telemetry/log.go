// Package telemetry is what relay tells about itself. It imports nothing of
// ours: whoever has something to tell hands it over in plain values.
package telemetry

import (
	"fmt"
	"io"
	"log/slog"
	"os"

	"golang.org/x/term"
)

// LogOptions say how logs are written.
type LogOptions struct {
	Level  string // debug, info, warn or error
	Format string // auto, json or text; auto is text on a terminal, json elsewhere
	Output io.Writer
	// Service and Instance stand in every JSON line.
	Service, Instance string
}

// Log is a logger whose level can change while it is in use.
type Log struct {
	*slog.Logger
	level slog.LevelVar
}

// NewLog makes a logger. An unknown level or format is an error.
func NewLog(opt LogOptions) (*Log, error) {
	l := &Log{}
	if err := l.SetLevel(opt.Level); err != nil {
		return nil, err
	}
	h := &slog.HandlerOptions{Level: &l.level}
	switch opt.Format {
	case "json":
		l.Logger = jsonLogger(opt, h)
	case "text":
		l.Logger = slog.New(slog.NewTextHandler(opt.Output, h))
	case "", "auto":
		if isTerminal(opt.Output) {
			l.Logger = slog.New(newConsole(opt.Output, &l.level))
		} else {
			l.Logger = jsonLogger(opt, h)
		}
	default:
		return nil, fmt.Errorf("log format %q: must be auto, json or text", opt.Format)
	}
	return l, nil
}

func jsonLogger(opt LogOptions, h *slog.HandlerOptions) *slog.Logger {
	log := slog.New(slog.NewJSONHandler(opt.Output, h))
	if opt.Service != "" {
		log = log.With("service", opt.Service)
	}
	if opt.Instance != "" {
		log = log.With("instance", opt.Instance)
	}
	return log
}

// SetLevel changes the level from the next line on; empty means info.
func (l *Log) SetLevel(name string) error {
	if name == "" {
		name = "info"
	}
	var v slog.Level
	if err := v.UnmarshalText([]byte(name)); err != nil {
		return fmt.Errorf("log level %q: must be debug, info, warn or error", name)
	}
	l.level.Set(v)
	return nil
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
