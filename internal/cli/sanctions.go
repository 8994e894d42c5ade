package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/wsrelay/relay/internal/app"
	"github.com/wsrelay/relay/internal/bus"
	"github.com/wsrelay/relay/telemetry"
)

func sanctionsCommand(env Env) *cobra.Command {
	c := &sanctionsCall{env: env}
	cmd := &cobra.Command{
		Use:   "sanctions",
		Short: "List, add and lift mutes and bans",
		Long: `List, add and lift mutes and bans, in all rooms or in one.

They are read from and written to the Redis that the configuration names, so no
instance needs to run here; every running one is told, and obeys within a second.
Without Redis they live in the running process alone, and nothing else can see them.`,
	}
	f := cmd.PersistentFlags()
	f.StringVarP(&c.file, "config", "c", defaultFile, "configuration file")
	f.BoolVar(&c.json, "json", false, "print JSON, one object a line")
	f.DurationVar(&c.timeout, "timeout", 10*time.Second, "time for all of it")
	cmd.AddCommand(c.list(), c.add(), c.lift())
	return cmd
}

// sanctionsCall is one call of a sanctions command.
type sanctionsCall struct {
	env     Env
	file    string
	json    bool
	timeout time.Duration
}

// choice picks sanctions by what they say.
type choice struct{ user, room string }

func (o *choice) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.user, "user", "", "only those against this user id")
	cmd.Flags().StringVar(&o.room, "room", "", "only those in this room")
}

// each calls f for all that are chosen, oldest first.
func (o *choice) each(ctx context.Context, b bus.Bus, f func(*bus.Sanction)) error {
	for cursor := ""; ; {
		page, err := b.Sanctions(ctx, cursor, 1000)
		if err != nil {
			return err
		}
		for _, s := range page.Sanctions {
			if (o.user == "" || s.Member == o.user) && (o.room == "" || s.Room == o.room) {
				f(s)
			}
		}
		if cursor = page.Cursor; cursor == "" {
			return nil
		}
	}
}

func (c *sanctionsCall) list() *cobra.Command {
	var chosen choice
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List what is in force, oldest first",
		Example: "  relay sanctions list --room lobby\n  relay sanctions list --json | jq -r 'select(.kind == \"ban\").user'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.with(cmd, func(ctx context.Context, b bus.Bus, _ *telemetry.Log) error {
				out := c.printer(cmd.OutOrStdout())
				if err := chosen.each(ctx, b, out.print); err != nil {
					return err
				}
				return out.flush()
			})
		},
	}
	chosen.flags(cmd)
	return cmd
}

// sanctionKinds are the words of `relay sanctions add`.
var sanctionKinds = [...]bus.SanctionKind{bus.Warn, bus.Mute, bus.Kick, bus.Ban}

func (c *sanctionsCall) add() *cobra.Command {
	s := &bus.Sanction{By: "cli"}
	var lasts time.Duration
	cmd := &cobra.Command{
		Use:   "add warn|mute|kick|ban USER",
		Short: "Put a sanction in force",
		Long: `Put a sanction in force. A warning or kick happens at once and is over. A mute or
ban lasts until it is lifted, or for as long as --for says.

Guests take another name at will: bind them with --ip as well, or give --ip alone
to mean every guest of that address. Users who authenticate are bound by their id.`,
		Example: `  relay sanctions add mute ann --room lobby --for 10m --reason "calm down"
  relay sanctions add ban guest:7c1e --ip 192.0.2.7
  relay sanctions add ban --ip 192.0.2.7 --for 24h`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, k := range sanctionKinds {
				if k.String() == args[0] {
					s.Kind = k
				}
			}
			if len(args) == 2 {
				s.Member = args[1]
			}
			switch {
			case s.Kind == 0:
				return usageError{fmt.Errorf("%q is no kind of sanction: there are warn, mute, kick and ban", args[0]), cmd.CommandPath()}
			case lasts < 0 || lasts == 0 && cmd.Flags().Changed("for"):
				return usageError{fmt.Errorf("--for: %s: must be more than nothing", lasts), cmd.CommandPath()}
			case lasts > 0:
				s.Until = time.Now().Add(lasts).UnixMilli()
			}
			if s.IP != "" {
				ip, err := netip.ParseAddr(s.IP)
				if err != nil {
					return usageError{fmt.Errorf("--ip: %w", err), cmd.CommandPath()}
				}
				s.IP = bus.BoundAddr(ip)
			}
			if err := s.Check(); err != nil {
				return usageError{err, cmd.CommandPath()}
			}
			return c.with(cmd, func(ctx context.Context, b bus.Bus, log *telemetry.Log) error {
				got, err := b.Sanction(ctx, s)
				if err != nil {
					return err
				}
				audit(log, got.Kind.String(), got)
				return c.tell(cmd.OutOrStdout(), got, inForce(got))
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&s.Room, "room", "", "room; default: everywhere")
	f.StringVar(&s.IP, "ip", "", "address that guests are bound by")
	f.StringVar(&s.Reason, "reason", "", "what the user is told")
	f.DurationVar(&lasts, "for", 0, "how long a mute or ban lasts; default: until it is lifted")
	return cmd
}

func (c *sanctionsCall) lift() *cobra.Command {
	var chosen choice
	cmd := &cobra.Command{
		Use:     "lift ID... | lift --user USER [--room ROOM]",
		Short:   "Lift sanctions, by their ids or all of a user",
		Example: "  relay sanctions lift FG6C2YJUWJS7U535\n  relay sanctions lift --user ann --room lobby",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 == (chosen.user != "") || chosen.room != "" && chosen.user == "" {
				return usageError{errors.New("say which: ids as `relay sanctions list` shows them, or --user"), cmd.CommandPath()}
			}
			return c.with(cmd, func(ctx context.Context, b bus.Bus, log *telemetry.Log) error {
				ids := args
				if chosen.user != "" {
					if err := chosen.each(ctx, b, func(s *bus.Sanction) { ids = append(ids, s.ID) }); err != nil {
						return err
					}
					if len(ids) == 0 {
						return fmt.Errorf("%s: %w", readable(chosen.user), bus.ErrNoSanction)
					}
				}
				var failed error
				for _, id := range ids {
					s, err := b.Lift(ctx, id)
					if err != nil {
						failed = errors.Join(failed, err)
						continue
					}
					audit(log, "lift", s)
					if err := c.tell(cmd.OutOrStdout(), s, "lifted: "+describe(s)); err != nil {
						return err
					}
				}
				return failed
			})
		},
	}
	chosen.flags(cmd)
	return cmd
}

// with runs f on the bus of the configuration.
func (c *sanctionsCall) with(cmd *cobra.Command, f func(context.Context, bus.Bus, *telemetry.Log) error) error {
	cfg, _, err := load(c.env, c.file)
	if err != nil {
		return err
	}
	log, err := telemetry.NewLog(telemetry.LogOptions{
		Level: cfg.Telemetry.Log.Level, Format: cfg.Telemetry.Log.Format, Service: cfg.Telemetry.Service, Output: c.env.Err,
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), c.timeout)
	defer cancel()
	b, err := app.Connect(ctx, cfg, log.Logger)
	if errors.Is(err, app.ErrAlone) {
		return fmt.Errorf("%s: %w; with redis in it, this command reaches all instances, and sanctions outlive them", c.file, err)
	}
	if err != nil {
		return err
	}
	err = f(ctx, b, log)
	// Also when time is up: what was taken is given back.
	ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	return errors.Join(err, b.Close(ctx))
}

// audit writes the line that tells who did what to whom, as an instance does.
func audit(log *telemetry.Log, action string, s *bus.Sanction) {
	log.Info("audit", "action", action, "actor", "cli", "target", s.Member, "ip", s.IP, "room", s.Room, "reason", s.Reason, "sanction", s.ID)
}

func (c *sanctionsCall) tell(out io.Writer, s *bus.Sanction, line string) error {
	if c.json {
		return json.NewEncoder(out).Encode(jsonOf(s))
	}
	_, err := fmt.Fprintln(out, line)
	return err
}

func inForce(s *bus.Sanction) string {
	if !s.Kind.Lasts() {
		return "told to all instances: " + describe(s)
	}
	return "in force: " + describe(s) + ", id " + s.ID
}

func describe(s *bus.Sanction) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s of %s", s.Kind, or(readable(s.Member), "guests"))
	if s.IP != "" {
		fmt.Fprintf(&b, " at %s", readable(s.IP))
	}
	fmt.Fprintf(&b, " %s", where(s))
	if s.Until != 0 {
		fmt.Fprintf(&b, " until %s", timestamp(s.Until))
	}
	return b.String()
}

func where(s *bus.Sanction) string {
	if s.Room == "" {
		return "everywhere"
	}
	return "in " + readable(s.Room)
}

// readable is a text that others chose, fit for a terminal and for one column.
func readable(s string) string {
	if q := strconv.Quote(s); q != `"`+s+`"` || strings.Contains(s, " ") {
		return q
	}
	return s
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func timestamp(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }

// sanctionJSON is what --json prints.
type sanctionJSON struct {
	ID     string `json:"id"`
	Kind   string `json:"kind"`
	User   string `json:"user,omitempty"`
	IP     string `json:"ip,omitempty"`
	Room   string `json:"room,omitempty"`
	Reason string `json:"reason,omitempty"`
	By     string `json:"by,omitempty"`
	Issued string `json:"issued"`
	Until  string `json:"until,omitempty"`
}

func jsonOf(s *bus.Sanction) sanctionJSON {
	j := sanctionJSON{
		ID: s.ID, Kind: s.Kind.String(), User: s.Member, IP: s.IP, Room: s.Room, Reason: s.Reason, By: s.By, Issued: timestamp(s.Issued),
	}
	if s.Until != 0 {
		j.Until = timestamp(s.Until)
	}
	return j
}

// printer prints a list of sanctions.
type printer struct {
	table *tabwriter.Writer // nil: JSON
	json  *json.Encoder
	err   error // the first
}

func (c *sanctionsCall) printer(out io.Writer) *printer {
	if c.json {
		return &printer{json: json.NewEncoder(out)}
	}
	p := &printer{table: tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)}
	p.row("ID", "KIND", "USER", "ADDRESS", "ROOM", "UNTIL", "BY", "REASON")
	return p
}

func (p *printer) row(cells ...string) {
	if _, err := fmt.Fprintln(p.table, strings.Join(cells, "\t")); err != nil && p.err == nil {
		p.err = err
	}
}

func (p *printer) print(s *bus.Sanction) {
	if p.table == nil {
		if err := p.json.Encode(jsonOf(s)); err != nil && p.err == nil {
			p.err = err
		}
		return
	}
	until := "no end"
	if s.Until != 0 {
		until = timestamp(s.Until)
	}
	p.row(s.ID, s.Kind.String(), or(readable(s.Member), "-"), or(readable(s.IP), "-"), or(readable(s.Room), "(all)"), until, or(readable(s.By), "-"), readable(s.Reason))
}

func (p *printer) flush() error {
	if p.table != nil && p.err == nil {
		p.err = p.table.Flush()
	}
	return p.err
}
