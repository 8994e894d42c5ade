package socket

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/wsrelay/relay/internal/tlstest"
)

// leaver is a handler that answers, and counts how often it is told of the end.
type leaver struct {
	Conn
	closed atomic.Int64
}

func (l *leaver) Message(b []byte) { l.Send(text(string(b))) }
func (l *leaver) Closed(Cause)     { l.closed.Add(1) }

// leavers serves connections and collects their handlers.
func leavers(t *testing.T, encrypt bool) (g *Group, addr string, handlers chan *leaver) {
	t.Helper()
	g, handlers = NewGroup(nil), make(chan *leaver, 20_000)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr = ln.Addr().String()
	if encrypt {
		pair, err := tlstest.New(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		cert, err := tls.LoadX509KeyPair(pair.Cert, pair.Key)
		if err != nil {
			t.Fatal(err)
		}
		ln = tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{cert}})
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := g.Upgrade(w, r, Options{PingEvery: time.Hour})
		if err != nil {
			t.Error(err)
			return
		}
		l := &leaver{Conn: c}
		handlers <- l
		c.Start(l)
	})}
	var serving sync.WaitGroup
	serving.Go(func() { _ = srv.Serve(ln) })
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		g.Stop(ctx)
		_ = srv.Close()
		serving.Wait()
	})
	return g, addr, handlers
}

// A balancer dies, and with it ten thousand connections at once: each is told of
// its end once, nothing is left of them, and who stays is served meanwhile.
func TestTenThousandCloseAtOnce(t *testing.T) {
	for _, c := range []struct {
		name    string
		clients int
		encrypt bool
	}{
		{"tcp", 10_000, false},
		{"tls", 5000, true}, // handshakes are slow
	} {
		t.Run(c.name, func(t *testing.T) { closeAtOnce(t, c.clients, c.encrypt) })
	}
}

func closeAtOnce(t *testing.T, clients int, encrypt bool) {
	g, addr, handlers := leavers(t, encrypt)
	scheme := map[bool]string{false: "ws://", true: "wss://"}[encrypt]
	d := websocket.Dialer{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} // as above
	stays, res, err := d.Dial(scheme+addr, nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	defer stays.Close()
	all := []*leaver{wait(t, handlers)}
	ask := func() time.Duration {
		t.Helper()
		began := time.Now()
		_ = stays.SetReadDeadline(began.Add(20 * time.Second))
		if err := stays.WriteMessage(websocket.TextMessage, []byte("hello")); err != nil {
			t.Fatal(err)
		}
		if _, b, err := stays.ReadMessage(); err != nil || string(b) != string(text("hello").Payload()) {
			t.Fatalf("%q %v", b, err)
		}
		return time.Since(began)
	}
	ask()
	for _, s := range g.shards {
		s.start() // its loop, which stays until the group ends
	}
	goroutines := runtime.NumGoroutine()

	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), clientsEnv+"="+fmt.Sprint(clients, " ", addr, " ", encrypt))
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill := func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }
	defer kill()
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "connected\n" {
		t.Fatalf("the clients say %q, %v", line, err)
	}
	for range clients {
		all = append(all, wait(t, handlers))
	}
	if n := g.stats.Open.Load(); n != int64(clients+1) {
		t.Fatalf("%d are open", n)
	}

	began, asked, longest := time.Now(), 0, time.Duration(0)
	dying := make(chan struct{})
	go func() { defer close(dying); kill() }()
	for ; g.stats.Open.Load() > 1; asked++ {
		longest = max(longest, ask())
		if time.Since(began) > time.Minute {
			t.Fatalf("%d are still open", g.stats.Open.Load()-1)
		}
	}
	t.Logf("all are gone after %v; meanwhile %d answers, the slowest took %v", time.Since(began), asked, longest)
	<-dying
	until(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= goroutines })
	ask()
	_ = stays.Close()
	until(t, "nobody is left", func() bool { return g.stats.Open.Load() == 0 })
	g.Stop(t.Context()) // returns when all handlers have heard
	for i, l := range all {
		if n := l.closed.Load(); n != 1 {
			t.Fatalf("handler %d was told of its end %d times", i, n)
		}
	}
	if n := g.stats.QueuedBytes.Load(); n != 0 {
		t.Errorf("%d bytes are still counted as queued", n)
	}
}
