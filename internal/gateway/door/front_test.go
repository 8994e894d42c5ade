package door

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// ways are the two ways in. What a client sees of them is the same.
var ways = map[string]func(http.Handler, *slog.Logger) server{
	"net/http": func(h http.Handler, l *slog.Logger) server { return Server(h, l) },
	"shortcut": func(h http.Handler, l *slog.Logger) server { return NewFront(h, l) },
}

type server interface {
	Serve(net.Listener) error
	Shutdown(context.Context) error
	Close() error
}

// open serves h on a way until the test ends.
func open(t *testing.T, way string, h http.Handler, log *slog.Logger) (server, string) {
	t.Helper()
	ln, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := ways[way](h, log)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	t.Cleanup(func() {
		if err := srv.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return srv, ln.Addr().String()
}

// say sends text and returns all that comes until the server closes.
func say(t *testing.T, addr, text string) string {
	t.Helper()
	c := call(t, addr, text)
	b, err := io.ReadAll(c)
	if err != nil {
		t.Errorf("%v after %q", err, b)
	}
	return string(b)
}

func call(t *testing.T, addr, text string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	return c
}

const upgrade = "GET %s HTTP/1.1\r\nHost: relay.example:5000\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"

// switched hijacks, and tells what it saw.
func switched(w http.ResponseWriter, r *http.Request) {
	c, rw, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	defer c.Close()
	if _, _, err := w.(http.Hijacker).Hijack(); !errors.Is(err, http.ErrHijacked) {
		panic("hijacked twice")
	}
	ip := ClientIP(r, nil)
	_, _ = fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\n\r\n%s %s %s %d behind, from %s, X %q", r.Method, r.Host, r.URL, rw.Reader.Buffered(), ip, r.Header["X"])
}

func handler(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/ws":
		switched(w, r)
	case "/full":
		busy("full", "full").Write(w)
	case "/panic":
		panic("handler's own")
	case "/abort":
		panic(http.ErrAbortHandler)
	case "/silent":
		w.Header().Set("Connection", "close")
	default:
		b, _ := io.ReadAll(r.Body)
		w.Header().Set("Connection", "close")
		_, _ = fmt.Fprintf(w, "%s %s %q", r.Method, r.URL, b)
	}
}

// Whatever is said, both ways give the same answer.
func TestBothWaysInAnswerAlike(t *testing.T) {
	line := strings.ReplaceAll(upgrade, "%s", "/ws")
	for name, c := range map[string]struct{ text, want string }{
		"upgrade":                {line + "X: 1\r\nX: 2\r\n\r\n", "101 Switching Protocols\r\n\r\nGET relay.example:5000 /ws 0 behind, from 127.0.0.1, X [\"1\" \"2\"]"},
		"query":                  {strings.ReplaceAll(upgrade, "%s", "/ws?token=a%2Fb") + "\r\n", "/ws?token=a%2Fb 0 behind"},
		"absolute":               {strings.ReplaceAll(upgrade, "%s", "http://other.example/ws") + "\r\n", "GET other.example http://other.example/ws"},
		"two slashes":            {strings.ReplaceAll(upgrade, "%s", "//evil/ws") + "\r\n", "200 OK"},
		"HTTP/1.0":               {strings.Replace(line, "1.1", "1.0", 1) + "\r\n", "101"},
		"HTTP/2.0":               {strings.Replace(line, "1.1", "2.0", 1) + "\r\n", "505"},
		"no host":                {strings.Replace(line, "Host: relay.example:5000\r\n", "", 1) + "\r\n", "400 Bad Request: missing required Host header"},
		"an empty host":          {strings.Replace(line, "relay.example:5000", "", 1) + "\r\n", "101"},
		"two hosts":              {line + "Host: b\r\n\r\n", "400"},
		"a bad host":             {strings.Replace(line, "relay.example", "relay\"{example", 1) + "\r\n", "400 Bad Request: malformed Host header"},
		"a space in a name":      {line + "Content-Length : 5\r\n\r\n", "400"},
		"a control in a value":   {line + "X: a\x01b\r\n\r\n", "400"},
		"a folded line":          {line + "X: a\r\n b\r\n\r\n", "101"},
		"bare newlines":          {strings.ReplaceAll(line+"\r\n", "\r\n", "\n"), "101"},
		"garbage":                {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\r\n\r\n", "400 Bad Request"},
		"not a request":          {"GET /\r\n\r\n", "400 Bad Request"},
		"too much":               {line + "X: " + strings.Repeat("x", maxHeaderBytes+8<<10), "431"},
		"longer than most":       {line + "Y: " + strings.Repeat("x", 16<<10) + "\r\n\r\n", "101"},
		"as long as the look":    {line + "Y: " + strings.Repeat("x", 4<<10-len(line)-len("Y: \r\n\r\n")) + "\r\n\r\n", "101"},
		"post":                   {strings.Replace(line, "GET /ws", "POST /echo", 1) + "Content-Length: 3\r\n\r\nabc", `POST /echo "abc"`},
		"get with a body":        {strings.Replace(line, "/ws", "/echo", 1) + "Content-Length: 3\r\n\r\nabc", `GET /echo "abc"`},
		"chunks":                 {strings.Replace(line, "/ws", "/echo", 1) + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", `GET /echo "abc"`},
		"two lengths":            {line + "Content-Length: 3\r\nContent-Length: 4\r\n\r\n", "400"},
		"length and chunks":      {strings.Replace(line, "/ws", "/echo", 1) + "Content-Length: 30\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", `GET /echo ""`},
		"an unknown coding":      {line + "Transfer-Encoding: x\r\n\r\n", "501"},
		"expect":                 {strings.Replace(line, "/ws", "/echo", 1) + "Expect: 100-continue\r\nContent-Length: 3\r\n\r\nabc", "100 Continue"},
		"an unknown expectation": {line + "Expect: x\r\n\r\n", "417"},
		"head":                   {strings.Replace(line, "GET /ws", "HEAD /echo", 1) + "\r\n", "200 OK"},
		"not an upgrade":         {"GET /echo HTTP/1.1\r\nHost: x\r\n\r\n", `GET /echo ""`},
		"one after the other":    {"GET /full HTTP/1.1\r\nHost: x\r\n\r\nGET /full HTTP/1.1\r\nHost: x\r\n\r\n", "503"},
		"a refusal":              {strings.Replace(line, "/ws", "/full", 1) + "\r\n", "503 Service Unavailable"},
		"nothing said":           {strings.Replace(line, "/ws", "/silent", 1) + "\r\n", "200 OK"},
		"an answer":              {strings.Replace(line, "/ws", "/echo", 1) + "\r\n", `GET /echo ""`},
		"a panic":                {strings.Replace(line, "/ws", "/panic", 1) + "\r\n", ""},
		"an abort":               {strings.Replace(line, "/ws", "/abort", 1) + "\r\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := make(map[string]string)
			for way := range ways {
				_, addr := open(t, way, http.HandlerFunc(handler), slog.New(slog.DiscardHandler))
				got[way] = say(t, addr, c.text)
				if !strings.Contains(got[way], c.want) || c.want == "" && got[way] != "" {
					t.Errorf("%s: %q", way, got[way])
				}
			}
			if a, b := settled(got["net/http"]), settled(got["shortcut"]); a != b {
				t.Errorf("net/http: %q\nshortcut: %q", a, b)
			}
		})
	}
}

// settled leaves out of an answer what differs from time to time, and puts its
// lines into one order.
func settled(answer string) string {
	lines := strings.SplitAfter(answer, "\r\n")
	for i, l := range lines {
		if name, _, ok := strings.Cut(l, ":"); ok && (name == "Date" || name == "Retry-After") {
			lines[i] = name + "\r\n"
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// What comes behind a request is for the handler to refuse, or lies unread.
func TestFramesBehindARequestAreNotLost(t *testing.T) {
	line := fmt.Sprintf(upgrade, "/ws") + "\r\n"
	for way := range ways {
		_, addr := open(t, way, http.HandlerFunc(handler), slog.New(slog.DiscardHandler))
		if got := say(t, addr, line+"frame"); !strings.Contains(got, "5 behind") {
			t.Errorf("%s: %q", way, got)
		}
	}
}

func TestARequestInPiecesIsServed(t *testing.T) {
	line := fmt.Sprintf(upgrade, "/ws")
	for way := range ways {
		_, addr := open(t, way, http.HandlerFunc(handler), slog.New(slog.DiscardHandler))
		c := call(t, addr, line)
		_, _ = io.WriteString(c, "\r\n")
		if b, _ := io.ReadAll(c); !strings.Contains(string(b), "101") {
			t.Errorf("%s: %q", way, b)
		}
	}
}

func TestAPlainConnectionIsKept(t *testing.T) {
	for way := range ways {
		_, addr := open(t, way, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.URL.Path) }), slog.New(slog.DiscardHandler))
		c := call(t, addr, "")
		r := bufio.NewReader(c)
		for _, path := range []string{"/a", "/b"} {
			_, _ = fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path)
			res, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatalf("%s: %v", way, err)
			}
			if b, _ := io.ReadAll(res.Body); string(b) != path {
				t.Errorf("%s: %q", way, b)
			}
		}
		_ = c.Close()
	}
}

func TestManyAtOnce(t *testing.T) {
	for way := range ways {
		_, addr := open(t, way, http.HandlerFunc(handler), slog.New(slog.DiscardHandler))
		var all sync.WaitGroup
		for i := range 200 {
			all.Go(func() {
				if got := say(t, addr, fmt.Sprintf(upgrade, fmt.Sprint("/ws?", i))+"\r\n"); !strings.Contains(got, fmt.Sprintf("/ws?%d 0 behind", i)) {
					t.Errorf("%s: %q", way, got)
				}
			})
		}
		all.Wait()
	}
}

// A client that has gone is not judged to the end, and one handler that takes its
// time holds nobody up.
func TestWhoIsGoneIsNotWaitedFor(t *testing.T) {
	for way := range ways {
		began, ended := make(chan bool, 1), make(chan bool, 1)
		_, addr := open(t, way, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slow" {
				began <- true
				<-r.Context().Done()
				ended <- true
				return
			}
			handler(w, r)
		}), slog.New(slog.DiscardHandler))
		c := call(t, addr, fmt.Sprintf(upgrade, "/slow")+"\r\n")
		<-began
		if got := say(t, addr, fmt.Sprintf(upgrade, "/ws")+"\r\n"); !strings.Contains(got, "101") {
			t.Errorf("%s: %q", way, got)
		}
		_ = c.Close()
		<-ended
	}
}

// Shutdown waits for handshakes, as long as it may; Close ends them.
func TestShutdownWaitsForHandshakes(t *testing.T) {
	began, free, ended := make(chan bool, 1), make(chan bool), make(chan bool, 1)
	ln, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := NewFront(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		began <- true
		select {
		case <-free:
		case <-r.Context().Done():
		}
		ended <- true
	}), slog.New(slog.DiscardHandler))
	served := make(chan error, 1)
	go func() { served <- f.Serve(ln) }()
	for range 2 {
		call(t, ln.Addr().String(), fmt.Sprintf(upgrade, "/ws")+"\r\n")
		<-began
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("with handshakes under way: %v", err)
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", ln.Addr().String()); err == nil {
		t.Error("a connection is still taken")
	}
	free <- true
	<-ended
	_ = f.Close()
	<-ended
	if err := f.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAPanicIsLogged(t *testing.T) {
	for way := range ways {
		var b lines
		srv, addr := open(t, way, http.HandlerFunc(handler), slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug})))
		say(t, addr, fmt.Sprintf(upgrade, "/panic")+"\r\n")
		_ = srv.Shutdown(t.Context())
		if got := b.String(); !strings.Contains(got, "handler's own") || !strings.Contains(got, "front_test.go") || strings.Contains(got, "level=ERROR") {
			t.Errorf("%s: %s", way, got)
		}
	}
}

type lines struct {
	mu sync.Mutex
	b  strings.Builder // guarded by mu
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
