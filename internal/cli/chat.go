package cli

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	client "github.com/wsrelay/relay/client/go"
)

func chatCommand(env Env) *cobra.Command {
	c := &chat{}
	var file string
	cmd := &cobra.Command{
		Use:   "chat URL",
		Short: "Talk in a room from the terminal",
		Long: `Talk in a room from the terminal.

Lines you type are sent as they are. Lines that start with / are commands; /help
lists them. Arrow keys bring back what you typed before. When the connection
breaks, chat reconnects and fetches what was missed where the room keeps history.`,
		Example: `  relay chat ws://localhost:5000/ --room lobby --name Ann
  RELAY_TOKEN=eyJ… relay chat wss://chat.example.com/ws --room support-42`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.url = args[0]
			if c.token == "" {
				c.token = os.Getenv("RELAY_TOKEN")
			}
			if file != "" && !cmd.Flags().Changed("traces") {
				cfg, _, err := load(env, file)
				if err != nil {
					return err
				}
				if t := cfg.Telemetry.Traces; t != nil && t.UI != "" {
					c.traces = t.UI
				}
			}
			return c.run(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringVar(&c.room, "room", "lobby", "room to join; it is created if the policy lets you")
	f.StringVar(&c.name, "name", os.Getenv("USER"), "name that others see")
	f.StringVar(&c.id, "id", "", "user id; default: the name")
	f.StringVarP(&file, "config", "c", "", "relay.yaml whose telemetry.traces.ui /trace prints")
	f.StringVar(&c.traces, "traces", "http://localhost:16686/trace/{traceId}", "URL of a trace, which /trace prints")
	f.StringVar(&c.debug, "debug", "", "debug token (relay token --debug): every message of this connection is traced in full")
	f.StringVar(&c.token, "token", "", "bearer token; default: $RELAY_TOKEN, which keeps it out of the process list")
	return cmd
}

// chat is a terminal client. Its input is read by one goroutine, the
// connection's events come on another; out and the fields below mu are shared.
type chat struct {
	url, room, name, id, token string
	traces, debug              string

	out    io.Writer // safe for concurrent writes
	colour bool
	exit   context.CancelFunc
	me     client.User // as the server knows us, since the first joined; of the goroutine that sends

	mu   sync.Mutex
	conn *client.Conn     // nil while reconnecting; guarded by mu
	pos  *client.Position // how far we have seen the room; guarded by mu
	last string           // trace id of the newest message; guarded by mu
}

func (c *chat) run(ctx context.Context, in io.Reader, out io.Writer) error {
	if c.name == "" {
		c.name = "guest"
	}
	if c.id == "" {
		c.id = c.name
	}
	ctx, c.exit = context.WithCancel(ctx)
	defer c.exit()

	lines, restore, err := c.open(in, out)
	if err != nil {
		return err
	}
	defer restore()
	input := make(chan string)
	go func() {
		defer close(input) // what was typed before is still sent
		for {
			line, err := lines()
			if err != nil {
				return // end of input, Ctrl-D or Ctrl-C
			}
			select {
			case input <- line:
			case <-ctx.Done():
				return
			}
		}
	}()
	return c.stay(ctx, input)
}

// open prepares the terminal, or plain line reading where there is none. lines
// returns the next line typed.
func (c *chat) open(in io.Reader, out io.Writer) (lines func() (string, error), restore func(), err error) {
	f, ok := in.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		c.out = &lockedWriter{w: out}
		return lineReader(in), func() {}, nil
	}
	old, err := term.MakeRaw(int(f.Fd()))
	if err != nil {
		return nil, nil, fmt.Errorf("preparing the terminal: %w", err)
	}
	t := term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{in, out}, "> ")
	if w, h, err := term.GetSize(int(f.Fd())); err == nil {
		_ = t.SetSize(w, h) // only fails where writing does
	}
	c.out, c.colour = t, os.Getenv("NO_COLOR") == ""
	return t.ReadLine, func() { _ = term.Restore(int(f.Fd()), old) }, nil
}

// stay keeps a connection until the user leaves or the server says not to come
// back.
func (c *chat) stay(ctx context.Context, input <-chan string) error {
	wait := time.Duration(0)
	for first := true; ; first = false {
		conn, err := client.Dial(ctx, c.url, c.options())
		if err == nil {
			wait = 0
			err = c.talk(ctx, conn, input)
			if err == nil || ctx.Err() != nil {
				return nil
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		var ce *client.CloseError
		final := errors.As(err, &ce) && !comeBack(ce.Code)
		var refused *client.Error
		if final || errors.As(err, &refused) || first && ce == nil {
			return fmt.Errorf("chat at %s: %w", c.url, err)
		}
		wait = min(max(2*wait, 500*time.Millisecond), 15*time.Second)
		pause := wait/2 + time.Duration(rand.Int64N(int64(wait/2)))
		c.say("— %v; reconnecting in %s", err, pause.Round(100*time.Millisecond))
		if !c.idle(ctx, input, pause) {
			return nil
		}
	}
}

// comeBack tells the close codes after which it makes sense to try again.
func comeBack(code int) bool {
	switch code {
	case 1000, 1003, 1007, 1008, 1009, 4401, 4403:
		return false
	}
	return true
}

// idle waits before the next try. What is typed meanwhile is refused with a
// word, not kept for later: nobody likes to find old lines sent.
func (c *chat) idle(ctx context.Context, input <-chan string, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			return true
		case <-ctx.Done():
			return false
		case line, more := <-input:
			if !more || strings.TrimSpace(line) == "/quit" {
				return false
			}
			c.say("— not sent, we are not connected: %s", line)
		}
	}
}

// talk joins and carries lines until the connection ends, with its error, or
// the user leaves.
func (c *chat) talk(ctx context.Context, conn *client.Conn, input <-chan string) error {
	defer conn.Close()
	c.mu.Lock()
	resume := c.pos
	c.mu.Unlock()
	user := &client.User{ID: c.id, Name: c.name}
	if c.token != "" {
		user = nil // the token names us
	}
	joined, err := conn.Join(ctx, c.room, user, resume)
	if err != nil {
		return err
	}
	if u := joined.User; u != nil { // a token names us, and guests get a prefix
		c.me = *u
	}
	if resume != nil && !joined.Recovered {
		c.say("— some messages may be missing")
	}
	c.mu.Lock()
	c.conn = conn
	c.mu.Unlock()
	for {
		select {
		case line, more := <-input:
			if !more {
				line = "/quit"
			}
			if done := c.line(ctx, conn, line); done {
				return nil
			}
		case <-ctx.Done():
			return nil
		case <-conn.Done():
			return conn.Err()
		}
	}
}

func (c *chat) options() client.Options {
	opt := client.Options{Token: c.token, Handler: c.show}
	if c.debug != "" {
		opt.Header = http.Header{"Relay-Debug": {c.debug}}
	}
	return opt
}

// line carries out what was typed; true when it was the last.
func (c *chat) line(ctx context.Context, conn *client.Conn, line string) bool {
	line = strings.TrimRight(line, "\r\n")
	if strings.TrimSpace(line) == "" {
		return false
	}
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "/quit", "/exit":
		_ = conn.Exit(ctx, c.room) // we are leaving either way
		return true
	case "/who":
		c.who(ctx, conn)
	case "/history":
		c.history(ctx, conn)
	case "/trace":
		c.trace(strings.TrimSpace(rest))
	case "/help":
		c.say("— /who lists who is here, /history shows older messages, /trace [ID] links to the trace of the newest message or of another, /me TEXT acts, //TEXT sends a line that starts with /, /quit leaves")
	case "/me":
		c.send(ctx, conn, "* "+display(&c.me)+" "+rest)
	default:
		if strings.HasPrefix(line, "/") && !strings.HasPrefix(line, "//") {
			c.say("— no command %s; /help lists them", word)
			return false
		}
		c.send(ctx, conn, strings.TrimPrefix(line, "/"))
	}
	return false
}

func (c *chat) send(ctx context.Context, conn *client.Conn, text string) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	ack, err := conn.Chat(ctx, c.room, text)
	if err != nil {
		c.say("— not sent: %s", clean(err.Error()))
		return
	}
	if ack.Message != nil { // what a filter made of it is what the others read
		text = ack.Text()
	}
	c.say("%s %s", c.paint(c.me.ID, display(&c.me)+":"), clean(text))
}

// trace prints where a message's trace can be looked at. id is a message's, which
// is the trace's unless its sender brought a trace along.
func (c *chat) trace(id string) {
	if id == "" {
		c.mu.Lock()
		id = c.last
		c.mu.Unlock()
	}
	if id == "" {
		c.say("— no message yet")
		return
	}
	c.say("— %s", strings.ReplaceAll(c.traces, "{traceId}", clean(id)))
}

func (c *chat) who(ctx context.Context, conn *client.Conn) {
	e, err := conn.Do(ctx, &client.Request{Type: "members", RoomID: c.room})
	if err != nil {
		c.say("— %v", err)
		return
	}
	names := make([]string, 0, len(e.Members))
	for _, u := range e.Members {
		names = append(names, c.paint(u.ID, display(&u)))
	}
	c.say("— %d here: %s", e.MemberCount, strings.Join(names, ", "))
}

func (c *chat) history(ctx context.Context, conn *client.Conn) {
	e, err := conn.Do(ctx, &client.Request{Type: "history", RoomID: c.room, Limit: 50})
	if err != nil {
		c.say("— %v", err)
		return
	}
	for _, m := range e.Messages {
		c.message(&m)
	}
}

// show prints an event; it is the connection's handler.
func (c *chat) show(e *client.Event) {
	if e.Type == "chat" || e.Type == "ack" {
		c.mu.Lock()
		c.last = e.TraceID()
		c.mu.Unlock()
	}
	switch e.Type {
	case "joined":
		c.say("— you are in %s with %d here; /help lists commands", clean(e.RoomID), e.MemberCount)
		for i := range e.Messages {
			c.message(&e.Messages[i])
		}
		if e.Epoch != "" {
			c.seen(e.Epoch, e.Seq)
		}
	case "chat":
		c.message(e)
		c.seen("", e.Seq)
	case "ack":
		if !e.Duplicate {
			c.seen("", e.Seq)
		}
	case "redacted":
		c.say("— a message was removed%s", because(e.Reason))
		c.seen("", e.Seq)
	case "member_joined":
		c.say("— %s came, %d here", c.paint(e.User.ID, display(e.User)), e.MemberCount)
	case "member_left":
		c.say("— %s went%s, %d here", c.paint(e.User.ID, display(e.User)), because(e.Reason), e.MemberCount)
	case "notice":
		if e.Kind == "epoch" {
			c.seen(e.Epoch, e.To)
			return
		}
		c.say("— some messages are missing (%s)", clean(e.Kind))
	case "exited":
		if e.ID == "" {
			c.say("— you were taken out of the room%s", because(e.Reason))
		}
	case "sanction":
		c.say("— you got a %s%s", clean(e.Kind), because(e.Reason))
	case "closing":
		c.say("— the server restarts, back in a moment")
	case "expiring":
		c.say("— your token expires in %s", time.Duration(e.InMs)*time.Millisecond)
	}
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return " (" + clean(reason) + ")"
}

// seen notes how far the room has been followed, for the next resume.
func (c *chat) seen(epoch string, seq uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case epoch != "":
		c.pos = &client.Position{Epoch: epoch, Seq: seq}
	case c.pos != nil && seq != 0: // in a new epoch numbers may begin anew
		c.pos = &client.Position{Epoch: c.pos.Epoch, Seq: seq}
	}
}

func (c *chat) message(e *client.Event) {
	at := time.UnixMilli(e.Time).Format("15:04")
	id, name := "", "?"
	if e.User != nil {
		id, name = e.User.ID, display(e.User)
	}
	c.say("%s %s %s", c.dim(at), c.paint(id, name+":"), clean(e.Text()))
}

func display(u *client.User) string {
	name := u.Name
	if name == "" {
		name = u.ID
	}
	return clean(name)
}

func (c *chat) say(format string, args ...any) {
	_, _ = fmt.Fprintf(c.out, format+"\n", args...) // a broken terminal ends the input too
}

// palette holds colours that read well on dark and on light ground (256-colour
// codes).
var palette = [...]int{33, 37, 64, 97, 125, 130, 161, 166, 61, 28}

func (c *chat) paint(id, text string) string {
	if !c.colour {
		return text
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(id))
	return fmt.Sprintf("\x1b[1;38;5;%dm%s\x1b[0m", palette[h.Sum32()%uint32(len(palette))], text)
}

func (c *chat) dim(text string) string {
	if !c.colour {
		return text
	}
	return "\x1b[2m" + text + "\x1b[0m"
}

// clean keeps what others write from steering our terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 && r != '\t' || r >= 0x7f && r < 0xa0 {
			return '\uFFFD'
		}
		return r
	}, s)
}

type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}
