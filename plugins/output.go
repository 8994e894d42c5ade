package plugins

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

const (
	maxLine   = 4 << 10 // bytes of a line that are logged
	lineBurst = 100     // lines a second that are logged of one stream
	tailLines = 10      // of standard error, kept for the error when a start fails
	readBurst = 4 << 20 // bytes a second that are read of one stream
)

// output turns what a plugin prints into log lines. It reads whatever comes, and
// what is too much is counted instead of logged. A plugin that floods is read no
// faster than readBurst, so that it blocks itself and not relay's processor.
type output struct {
	log    *slog.Logger // with the filter's name
	stream string
	plain  slog.Level      // of lines that do not tell theirs
	gone   <-chan struct{} // closed when the process is: what is left is read at once

	mu   sync.Mutex
	tail []string // guarded by mu

	reading    sync.Mutex // standard output comes by two ways
	window     time.Time  // start of the second that lines and bytes count; guarded by reading, like all below
	lines      int
	bytes      int
	suppressed int
	closed     bool // nothing is logged any more
}

// read logs r line by line until it ends. hold, if not nil, gets each line
// first, and keeps it from the log by returning true.
func (o *output) read(r io.Reader, hold func(string) bool) {
	br := bufio.NewReaderSize(r, maxLine)
	for {
		line, more, err := br.ReadLine()
		if err != nil {
			return
		}
		s := string(bytes.TrimRight(line, "\r"))
		for more && err == nil { // the rest of a line that is too long
			o.pace(len(line))
			line, more, err = br.ReadLine()
		}
		if hold == nil || !hold(s) {
			o.line(s)
		}
		o.pace(len(line) + 1)
	}
}

// pace counts n bytes, and waits for the next second when there were too many in
// this one.
func (o *output) pace(n int) {
	o.reading.Lock()
	now := time.Now()
	if now.Sub(o.window) >= time.Second {
		o.report(now)
	}
	o.bytes += n
	over, left := o.bytes > readBurst, time.Second-now.Sub(o.window)
	o.reading.Unlock()
	if !over {
		return
	}
	t := time.NewTimer(left)
	defer t.Stop()
	select {
	case <-t.C:
	case <-o.gone:
	}
}

// Write implements io.Writer, for what a program made with the SDK prints, which
// comes over its connection: in pieces, of whole lines or not. Nothing is logged
// any more after close.
func (o *output) Write(p []byte) (int, error) {
	for line := range bytes.Lines(p) {
		o.line(string(bytes.TrimRight(line, "\r\n")))
		o.pace(len(line))
	}
	return len(p), nil
}

func (o *output) line(s string) {
	if strings.TrimSpace(s) == "" {
		return
	}
	s = strings.ToValidUTF8(s, "\uFFFD")
	o.mu.Lock()
	if len(o.tail) >= tailLines {
		o.tail = append(o.tail[:0], o.tail[1:]...)
	}
	o.tail = append(o.tail, s)
	o.mu.Unlock()

	o.reading.Lock()
	defer o.reading.Unlock()
	if o.closed {
		return
	}
	if now := time.Now(); now.Sub(o.window) >= time.Second {
		o.report(now)
	}
	if o.lines++; o.lines > lineBurst {
		o.suppressed++
		return
	}
	level, msg, attrs := parseLine(s, o.plain)
	o.log.LogAttrs(context.Background(), level, msg, append(attrs, slog.String("stream", o.stream))...)
}

// report says what was not logged, and begins a new second. reading is held.
func (o *output) report(now time.Time) {
	if o.suppressed > 0 {
		o.log.Warn("the filter printed more than is logged", "stream", o.stream, "suppressed_lines", o.suppressed)
	}
	o.window, o.lines, o.bytes, o.suppressed = now, 0, 0, 0
}

// close ends the logging. Whoever still brings something has come too late.
func (o *output) close() {
	o.reading.Lock()
	defer o.reading.Unlock()
	o.report(time.Now())
	o.closed = true
}

// last are the newest lines, for an error message.
func (o *output) last() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Join(o.tail, "\n")
}

// parseLine reads a line of structured log: that of log/slog (level, msg), and of
// hclog (@level, @message). Anything else is the message itself.
func parseLine(s string, plain slog.Level) (slog.Level, string, []slog.Attr) {
	if !strings.HasPrefix(s, "{") {
		return plain, s, nil
	}
	dec := json.NewDecoder(strings.NewReader(s))
	dec.UseNumber()
	var fields map[string]any
	if err := dec.Decode(&fields); err != nil || dec.More() {
		return plain, s, nil
	}
	take := func(names ...string) (string, bool) {
		for _, n := range names {
			if v, ok := fields[n].(string); ok {
				delete(fields, n)
				return v, true
			}
		}
		return "", false
	}
	msg, ok := take("msg", "@message", "message")
	if !ok || !utf8.ValidString(msg) {
		return plain, s, nil
	}
	level := plain
	if name, ok := take("level", "@level", "severity"); ok {
		_ = level.UnmarshalText([]byte(name)) // an unknown name leaves it as it is
	}
	delete(fields, "time")
	delete(fields, "@timestamp")
	attrs := make([]slog.Attr, 0, 1)
	if len(fields) > 0 {
		attrs = append(attrs, slog.Any("fields", fields)) // in a group of their own: they must not pose as ours
	}
	return level, msg, attrs
}

// handshakeLine is the reader of standard output that go-plugin gets: the one
// line it waits for, whatever was printed before it, and then nothing until the
// process has ended.
type handshakeLine struct {
	lines chan string
	ended <-chan struct{}
	rest  []byte
}

func newHandshakeLine(ended <-chan struct{}) *handshakeLine {
	return &handshakeLine{lines: make(chan string, 1), ended: ended}
}

// handshake is how the line begins. A program may have left something without a
// line's end before it.
var handshake = regexp.MustCompile(`[0-9]+\|[0-9]+\|(unix|tcp)\|`)

// hold takes the handshake out of the output.
func (h *handshakeLine) hold(line string) bool {
	at := handshake.FindStringIndex(line)
	if at == nil {
		return false
	}
	select {
	case h.lines <- line[at[0]:] + "\n":
		return true
	default:
		return false // a second one is noise
	}
}

// Read implements io.Reader.
func (h *handshakeLine) Read(p []byte) (int, error) {
	if len(h.rest) == 0 {
		select {
		case line := <-h.lines:
			h.rest = []byte(line)
		case <-h.ended:
			select {
			case line := <-h.lines: // printed, and dead already
				h.rest = []byte(line)
			default:
				return 0, io.EOF
			}
		}
	}
	n := copy(p, h.rest)
	h.rest = h.rest[n:]
	return n, nil
}

// Close implements io.Closer.
func (h *handshakeLine) Close() error { return nil }
