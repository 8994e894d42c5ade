package cli_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/wsrelay/relay/internal/bus/redisbus/redistest"
	"github.com/wsrelay/relay/internal/cli"
)

// The scripts run the command line as a process of its own: this test binary,
// under the name relay.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"relay": func() {
			ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
			code := cli.Run(ctx, cli.Env{Args: os.Args[1:], In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Environ: os.Environ()})
			stop()
			os.Exit(code)
		},
	})
}

func TestScripts(t *testing.T) {
	redis := redistest.Start(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("REDIS", redis.URL())
			if err := goEnvironment(e); err != nil {
				return err
			}
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			_, port, err := net.SplitHostPort(ln.Addr().String())
			e.Setenv("PORT", port)
			return errors.Join(err, ln.Close())
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			// await PORT: until somebody listens there.
			"await": func(ts *testscript.TestScript, _ bool, args []string) {
				limit := time.After(15 * time.Second)
				look := time.NewTicker(5 * time.Millisecond)
				defer look.Stop()
				for {
					c, err := net.Dial("tcp", "127.0.0.1:"+args[0])
					if err == nil {
						_ = c.Close()
						return
					}
					select {
					case <-look.C:
					case <-limit:
						ts.Fatalf("nobody listens: %v", err)
					}
				}
			},
			// field FILE KEY NAME: $NAME is what a JSON object in FILE has under KEY.
			"field": func(ts *testscript.TestScript, _ bool, args []string) {
				var object map[string]string
				ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &object))
				ts.Setenv(args[2], object[args[1]])
			},
			// status N COMMAND...: the command ends with just this exit status.
			"status": func(ts *testscript.TestScript, _ bool, args []string) {
				err := ts.Exec(args[1], args[2:]...)
				if got := exitStatus(err); got != args[0] {
					ts.Fatalf("exit status %s, want %s", got, args[0])
				}
			},
		},
	})
}

// goEnvironment lets scripts build Go programs against this checkout, $REPO.
func goEnvironment(e *testscript.Env) error {
	out, err := exec.Command("go", "env", "-json", "GOCACHE", "GOMODCACHE", "GOPROXY", "GOFLAGS", "GOSUMDB").Output()
	if err != nil {
		return err
	}
	var vars map[string]string
	if err := json.Unmarshal(out, &vars); err != nil {
		return err
	}
	for name, value := range vars {
		e.Setenv(name, value)
	}
	dir, err := os.Getwd()
	e.Setenv("REPO", filepath.Dir(filepath.Dir(dir)))
	return err
}

func exitStatus(err error) string {
	type coder interface{ ExitCode() int }
	if err == nil {
		return "0"
	}
	if c, ok := err.(coder); ok {
		return string(rune('0' + c.ExitCode()))
	}
	return err.Error()
}
