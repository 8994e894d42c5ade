package redisbus_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wsrelay/relay/internal/bus"
	"github.com/wsrelay/relay/internal/bus/redisbus"
	"github.com/wsrelay/relay/internal/bus/redisbus/redistest"
)

func TestBadOptions(t *testing.T) {
	t.Parallel()
	const secret = "hunter2%zz"
	for name, c := range map[string]struct {
		o    redisbus.Options
		want string
	}{
		"nothing":        {redisbus.Options{}, "exactly one"},
		"two":            {redisbus.Options{URL: "redis://h:1", Cluster: []string{"h:1"}}, "exactly one"},
		"scheme":         {redisbus.Options{URL: "http://h:1"}, `scheme "http"`},
		"no url":         {redisbus.Options{URL: "redis://user:" + secret + "@h:1"}, "not a URL"},
		"database":       {redisbus.Options{URL: "redis://:hunter2@h:1/x"}, `host "h:1"`},
		"braces":         {redisbus.Options{URL: "redis://h:1", Prefix: "a{b}"}, "braces"},
		"cluster's db":   {redisbus.Options{Cluster: []string{"h:1"}, DB: 2}, "only database 0"},
		"no master":      {redisbus.Options{Sentinel: &redisbus.Sentinel{Addrs: []string{"h:1"}}}, "master's name"},
		"no sentinels":   {redisbus.Options{Sentinel: &redisbus.Sentinel{Master: "m"}}, "at least one address"},
		"not even hosts": {redisbus.Options{URL: "redis://%zz"}, "not a URL"},
	} {
		_, err := redisbus.New(c.o)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the password is in the error: %v", name, err)
		}
	}
}

// TestNoSecretIsPrinted: neither options nor a bus made of them show passwords.
func TestNoSecretIsPrinted(t *testing.T) {
	t.Parallel()
	for _, o := range []redisbus.Options{
		{URL: "redis://user:hunter2@127.0.0.1:1/3"},
		{URL: "redis://127.0.0.1:1", Password: "hunter2"},
		{Sentinel: &redisbus.Sentinel{Master: "m", Addrs: []string{"127.0.0.1:1"}, Password: "hunter2"}, Password: "hunter2"},
	} {
		b := newBus(t, o)
		defer func() {
			if err := b.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := b.Start(ctx, &instance{})
		if err == nil {
			t.Fatal("started without a server")
		}
		for _, s := range []string{
			fmt.Sprint(o), fmt.Sprintf("%+v", o), fmt.Sprintf("%#v", o), fmt.Sprintf("%+v", b), fmt.Sprintf("%#v", b), err.Error(), fmt.Sprint(b.Health()),
		} {
			if strings.Contains(s, "hunter2") {
				t.Errorf("the password is shown: %.300s", s)
			}
		}
	}
}

func TestStartSaysWhatToCheck(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--requirepass", "right")
	nobody := redistest.NewProxy(t, "127.0.0.1:1")
	for name, c := range map[string]struct{ url, want string }{
		"nobody there":   {"redis://127.0.0.1:1", "is the address right"},
		"cut off":        {nobody.URL(), "is it running"},
		"no password":    {server.URL(), "check user and password"},
		"wrong password": {"redis://:wrong@" + server.Addr(), "check user and password"},
	} {
		b := newBus(t, redisbus.Options{URL: c.url})
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		err := b.Start(ctx, &instance{})
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "127.0.0.1:") {
			t.Errorf("%s: %v, want %q and the address", name, err, c.want)
		}
		if err := b.Close(ctx); err != nil {
			t.Errorf("%s: closing: %v", name, err)
		}
		cancel()
	}
}

// works publishes and receives one message of each kind.
func works(t *testing.T, o redisbus.Options) {
	t.Helper()
	n := start(t, o)
	for _, k := range []bus.Retention{keep, {}} {
		room := fmt.Sprint("room-", k.Keep)
		n.subscribe(room, k.Kept())
		enter(t, n, room, "m")
		f := newFates()
		f.send(n, room, "1", k)
		storedOf(t, f.wait(t, 1))
		eventually(t, "the message", func() error {
			for _, e := range n.room(room) {
				if e.Kind == bus.Chat {
					return nil
				}
			}
			return errors.New("not delivered")
		})
	}
	banned, err := n.Sanction(t.Context(), ban("m"))
	if err != nil {
		t.Fatal(err)
	}
	holds(t, n, "m")
	if _, err := n.Lift(t.Context(), banned.ID); err != nil {
		t.Error(err)
	}
	holds(t, n)
	if _, err := n.History(t.Context(), bus.HistoryQuery{Room: "room-100000", Limit: 1}); err != nil {
		t.Error(err)
	}
	eventually(t, "health", n.Health)
}

// TestLeastRights: the user that the documentation asks for is enough.
func TestLeastRights(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	server.Do("ACL", "SETUSER", "relay", "on", ">pass word", "~relay:*", "&relay:*",
		"-@all", "+@connection", "+@pubsub", "+@scripting", "+@read", "+@write", "+info", "+time", "+@transaction", "-@dangerous", "+info")
	server.Do("ACL", "SETUSER", "default", "off")
	works(t, redisbus.Options{URL: "redis://relay:pass%20word@" + server.Addr()})
	works(t, redisbus.Options{URL: server.URL(), User: "relay", Password: "pass word"})
}

func TestDatabaseAndPrefixKeepApart(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	a := start(t, redisbus.Options{URL: "redis://" + server.Addr() + "/3"})
	b := start(t, redisbus.Options{URL: server.URL(), Prefix: "other"})
	enter(t, a, "room", "m")
	if in := enter(t, b, "room", "m2"); in.Count != 1 || !in.Created {
		t.Errorf("entered %+v", in)
	}
	if out := server.Do("-n", "3", "--raw", "KEYS", "relay:*:m:room"); !strings.Contains(out, "m:room") {
		t.Errorf("database 3 has %q", out)
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pool := certificate(t, dir)
	port := redistest.FreePort(t)
	redistest.Start(t, "--tls-port", strconv.Itoa(port), "--tls-cert-file", filepath.Join(dir, "cert.pem"),
		"--tls-key-file", filepath.Join(dir, "key.pem"), "--tls-auth-clients", "no")
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	works(t, redisbus.Options{URL: "rediss://" + addr, TLS: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}})

	b := newBus(t, redisbus.Options{URL: "rediss://" + addr})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := b.Start(ctx, &instance{}); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a certificate of nobody was accepted: %v", err)
	}
	if err := b.Close(ctx); err != nil {
		t.Error(err)
	}
}

// certificate writes a self-signed one for 127.0.0.1 and returns who trusts it.
func certificate(t *testing.T, dir string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "EC PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return pool
}

func TestInspect(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--maxmemory-policy", "volatile-lru")
	r, err := redisbus.Inspect(t.Context(), redisbus.Options{URL: server.URL()})
	if err != nil {
		t.Fatal(err)
	}
	if r.Major() < 6 || r.Mode != "standalone" || r.EvictionPolicy != "volatile-lru" || r.RoundTrip <= 0 || r.ClockOffset.Abs() > time.Second {
		t.Errorf("found %+v", r)
	}
	if _, err := redisbus.Inspect(t.Context(), redisbus.Options{URL: "redis://:hunter2@127.0.0.1:1"}); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("nobody there: %v", err)
	}
}
