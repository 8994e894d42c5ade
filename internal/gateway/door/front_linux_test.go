package door

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The first look takes what is plain, and leaves the rest unread.
func TestWhatTakesTheShortcut(t *testing.T) {
	line := fmt.Sprintf(upgrade, "/ws")
	for text, want := range map[string]bool{
		line + "\r\n": true,
		line + "Cookie: a=b\r\nContent-Length: 0\r\n\r\n": true,
		line:                                  false,
		line + "\r\nframe":                    false,
		line + "\r\n\r\n":                     false,
		line + "Content-Length: 1\r\n\r\n":    false,
		line + "Expect: 100-continue\r\n\r\n": false,
		line + "a b: c\r\n\r\n":               false,
		strings.Replace(line, "GET", "HEAD", 1) + "\r\n":      false,
		strings.Replace(line, "1.1", "1.0", 1) + "\r\n":       false,
		strings.Replace(line, "websocket", "h2c", 1) + "\r\n": false,
		strings.Replace(line, ":5000", "/x", 1) + "\r\n":      false,
		"": false,
	} {
		h := newHead()
		if r := h.request(copy(h.buf[:], text)); (r != nil) != want {
			t.Errorf("%q: %v", text, r)
		}
	}
}

// Handshakes take the shortcut, or all of it would be for nothing, and what comes
// from Listen is prepared without another call.
func TestConnectionsInheritTheirOptions(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0", ":0"} {
		ln, err := Listen(address)
		if err != nil {
			t.Logf("%s: %v", address, err) // a machine without IPv6
			continue
		}
		f := NewFront(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			hs, ok := w.(*handshake)
			if !ok {
				t.Errorf("%s: it went by a %T", address, w)
				return
			}
			fd := hs.take().Detach()
			defer unix.Close(fd)
			for _, o := range inherited {
				if v, err := unix.GetsockoptInt(fd, o.level, o.name); v != o.value || err != nil {
					t.Errorf("%s: option %d is %d, %v", address, o.name, v, err)
				}
			}
			_, _ = unix.Write(fd, []byte(r.RemoteAddr))
		}), slog.New(slog.DiscardHandler))
		served := make(chan error, 1)
		go func() { served <- f.Serve(ln) }()
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = fmt.Fprintf(c, upgrade+"\r\n", "/ws")
		if b, err := io.ReadAll(c); string(b) != c.LocalAddr().String() || err != nil {
			t.Errorf("%s: %s is called %q, %v", address, c.LocalAddr(), b, err)
		}
		_ = c.Close()
		if err := f.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		<-served
	}
}

// Who is not let in is not held, whether or not the handler asks for that.
func TestAnAnswerOnTheShortcutIsTheLast(t *testing.T) {
	_, addr := open(t, "shortcut", http.NotFoundHandler(), slog.New(slog.DiscardHandler))
	if got := say(t, addr, fmt.Sprintf(upgrade, "/ws")+"\r\n"); !strings.HasPrefix(got, "HTTP/1.1 404 Not Found\r\n") || !strings.Contains(got, "Connection: close\r\n") {
		t.Errorf("%q", got)
	}
}

// Who says nothing, or not all, is cut by net/http.
func TestSlowHandshakesAreCutOnTheShortcutToo(t *testing.T) {
	ln, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := NewFront(http.HandlerFunc(handler), slog.New(slog.DiscardHandler))
	f.http.ReadHeaderTimeout = 10 * time.Millisecond
	served := make(chan error, 1)
	go func() { served <- f.Serve(ln) }()
	for _, text := range []string{"", "GET", fmt.Sprintf(upgrade, "/ws")} {
		if got := say(t, ln.Addr().String(), text); strings.Contains(got, "101") { // closed, with 400 or without a word
			t.Errorf("%q: %q", text, got)
		}
	}
	if err := f.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	<-served
}

// When there are no more descriptors, both ways say so and go on when there are.
func TestDescriptorsThatRunOutAreWaitedFor(t *testing.T) {
	for way := range ways {
		told := make(chan string, 100)
		_, addr := open(t, way, http.HandlerFunc(handler), slog.New(slog.NewTextHandler(tell(told), &slog.HandlerOptions{Level: slog.LevelError})))
		c := call(t, addr, "")
		var was unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
			t.Fatal(err)
		}
		none := was
		none.Cur = 3 // what is open stays
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &none); err != nil {
			t.Fatal(err)
		}
		_, _ = fmt.Fprintf(c, upgrade+"\r\n", "/ws")
		said := <-told
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(said, "too many open files") || !strings.Contains(said, "retrying") {
			t.Errorf("%s: %s", way, said)
		}
		if b, err := io.ReadAll(c); !strings.Contains(string(b), "101") {
			t.Errorf("%s: %q %v", way, b, err)
		}
	}
}

type tell chan string

func (c tell) Write(p []byte) (int, error) {
	select {
	case c <- string(p):
	default:
	}
	return len(p), nil
}

// A listener of somebody else, whose connections have no options, is net/http's.
func TestAListenerOfSomebodyElseIsServed(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := NewFront(http.HandlerFunc(handler), slog.New(slog.DiscardHandler))
	if f.shorten(ln) != ln {
		t.Error("it takes the shortcut")
	}
	served := make(chan error, 1)
	go func() { served <- f.Serve(ln) }()
	if got := say(t, ln.Addr().String(), fmt.Sprintf(upgrade, "/ws")+"\r\n"); !strings.Contains(got, "101") {
		t.Errorf("%q", got)
	}
	if err := f.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
}
