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

// Log is a logger whose level can change while it is in use. Of lines that
// repeat, it writes a hundred a second and counts the rest, but for those called
// "audit".
type Log struct {
	*slog.Logger
	level   slog.LevelVar
	repeats *repeats
}

// NewLog makes a logger. An unknown level or format is an error.
func NewLog(opt LogOptions) (*Log, error) {
	l := &Log{}
	if err := l.SetLevel(opt.Level); err != nil {
		return nil, err
	}
	h, err := l.handler(opt)
	if err != nil {
		return nil, err
	}
	l.repeats = limitRepeats(h)
	l.Logger = slog.New(l.repeats)
	return l, nil
}

func (l *Log) handler(opt LogOptions) (slog.Handler, error) {
	o := &slog.HandlerOptions{Level: &l.level}
	switch opt.Format {
	case "json":
		return jsonHandler(opt, o), nil
	case "text":
		return slog.NewTextHandler(opt.Output, o), nil
	case "", "auto":
		if isTerminal(opt.Output) {
			return newConsole(opt.Output, &l.level), nil
		}
		return jsonHandler(opt, o), nil
	}
	return nil, fmt.Errorf("log format %q: must be auto, json or text", opt.Format)
}

func jsonHandler(opt LogOptions, o *slog.HandlerOptions) slog.Handler {
	var attrs []slog.Attr
	if opt.Service != "" {
		attrs = append(attrs, slog.String("service", opt.Service))
	}
	if opt.Instance != "" {
		attrs = append(attrs, slog.String("instance", opt.Instance))
	}
	h := slog.Handler(slog.NewJSONHandler(opt.Output, o))
	if len(attrs) > 0 {
		h = h.WithAttrs(attrs)
	}
	return h
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
