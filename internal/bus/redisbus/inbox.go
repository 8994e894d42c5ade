package redisbus

import (
	"bytes"
	"fmt"
	"io"

	"github.com/wsrelay/relay/internal/bus"
)

// inboxSize is what one read brings at most, unless a message is larger.
const inboxSize = 32 << 10

// inbox takes apart what a server says on a pub/sub connection, where it lies in
// the buffer. One read brings many messages when there is much to say; the
// handler is told that they come in a row.
type inbox struct {
	conn    io.Reader
	handler bus.Gatherer
	buf     []byte
	at, end int // of what was read and not returned yet
	begun   bool
}

// news is what a server says on a pub/sub connection.
type news struct {
	kind             newsKind
	channel, payload []byte // in the buffer: as they are until the next is asked for
}

type newsKind byte

const (
	someMessage newsKind = iota
	subscribed
	unsubscribed
	pong
)

// next waits for the next of the news. An error, a server's included, says that
// the connection is of no use any more.
func (in *inbox) next() (news, error) {
	for {
		n, size, err := parseNews(in.buf[in.at:in.end])
		if err != nil {
			return news{}, err
		}
		if size > 0 {
			in.at += size
			return n, nil
		}
		if err := in.read(); err != nil {
			return news{}, err
		}
	}
}

// read adds to the buffer. It may wait: until then nothing must be put off.
func (in *inbox) read() error {
	in.flush()
	rest := copy(in.buf, in.buf[in.at:in.end])
	in.at, in.end = 0, rest
	switch {
	case rest == len(in.buf): // a message is larger; parseNews has the bound
		in.buf = append(in.buf, make([]byte, max(inboxSize, rest))...)
	case rest == 0 && len(in.buf) > keepMax:
		in.buf = make([]byte, inboxSize)
	}
	n, err := in.conn.Read(in.buf[rest:])
	if n == 0 {
		return err
	}
	in.end += n
	in.begun = true
	in.handler.Gather()
	return nil
}

// flush ends a row.
func (in *inbox) flush() {
	if in.begun {
		in.begun = false
		in.handler.Flush()
	}
}

// parseNews takes apart what b begins with. Size is 0 while some of it is
// missing. Every list is known by its first item, and holds no other.
func parseNews(b []byte) (n news, size int, err error) {
	if len(b) > 0 && b[0] == '-' {
		return n, 0, parseRefusal(b)
	}
	items, i, err := parseHeader(b, 0, '*')
	if err != nil || i == 0 {
		return n, 0, err
	}
	if items != 2 && items != 3 {
		return n, 0, fmt.Errorf("%w: a list of %d", errProtocol, items)
	}
	word, i, err := parseBulk(b, i)
	if err != nil || i == 0 {
		return n, 0, err
	}
	want := 3
	switch string(word) {
	case "message", "smessage":
	case "subscribe", "ssubscribe":
		n.kind = subscribed
	case "unsubscribe", "sunsubscribe":
		n.kind = unsubscribed
	case "pong":
		n.kind, want = pong, 2
	default:
		want = -1
	}
	if items != want {
		return n, 0, fmt.Errorf("%w: %d items that begin with %.20q", errProtocol, items, word)
	}
	if n.channel, i, err = parseBulk(b, i); err != nil || i == 0 {
		return n, 0, err
	}
	switch n.kind {
	case someMessage:
		n.payload, i, err = parseBulk(b, i)
	case subscribed, unsubscribed:
		_, i, err = parseHeader(b, i, ':') // how many there are now
	}
	return n, i, err
}

// parseHeader reads the line at i, a kind and a number; next is 0 while some of
// it is missing.
func parseHeader(b []byte, i int, kind byte) (n, next int, err error) {
	for j := i; j < len(b); j++ {
		switch c := b[j]; {
		case j == i && c == kind:
		case j > i && '0' <= c && c <= '9' && n < 1<<27:
			n = 10*n + int(c-'0')
		case j > i+1 && c == '\r' && j+1 == len(b):
			return 0, 0, nil
		case j > i+1 && c == '\r' && b[j+1] == '\n':
			return n, j + 2, nil
		default:
			return 0, 0, fmt.Errorf("%w: %.40q", errProtocol, b[i:])
		}
	}
	return 0, 0, nil
}

// parseBulk reads the string at i; next is 0 while some of it is missing.
func parseBulk(b []byte, i int) (text []byte, next int, err error) {
	n, i, err := parseHeader(b, i, '$')
	if err != nil || i == 0 {
		return nil, 0, err
	}
	switch next = i + n + 2; {
	case next > answerMax:
		return nil, 0, fmt.Errorf("%w: a message with a string of %d bytes", errProtocol, n)
	case next > len(b):
		return nil, 0, nil
	case b[next-2] != '\r' || b[next-1] != '\n':
		return nil, 0, fmt.Errorf("%w: a string without its end", errProtocol)
	}
	return b[i : i+n : i+n], next, nil
}

// refusalMax is how long an error of a server may be.
const refusalMax = 4096

// parseRefusal reads the error that b begins with; nil while some of it is missing.
func parseRefusal(b []byte) error {
	line, _, whole := bytes.Cut(b[:min(len(b), refusalMax)], []byte("\r\n"))
	switch {
	case whole:
		return replyError(line[1:])
	case len(b) >= refusalMax:
		return fmt.Errorf("%w: %.40q", errProtocol, b)
	}
	return nil
}
