package door

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func request(host, origin, remote string, xff ...string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "http://"+host+"/ws", nil)
	r.Host, r.RemoteAddr = host, remote
	if origin != "" {
		r.Header.Set("Origin", origin)
	}
	for _, x := range xff {
		r.Header.Add("X-Forwarded-For", x)
	}
	return r
}

func TestHosts(t *testing.T) {
	loopback := Options{LoopbackOnly: true}
	named := Options{Hosts: []string{"chat.example.com"}, LoopbackOnly: true}
	for _, c := range []struct {
		opt  Options
		host string
		ok   bool
	}{
		{loopback, "localhost:5000", true},
		{loopback, "127.0.0.1:5000", true},
		{loopback, "[::1]:5000", true},
		{loopback, "LOCALHOST.", true},
		{loopback, "evil.example:5000", false}, // DNS rebinding
		{loopback, "localhost.evil.example", false},
		{loopback, "192.0.2.1", false},
		{named, "chat.example.com", true},
		{named, "Chat.Example.Com:443", true},
		{named, "localhost", false},
		{Options{}, "anything.example", true},
	} {
		_, ref := New(c.opt).Admit(request(c.host, "", "192.0.2.9:1"))
		if (ref == nil) != c.ok {
			t.Errorf("%s: %+v", c.host, ref)
		}
		if ref != nil && (ref.Status != 421 || !strings.Contains(ref.Body, "hosts in relay.yaml")) {
			t.Errorf("%s: %+v", c.host, ref)
		}
	}
}

func TestOrigins(t *testing.T) {
	listed := []string{"https://app.example.com"}
	for _, c := range []struct {
		origins []string
		cookie  bool
		origin  string
		ok      bool
	}{
		{nil, false, "", true},
		{nil, true, "", false},
		{nil, false, "http://relay.example:5000", true},
		{nil, false, "https://relay.example:5000", true}, // TLS may end before us
		{nil, false, "http://relay.example", false},
		{nil, false, "http://evil.example", false},
		{nil, false, "null", false},
		{nil, false, "http://relay.example:5000.evil.example", false},
		{listed, false, "https://app.example.com", true},
		{listed, true, "https://app.example.com", true},
		{listed, false, "http://app.example.com", false},
		{listed, false, "http://relay.example:5000", false},
		{listed, false, "null", false},
		{[]string{"null"}, false, "null", true},
		{[]string{"*"}, false, "https://any.example", true},
	} {
		d := New(Options{Rule: "endpoints[3]", Origins: c.origins, CookieAuth: c.cookie})
		_, ref := d.Admit(request("relay.example:5000", c.origin, "192.0.2.9:1"))
		if (ref == nil) != c.ok {
			t.Errorf("%q with %v: %+v", c.origin, c.origins, ref)
		}
		if ref != nil && (ref.Status != 403 || c.origin != "" && !strings.Contains(ref.Body, "add it to endpoints[3].origins")) {
			t.Errorf("%q: %+v", c.origin, ref)
		}
	}
}

func TestClientIP(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for _, c := range []struct {
		name, remote string
		xff          []string
		want         string
	}{
		{"no proxy", "192.0.2.1:99", nil, "192.0.2.1"},
		{"X-Forwarded-For from a stranger", "192.0.2.1:99", []string{"203.0.113.5"}, "192.0.2.1"},
		{"one proxy", "10.0.0.1:99", []string{"203.0.113.5"}, "203.0.113.5"},
		{"two proxies", "10.0.0.1:99", []string{"203.0.113.5, 10.2.2.2"}, "203.0.113.5"},
		{"two lines", "10.0.0.1:99", []string{"203.0.113.5", "10.2.2.2"}, "203.0.113.5"},
		{"a lie on the left", "10.0.0.1:99", []string{"198.51.100.1, 203.0.113.5"}, "203.0.113.5"},
		{"nonsense", "10.0.0.1:99", []string{"unknown"}, "10.0.0.1"},
		{"nonsense behind a proxy", "10.0.0.1:99", []string{"x, 10.3.3.3"}, "10.3.3.3"},
		{"no header", "10.0.0.1:99", nil, "10.0.0.1"},
		{"all trusted", "10.0.0.1:99", []string{"10.9.9.9"}, "10.9.9.9"},
		{"with a port", "10.0.0.1:99", []string{"203.0.113.5:4711"}, "203.0.113.5"},
		{"v6", "[fd00::1]:99", []string{"2001:db8::7"}, "2001:db8::7"},
		{"v4 in v6", "[::ffff:10.0.0.1]:99", []string{"::ffff:203.0.113.5"}, "203.0.113.5"},
	} {
		if got := ClientIP(request("h", "", c.remote, c.xff...), trusted); got.String() != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestLimits(t *testing.T) {
	d := New(Options{Connections: 3, PerIP: 2})
	in := func(remote string) (*Admission, *Refusal) { return d.Admit(request("h", "", remote)) }
	a, _ := in("192.0.2.1:1")
	b, _ := in("192.0.2.1:2")
	if _, ref := in("192.0.2.1:3"); ref == nil || ref.Status != 503 || ref.RetryAfter <= 0 {
		t.Errorf("third from one address: %+v", ref)
	}
	c, _ := in("192.0.2.2:1")
	if _, ref := in("192.0.2.3:1"); ref == nil {
		t.Error("a fourth connection was let in")
	}
	a.Release()
	a.Release() // counts once
	if _, ref := in("192.0.2.3:1"); ref != nil {
		t.Errorf("after one left: %+v", ref)
	}
	if _, ref := in("192.0.2.4:1"); ref == nil {
		t.Error("a release counted twice")
	}
	b.Release()
	c.Release()
	if n := len(d.perIP); n != 1 {
		t.Errorf("%d addresses are remembered, 1 is in", n)
	}
	d.Update(Options{Connections: 1})
	if _, ref := in("192.0.2.5:1"); ref == nil {
		t.Error("an update forgot who is in")
	}
}

func TestIPv6IsCountedPer64(t *testing.T) {
	d := New(Options{PerIP: 1})
	if _, ref := d.Admit(request("h", "", "[2001:db8:0:1::1]:1")); ref != nil {
		t.Fatal(ref)
	}
	if _, ref := d.Admit(request("h", "", "[2001:db8:0:1:ffff::9]:1")); ref == nil {
		t.Error("another address of the same /64 was let in")
	}
	if _, ref := d.Admit(request("h", "", "[2001:db8:0:2::1]:1")); ref != nil {
		t.Error("another /64 was refused")
	}
}

func TestConnectsPerSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := New(Options{Connects: 10})
		admitted := func() (n int) {
			for range 30 {
				if _, ref := d.Admit(request("h", "", "192.0.2.1:1")); ref == nil {
					n++
				} else if w := httptest.NewRecorder(); true {
					ref.Write(w)
					if s := w.Header().Get("Retry-After"); s < "1" || s > "4" {
						t.Errorf("Retry-After %q", s)
					}
				}
			}
			return n
		}
		if n := admitted(); n != 10 {
			t.Errorf("%d at once", n)
		}
		time.Sleep(500 * time.Millisecond) // virtual
		if n := admitted(); n != 5 {
			t.Errorf("%d after half a second", n)
		}
	})
}

func writeCert(t *testing.T, dir, name string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{"localhost"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	kb, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: kb}} {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCertificatesAreReloadedAndABadOneIsNot(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if _, err := LoadCertificates(cert, key, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "cert.pem") {
		t.Errorf("missing files: %v", err)
	}
	writeCert(t, dir, "one")
	c, err := LoadCertificates(cert, key, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	c.now = func() time.Time { return now }
	ln, err := tls.Listen("tcp", "127.0.0.1:0", c.Config())
	if err != nil {
		t.Fatal(err)
	}
	srv := Server(http.NotFoundHandler(), slog.New(slog.DiscardHandler))
	go func() { _ = srv.Serve(ln) }()
	defer srv.Close()
	served := func() string {
		t.Helper()
		conn, err := tls.Dial("tcp", ln.Addr().String(), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	if got := served(); got != "one" {
		t.Errorf("served %q", got)
	}
	writeCert(t, dir, "number two") // another length: the stamp differs whatever the clock's grain
	now = now.Add(2 * checkEvery)
	if got := served(); got != "number two" {
		t.Errorf("served %q", got)
	}
	if err := os.WriteFile(cert, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	now = now.Add(2 * checkEvery)
	if got := served(); got != "number two" {
		t.Errorf("served %q after a broken file", got)
	}
	writeCert(t, dir, "three again")
	now = now.Add(2 * checkEvery)
	if got := served(); got != "three again" {
		t.Errorf("served %q", got)
	}
}

// A client that sends its handshake byte by byte is not waited for.
func TestSlowHandshakesAreCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, srv := net.Pipe()
		hs := Server(http.NotFoundHandler(), slog.New(slog.DiscardHandler))
		ln := &oneConn{c: srv, done: make(chan struct{})}
		go func() { _ = hs.Serve(ln) }()
		start := time.Now()
		go func() {
			_, _ = io.WriteString(client, "GET /ws HTTP/1.1\r\nHost: x\r\n")
			for i := 0; ; i++ {
				if _, err := fmt.Fprintf(client, "X-%d: y\r\n", i); err != nil {
					return
				}
				time.Sleep(time.Second) // virtual
			}
		}()
		_, _ = io.Copy(io.Discard, client)
		if d := time.Since(start); d < headerTimeout || d > 2*headerTimeout {
			t.Errorf("cut after %s", d)
		}
		_ = client.Close()
		close(ln.done)
		time.Sleep(2 * time.Second) // virtual: the dribbler sees the end
		_ = hs.Close()
	})
}

type oneConn struct {
	c    net.Conn
	done chan struct{}
}

func (l *oneConn) Accept() (net.Conn, error) {
	if c := l.c; c != nil {
		l.c = nil
		return c, nil
	}
	<-l.done
	return nil, net.ErrClosed
}
func (l *oneConn) Close() error   { return nil }
func (l *oneConn) Addr() net.Addr { return &net.TCPAddr{} }
