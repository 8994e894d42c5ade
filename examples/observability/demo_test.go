package observability

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wsrelay/relay/telemetry/telemetrytest"
)

// make demo brings everything up without containers, and there is something to
// look at.
func TestDemo(t *testing.T) {
	telemetrytest.BuildJaeger(t)
	picture := filepath.Join(t.TempDir(), "trace.svg")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "./demo.sh", "--once")
	cmd.Env = append(os.Environ(), "DEMO_PICTURE="+picture)
	cmd.Env = append(cmd.Env, freePorts(t,
		"BALANCER", "RELAY", "RELAY2", "ADMIN", "ADMIN2", "REDIS", "JAEGER", "JAEGER_GRPC", "OTLP", "HEALTH", "PROMETHEUS", "GRAFANA")...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // it ends what it started
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !strings.Contains(string(out), "Ann: hello from Ann") || !strings.Contains(string(out), "****") {
		t.Errorf("the messages did not come, or no filter judged them:\n%s", out)
	}
	svg, err := os.ReadFile(picture)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(regexp.MustCompile(`>deliver `).FindAll(svg, -1)); n != 2 {
		t.Errorf("%d deliveries are drawn, want one per instance\n%s", n, out)
	}
}

// freePorts finds a port for each name. All are open at once, so that no two are
// the same.
func freePorts(t *testing.T, names ...string) (env []string) {
	t.Helper()
	for _, name := range names {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		_, port, _ := net.SplitHostPort(l.Addr().String())
		env = append(env, name+"_PORT="+port)
	}
	return env
}
