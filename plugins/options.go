package plugins

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/wsrelay/relay/internal/room/policy"
	"github.com/wsrelay/relay/plugins/filter"
)

// HostOptions of a Host.
type HostOptions struct {
	Log      *slog.Logger // required
	Instance string       // this relay's name, which plugins are told
	Version  string       // of relay, likewise

	// Dir is where the folder for the plugins' sockets is made, when the first
	// one starts. Empty: the system's folder for temporary files. The paths of
	// Unix sockets are short (about 100 bytes), so this must be too.
	Dir string
}

// Options of one filter, as relay.yaml has them with all defaults filled in:
// nothing but what is said here has a default of its own.
type Options struct {
	Name string // in relay.yaml

	// Builtin judges in process. Otherwise Command is a plugin's program and its
	// arguments; a program without a slash is looked for in relay's PATH.
	Builtin *filter.Plugin
	Command []string

	// SHA256 pins files to their sums in hex, several where several are good (of
	// an old and a new version). The program must be among them unless Unpinned.
	// They are looked at before every start of a process.
	SHA256   map[string][]string
	Unpinned bool

	Env    map[string]string // all of a plugin's environment, beside the handshake's
	Memory int64             // bytes of RAM beyond which a process is replaced; 0: any
	MTLS   bool              // mutual TLS on the socket, which plugins made with the SDK do by themselves

	Config json.RawMessage // a JSON object; empty for none

	// Timeout is a message's budget: what comes later than this after the message
	// reached the filter, queue included, is no verdict any more. Default
	// DefaultTimeout.
	Timeout time.Duration
	OnError OnError
	Mode    Mode

	// Enforce is the percentage of users whom verdicts are applied to; the others
	// are observed. It counts in mode Enforce only. It picks users by a hash of
	// the filter's name and the user's id, so the same users on every instance.
	Enforce float64

	Events []filter.Event           // default Chat
	All    bool                     // instead of Events: whatever the filter can judge
	Exempt func(*policy.Input) bool // whom it does not look at; nil: nobody. It must be quick

	// The most it may ever do, beside letting pass. Redact lets it take messages
	// back in mode Async.
	Actions   []filter.Action
	Sanctions []filter.SanctionKind
	Redact    bool
}

// DefaultTimeout is a message's budget where Options name none.
const DefaultTimeout = 50 * time.Millisecond

// Mode is what becomes of a filter's verdicts.
type Mode uint8

// Enforced verdicts are applied before anybody sees the message. Observed ones
// are counted and traced alone. Async ones come when the message is delivered
// already: flags and sanctions hold, and a refusal takes the message back.
const (
	Enforce Mode = iota
	Observe
	Async
)

var modeNames = [...]string{"enforce", "observe", "async"}

func (m Mode) String() string { return modeNames[m] }

// ParseMode reads a mode's name.
func ParseMode(s string) (Mode, bool) {
	for i, name := range modeNames {
		if s == name {
			return Mode(i), true
		}
	}
	return 0, false
}

// Fallback is what becomes of a message that a filter has no verdict on.
type Fallback uint8

// The zero value is the safe one.
const (
	Refuse Fallback = iota // reject it
	Pass                   // let it go on to the next filter
)

// OnError says what becomes of messages without a verdict, by the reason for
// which there is none. It counts for enforced verdicts alone.
type OnError struct {
	Timeout  Fallback // none in time
	Crash    Fallback // the plugin's process died, or is away
	Error    Fallback // the filter says it has none, or said something that it may not
	Overload Fallback // too much waits for the filter, or it failed too often to be asked
}

// Why there is no verdict: room.Step.Failure.
const (
	Timeout  = "timeout"
	Crash    = "crash"
	Failed   = "error"
	Overload = "overload"
)

func (o OnError) of(failure string) Fallback {
	switch failure {
	case Timeout:
		return o.Timeout
	case Crash:
		return o.Crash
	case Overload:
		return o.Overload
	}
	return o.Error
}

// Error is something wrong with one filter's options. Prepare and Check return
// all of them, joined by errors.Join.
type Error struct {
	Filter string
	// Pointer is a JSON pointer into the filter's config where the mistake is
	// there; InConfig tells that from a mistake elsewhere.
	Pointer  string
	InConfig bool
	Err      error
}

func (e *Error) Error() string {
	if e.InConfig {
		return fmt.Sprintf("filter %s: config%s: %v", e.Filter, e.Pointer, e.Err)
	}
	return fmt.Sprintf("filter %s: %v", e.Filter, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// check finds what no plugin has to be asked about.
func (o *Options) check() error {
	switch {
	case o.Name == "":
		return errors.New("a filter has no name")
	case (o.Builtin == nil) == (len(o.Command) == 0):
		return errors.New("set one of a built-in and a command")
	case o.Enforce < 0 || o.Enforce > 100:
		return fmt.Errorf("enforce: %v is no percentage", o.Enforce)
	case o.Timeout < 0:
		return fmt.Errorf("timeout: %v is negative", o.Timeout)
	case int(o.Mode) >= len(modeNames):
		return fmt.Errorf("mode %d does not exist", o.Mode)
	}
	for _, a := range o.Actions {
		if a > filter.ActionShadow {
			return fmt.Errorf("actions: %v does not exist", a)
		}
	}
	for _, k := range o.Sanctions {
		if k < filter.Warn || k > filter.Ban {
			return fmt.Errorf("actions: %v does not exist", k)
		}
	}
	if len(o.Command) > 0 && !o.Unpinned {
		return pinned(o.Command, o.SHA256)
	}
	return nil
}
