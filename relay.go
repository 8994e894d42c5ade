// Command relay is a WebSocket relay appliance: rooms, members and live
// messages from one binary and one relay.yaml.
package main

import (
	"context"
	_ "embed"
	"os"
	"os/signal"
	"syscall"

	"github.com/wsrelay/relay/internal/cli"
)

// sample is the annotated configuration that `relay init` starts from.
//
//go:embed relay.yaml
var sample []byte

func main() { os.Exit(run()) }

// run carries out the command line and returns the exit status: 0 done, 1 it
// went wrong, 2 it was asked for wrongly. The first signal asks for an orderly
// stop; a second one finds no handler any more and ends the process at once.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	return cli.Run(ctx, cli.Env{
		Args: os.Args[1:], In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Environ: os.Environ(), Sample: sample,
	})
}
