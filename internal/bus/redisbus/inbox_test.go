package redisbus

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/redis/go-redis/v9"

	"github.com/wsrelay/relay/internal/bus"
)

// conversation is of everything that a server says on a pub/sub connection.
const conversation = "*3\r\n$9\r\nsubscribe\r\n$5\r\nprobe\r\n:1\r\n" +
	"*3\r\n$7\r\nmessage\r\n$4\r\nroom\r\n$13\r\nhello\r\n\x00world\r\n" +
	"*3\r\n$8\r\nsmessage\r\n$4\r\nroom\r\n$0\r\n\r\n" +
	"*3\r\n$10\r\nssubscribe\r\n$4\r\nroom\r\n:134217727\r\n" +
	"*2\r\n$4\r\npong\r\n$0\r\n\r\n" +
	"*3\r\n$11\r\nunsubscribe\r\n$5\r\nprobe\r\n:0\r\n" +
	"*3\r\n$12\r\nsunsubscribe\r\n$4\r\nroom\r\n:0\r\n" +
	"-MOVED 3 127.0.0.1:1\r\n"

var conversed = []string{
	`1 "probe" ""`, `0 "room" "hello\r\n\x00world"`, `0 "room" ""`, `1 "room" ""`, `3 "" ""`, `2 "probe" ""`, `2 "room" ""`, "MOVED 3 127.0.0.1:1",
}

// heard is what an inbox makes of what r reads, its error the last.
func heard(r io.Reader, rows bus.Gatherer) (said []string, err error) {
	in := inbox{conn: r, handler: rows, buf: make([]byte, 256)}
	defer in.flush()
	for {
		n, err := in.next()
		if err != nil {
			return append(said, err.Error()), err
		}
		said = append(said, fmt.Sprintf("%d %q %q", n.kind, n.channel, n.payload))
	}
}

// split reads its parts one at a time.
func split(parts ...[]byte) io.Reader {
	var all []io.Reader
	for _, p := range parts {
		all = append(all, bytes.NewReader(p))
	}
	return io.MultiReader(all...)
}

func TestInboxTakesApartWhatAServerSays(t *testing.T) {
	data := []byte(conversation)
	for i := range data {
		for name, r := range map[string]io.Reader{
			"two reads":   split(data[:i], data[i:]),
			"three reads": split(data[:i/2], data[i/2:i], data[i:]),
		} {
			if got, err := heard(r, bus.AtOnce{}); !slices.Equal(got, conversed) || fateOf(err) != elsewhere {
				t.Fatalf("%s, at %d: %q", name, i, got)
			}
		}
	}
	if got, _ := heard(iotest.OneByteReader(bytes.NewReader(data)), bus.AtOnce{}); !slices.Equal(got, conversed) {
		t.Errorf("byte by byte: %q", got)
	}
}

func TestInboxRefusesWhatNoServerSays(t *testing.T) {
	long := strings.Repeat("x", refusalMax)
	for _, text := range []string{
		"hello\r\n", "\r\n", "+OK\r\n", ":1\r\n", "$3\r\nabc\r\n", "*-1\r\n", "*\r\n", "*3\n", "*0\r\n", "*1\r\n$4\r\npong\r\n",
		"*3\r\n*3\r\n", "*3\r\n+message\r\n", "*3\r\n$-1\r\n", "*3\r\n$7\r\nmessageXX", "*3\r\n$8\r\nsomething\r\n", "*4\r\n$8\r\npmessage\r\n",
		"*2\r\n$7\r\nmessage\r\n", "*3\r\n$4\r\npong\r\n", "*3\r\n$7\r\nmessage\r\n*1\r\n", "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n:1\r\n",
		"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n*9\r\n", "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n$1\r\n1\r\n", "*3\r\n$9\r\nsubscribe\r\n$-1\r\n",
		fmt.Sprintf("*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$%d\r\n", answerMax), "*99999999999999999999\r\n", "%3\r\n", "-" + long,
	} {
		if got, err := heard(strings.NewReader(text), bus.AtOnce{}); len(got) != 1 || !errors.Is(err, errProtocol) {
			t.Errorf("%.60q: %.80q", text, got)
		}
	}
	for _, text := range []string{"", "*", "*3\r", "*3\r\n$7\r\nmess", "-ERR x", "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$4\r\nbody\r"} {
		if got, err := heard(strings.NewReader(text), bus.AtOnce{}); len(got) != 1 || !errors.Is(err, io.EOF) {
			t.Errorf("%q: %q", text, got)
		}
	}
}

// The buffer grows for what is large, up to the bound, and not for longer.
func TestInboxGrowsForALargeMessage(t *testing.T) {
	var data []byte
	frame := len(appendMessage(nil, "room", ""))
	largest := strings.Repeat("x", answerMax-frame-len("4194304")+1)
	payloads := []string{"small", largest, "small", strings.Repeat("y", 3*inboxSize), largest}
	for _, p := range payloads {
		data = appendMessage(data, "room", p)
	}
	in := inbox{conn: bytes.NewReader(data), handler: bus.AtOnce{}}
	for i, p := range payloads {
		n, err := in.next()
		if err != nil || string(n.payload) != p {
			t.Fatalf("%d: %d bytes, want %d: %v", i, len(n.payload), len(p), err)
		}
		if len(in.buf) > answerMax {
			t.Errorf("%d: a buffer of %d bytes", i, len(in.buf))
		}
	}
	if _, err := in.next(); !errors.Is(err, io.EOF) || len(in.buf) != inboxSize {
		t.Errorf("%v, and a buffer of %d bytes stays", err, len(in.buf))
	}
	if _, err := heard(bytes.NewReader(appendMessage(nil, "room", largest+"x")), bus.AtOnce{}); !errors.Is(err, errProtocol) {
		t.Errorf("one byte more: %v", err)
	}
}

// rows notes what comes in a row.
type rows struct{ said strings.Builder }

func (r *rows) Gather() { r.said.WriteByte('(') }
func (r *rows) Flush()  { r.said.WriteByte(')') }

type readNoted struct {
	io.Reader
	*rows
}

func (r readNoted) Read(b []byte) (int, error) {
	r.said.WriteByte('r')
	return r.Reader.Read(b)
}

// What one read brought is enclosed, and nothing is put off over the next.
func TestInboxTellsWhatComesInARow(t *testing.T) {
	one := appendMessage(nil, "room", "hello")
	in := &rows{}
	_, _ = heard(readNoted{split(bytes.Repeat(one, 3), one, one[:10], one[10:]), in}, in)
	if got := in.said.String(); got != "r()r()r()r()r" {
		t.Errorf("%s", got)
	}
}

// However it is split, the same is heard; what is heard was said.
func FuzzInbox(f *testing.F) {
	f.Add([]byte(conversation), uint16(20))
	f.Add(appendMessage([]byte(conversation[:36]), "room", strings.Repeat("x", 100)), uint16(3))
	f.Add([]byte("*3\r\n$7\r\nmessage\r\n*3\r\n"), uint16(7))
	f.Add([]byte("-ERR x\r\n*2\r\n$4\r\npong\r\n$1\r\nx\r\n"), uint16(1))
	f.Fuzz(func(t *testing.T, data []byte, size uint16) {
		whole, err := heard(bytes.NewReader(data), bus.AtOnce{})
		var reply redis.Error
		if !errors.Is(err, io.EOF) && !errors.Is(err, errProtocol) && !errors.As(err, &reply) {
			t.Fatal(err)
		}
		said := whole[:len(whole)-1]
		var parts [][]byte
		for part := range slices.Chunk(data, int(size%512)+1) {
			parts = append(parts, part)
		}
		again, err2 := heard(split(parts...), bus.AtOnce{})
		if !slices.Equal(again[:len(again)-1], said) || errors.Is(err, io.EOF) != errors.Is(err2, io.EOF) || errors.Is(err, errProtocol) != errors.Is(err2, errProtocol) {
			t.Fatalf("%q in parts of %d, at once %q", again, size%512+1, whole)
		}
		for i := range min(len(data), 256) {
			got, _ := heard(split(data[:i], data[i:]), bus.AtOnce{})
			if !slices.Equal(got[:len(got)-1], said) {
				t.Fatalf("split at %d: %q, whole %q", i, got, whole)
			}
		}
		if n := len(data); n > 0 && len(said) > 0 { // said again, it is the same
			in := inbox{conn: bytes.NewReader(data), handler: bus.AtOnce{}}
			words := []string{"message", "subscribe", "unsubscribe", "pong"}
			var b []byte
			for range said {
				n, err := in.next()
				if err != nil {
					t.Fatal(err)
				}
				items := 3
				if n.kind == pong {
					items = 2
				}
				b = appendArg(appendArg(appendCommand(b, items), words[n.kind]), n.channel)
				switch n.kind {
				case someMessage:
					b = appendArg(b, n.payload)
				case subscribed, unsubscribed:
					b = append(b, ":1\r\n"...)
				}
			}
			if got, _ := heard(bytes.NewReader(b), bus.AtOnce{}); !slices.Equal(got[:len(got)-1], said) {
				t.Fatalf("%q said again is %q", said, got)
			}
		}
	})
}
