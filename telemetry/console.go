package telemetry

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
)

// console writes log lines for people: time, level, message, then the rest.
//
//	14:02:07 INFO  listening  url=ws://localhost:5000/
type console struct {
	mu    *sync.Mutex // one line at a time, whichever handler it comes from
	out   io.Writer
	level slog.Leveler
	attrs string // of With, rendered
	group string
}

func newConsole(out io.Writer, level slog.Leveler) *console {
	return &console{mu: new(sync.Mutex), out: out, level: level}
}

// Enabled implements slog.Handler.
func (c *console) Enabled(_ context.Context, l slog.Level) bool { return l >= c.level.Level() }

// Handle implements slog.Handler.
func (c *console) Handle(_ context.Context, r slog.Record) error {
	var b bytes.Buffer
	if !r.Time.IsZero() {
		b.WriteString("\x1b[2m" + r.Time.Format("15:04:05") + "\x1b[0m ")
	}
	b.WriteString(levelColour(r.Level))
	name := r.Level.String()
	b.WriteString(name + "\x1b[0m" + strings.Repeat(" ", max(6-len(name), 1)))
	b.WriteString(r.Message)
	b.WriteString(c.attrs)
	r.Attrs(func(a slog.Attr) bool {
		b.WriteString(render(c.group, a))
		return true
	})
	b.WriteByte('\n')
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.out.Write(b.Bytes())
	return err
}

// WithAttrs implements slog.Handler.
func (c *console) WithAttrs(attrs []slog.Attr) slog.Handler {
	n := *c
	for _, a := range attrs {
		n.attrs += render(c.group, a)
	}
	return &n
}

// WithGroup implements slog.Handler.
func (c *console) WithGroup(name string) slog.Handler {
	n := *c
	n.group += name + "."
	return &n
}

func levelColour(l slog.Level) string {
	switch {
	case l >= slog.LevelError:
		return "\x1b[31m"
	case l >= slog.LevelWarn:
		return "\x1b[33m"
	case l >= slog.LevelInfo:
		return "\x1b[32m"
	default:
		return "\x1b[2m"
	}
}

func render(group string, a slog.Attr) string {
	if a.Equal(slog.Attr{}) {
		return ""
	}
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		var s string
		for _, x := range v.Group() {
			s += render(group+a.Key+".", x)
		}
		return s
	}
	s := v.String()
	// Control characters come from outside as often as not: quoted, they cannot
	// forge a line or move the cursor.
	if s == "" || strings.ContainsAny(s, " \"=") || strconv.Quote(s) != `"`+s+`"` {
		s = strconv.Quote(s)
	}
	return "  \x1b[2m" + group + a.Key + "=\x1b[0m" + s
}
