package app_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wsrelay/relay/internal/bus/redisbus/redistest"
)

// The same scripted session with clients that nobody here wrote, against one
// instance, two instances, and two behind a round-robin proxy.
func TestForeignClients(t *testing.T) {
	r := redistest.Start(t)
	y := over(fmt.Sprintf("url: %q", r.URL()))
	alone, one, two := start(t, open), start(t, y), start(t, y)
	proxy := "ws://" + roundRobin(t, one.Addr().String(), two.Addr().String()) + "/ws"
	for name, command := range map[string][]string{
		"node ws":           {"node", "../../testdata/clients/node/session.js"},
		"python websockets": {"/usr/bin/python3", "../../testdata/clients/python/session.py"},
	} {
		for where, urls := range map[string][]string{
			"one instance":                  {alone.url()},
			"two instances":                 {one.url(), two.url()},
			"two instances, a proxy before": {proxy, proxy},
		} {
			t.Run(name+", "+where, func(t *testing.T) {
				t.Parallel()
				out, err := exec.CommandContext(t.Context(), command[0], append(command[1:], urls...)...).CombinedOutput()
				if err != nil || strings.TrimSpace(string(out)) != "ok" {
					t.Errorf("%v: %s\n(`make setup` installs what the clients need)", err, out)
				}
			})
		}
	}
}

// roundRobin starts haproxy in front of some servers and returns its address.
func roundRobin(t *testing.T, servers ...string) string {
	t.Helper()
	bin, err := exec.LookPath("haproxy")
	if err != nil {
		bin = "/usr/sbin/haproxy"
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	_ = ln.Close() // haproxy cannot be asked which port it took
	conf := "global\n  maxconn 1000\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n  timeout tunnel 5m\n" +
		"frontend f\n  bind " + addr + "\n  default_backend b\nbackend b\n  balance roundrobin\n"
	for n, s := range servers {
		conf += fmt.Sprintf("  server s%d %s\n", n, s)
	}
	file := filepath.Join(t.TempDir(), "haproxy.cfg")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "-db", "-f", file)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting haproxy: %v (`make setup` installs it)", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if err := poll(10*time.Second, func() bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	}); err != nil {
		t.Fatalf("haproxy does not listen: %s", out.String())
	}
	return addr
}
