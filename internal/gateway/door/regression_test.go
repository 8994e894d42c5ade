package door

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestAnAddressAtItsBoundDoesNotSpendTheRateOfOthers(t *testing.T) {
	d := New(Options{PerIP: 1, Connects: 10})
	for range 100 {
		_, _ = d.Admit(request("h", "", "192.0.2.1:1"))
	}
	if _, ref := d.Admit(request("h", "", "198.51.100.1:1")); ref != nil {
		t.Errorf("another address is refused: %s", ref.Body)
	}
}

func TestABodyThatNeverComesIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, srv := net.Pipe()
		hs := Server(http.NotFoundHandler(), slog.New(slog.DiscardHandler))
		ln := &oneConn{c: srv, done: make(chan struct{})}
		go func() { _ = hs.Serve(ln) }()
		start := time.Now()
		go func() { _, _ = io.WriteString(client, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n") }()
		cut := make(chan struct{})
		go func() { _, _ = io.Copy(io.Discard, client); close(cut) }()
		select {
		case <-cut:
			t.Logf("cut after %s", time.Since(start))
		case <-time.After(time.Hour):
			t.Error("still held after an hour")
		}
		_ = client.Close()
		close(ln.done)
		_ = hs.Close()
		synctest.Wait()
	})
}

// failing is a listener that runs out of file descriptors once.
type failing struct{ failed bool }

func (l *failing) Accept() (net.Conn, error) {
	if l.failed {
		return nil, net.ErrClosed
	}
	l.failed = true
	return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
}
func (l *failing) Close() error   { return nil }
func (l *failing) Addr() net.Addr { return &net.TCPAddr{} }

func TestFileDescriptorsRunningOutIsLogged(t *testing.T) {
	var b strings.Builder
	log := slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelInfo}))
	_ = Server(http.NotFoundHandler(), log).Serve(&failing{})
	if !strings.Contains(b.String(), "too many open files") {
		t.Errorf("the log says %q", b.String())
	}
}

func TestACertificateThatIsGoneIsLogged(t *testing.T) {
	dir := t.TempDir()
	writeCert(t, dir, "one")
	var b strings.Builder
	c, err := LoadCertificates(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), slog.New(slog.NewTextHandler(&b, nil)))
	if err != nil {
		t.Fatal(err)
	}
	_ = os.Remove(filepath.Join(dir, "cert.pem"))
	c.now = func() time.Time { return time.Now().Add(time.Minute) }
	_, _ = c.Get(nil)
	if b.Len() == 0 {
		t.Error("nothing said")
	}
}

func TestTheSameOriginWithTheSchemesOwnPort(t *testing.T) {
	if _, ref := New(Options{}).Admit(request("chat.example.com:443", "https://chat.example.com", "192.0.2.1:1")); ref != nil {
		t.Error(ref.Body)
	}
}
