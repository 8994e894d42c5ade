package cli

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/wsrelay/relay/internal/bench"
)

func benchCommand() *cobra.Command {
	b := &benchmark{}
	cmd := &cobra.Command{
		Use:   "bench URL [URL]",
		Short: "Offer a relay a load and see what arrives, how fast, and what does not",
		Long: `Offer a relay a load and see what arrives, how fast, and what does not.

Sockets join rooms; some of them send, all others of a room are to receive. Every
message is accounted for at every receiver: what is lost, out of order or repeated
is told, and makes the exit status 1. Latency counts from the moment at which a
message was due, so that a server that stalls does not look better for it.

With --rate messages leave at a steady rate: that is the load to measure latency
under. With --in-flight each sender always has as many on their way: that finds
how much a server can do. With --rate 0 the sockets join and stay quiet.

With two URLs senders connect to the first and members to the second: two
instances, and what is between them.

Which policy of the server a room is under depends on its id, which begins with
--prefix: so you choose between rooms with and without history. Rates that the
server limits (rooms[].messages.rate, endpoints[].limits) hold here too; what is
refused for them is counted apart.`,
		Example: `  relay bench ws://localhost:5000/ws
  relay bench ws://localhost:5000/ws --rooms 100 --members 10 --rate 1000 --duration 30s
  relay bench ws://localhost:5000/ws --rooms 1 --members 1000 --in-flight 8
  relay bench wss://a.example.com/ws wss://b.example.com/ws --json > result.json`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			b.opt.URLs = args
			if b.opt.Token == "" {
				b.opt.Token = os.Getenv("RELAY_TOKEN")
			}
			if b.opt.InFlight > 0 && !cmd.Flags().Changed("rate") {
				b.opt.Rate = 0
			}
			err := b.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
			if errors.Is(err, bench.ErrOptions) {
				return usageError{err, cmd.CommandPath()}
			}
			return err
		},
	}
	f := cmd.Flags()
	f.IntVar(&b.opt.Rooms, "rooms", 10, "rooms")
	f.IntVar(&b.opt.Members, "members", 10, "sockets in each room")
	f.IntVar(&b.opt.Senders, "senders", 1, "how many of a room's sockets send")
	f.Float64Var(&b.opt.Rate, "rate", 50, "messages a second in all; 0: none")
	f.IntVar(&b.opt.InFlight, "in-flight", 0, "instead of a rate: messages that each sender has on their way at any time")
	f.IntVar(&b.opt.Size, "size", 128, "bytes of a message's text")
	f.DurationVar(&b.opt.Duration, "duration", 10*time.Second, "time that is measured")
	f.DurationVar(&b.opt.Warm, "warm-up", 2*time.Second, "time under load before it is measured")
	f.DurationVar(&b.opt.Connect, "connect", time.Minute, "time for everybody to connect and join")
	f.StringVar(&b.opt.Prefix, "prefix", "bench-", "what the rooms' ids begin with")
	f.StringVar(&b.opt.Token, "token", "", "bearer token of all sockets; default: $RELAY_TOKEN, which keeps it out of the process list")
	f.BoolVar(&b.insecure, "insecure", false, "do not check the server's certificate")
	f.BoolVar(&b.json, "json", false, "print the result as JSON")
	f.BoolVar(&b.quiet, "quiet", false, "do not print progress")
	return cmd
}

// benchmark is the command: what to offer, and how to tell what came of it.
type benchmark struct {
	opt                   bench.Options
	insecure, json, quiet bool
}

func (b *benchmark) run(ctx context.Context, out, status io.Writer) error {
	if b.insecure {
		b.opt.TLS = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // asked for
	}
	line := progressLine{w: status}
	if f, ok := status.(*os.File); ok {
		line.terminal = term.IsTerminal(int(f.Fd()))
	}
	if !b.quiet {
		b.opt.Progress = line.show
	}
	r, err := bench.Run(ctx, b.opt)
	line.end()
	if err != nil {
		return err
	}
	if b.json {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		if err := enc.Encode(r); err != nil {
			return fmt.Errorf("printing the result: %w", err)
		}
	} else {
		r.Print(out)
	}
	if !r.Sound() {
		return quietError{errors.New("not everything arrived once and in order")}
	}
	return nil
}

// progressLine tells how far a run is: on a terminal in one line that it writes
// over, elsewhere line by line.
type progressLine struct {
	w        io.Writer
	terminal bool
	open     bool // a line on the terminal waits to be written over
}

func (p *progressLine) show(at bench.Progress) {
	var s string
	switch at.Phase {
	case bench.Connecting:
		s = fmt.Sprintf("connecting: %d of %d have joined", at.Joined, at.Sockets)
	case bench.Warming, bench.Measuring:
		what := map[bench.Phase]string{bench.Warming: "warming up", bench.Measuring: "measuring"}[at.Phase]
		s = fmt.Sprintf("%s: %.0f of %.0f s, %.0f deliveries/s, p99 %.2f ms, %d on their way", what, at.Elapsed.Seconds(), at.Of.Seconds(), at.PerSecond, at.P99.Seconds()*1000, at.Missing)
	case bench.Draining:
		s = fmt.Sprintf("waiting for %d deliveries", at.Missing)
	}
	if p.terminal {
		fmt.Fprintf(p.w, "\r\x1b[K%s", s)
		p.open = true
		return
	}
	fmt.Fprintln(p.w, s)
}

func (p *progressLine) end() {
	if p.open {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
