// Package bench offers a relay a load and tells what came of it: how many
// messages reached how many members, how fast, and which did not.
//
// It costs less than the server that it measures. One goroutine owns all state
// and drives all sockets; on Linux it waits for them with epoll, elsewhere and
// over TLS a small goroutine per socket reads (network.go). Frames are taken
// apart by hand (frame.go), and nothing is allocated per message.
//
// Each message tells who sent it, its number and when it was to be sent, so that
// every receiver knows at once whether one is missing, came twice or out of
// order (track.go). Latency counts from the moment at which a message was due,
// not from when it left: a server, or a generator, that stalls does not look
// better for having been asked less meanwhile (coordinated omission).
package bench

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"time"
)

// Options say what to offer to whom.
type Options struct {
	// URLs are the endpoints: ws or wss. With two, senders connect to the first,
	// members to the second.
	URLs  []string
	Token string      // bearer token of all sockets; empty: guests
	TLS   *tls.Config // for wss; nil: the system's authorities

	Prefix  string // of the rooms' ids: decides which policy they are under
	Rooms   int
	Members int // sockets in each room; senders are among them, unless there are two URLs
	Senders int // in each room

	// Rate is how many messages a second are sent in all, evenly spread; InFlight
	// is how many of each sender are on their way at any time. One of the two is
	// set, or neither: then the sockets stay quiet.
	Rate     float64
	InFlight int
	Size     int // bytes of a message's text

	Warm     time.Duration // load before anything is measured
	Duration time.Duration // of the measurement
	Connect  time.Duration // bound on connecting and joining
	Drain    time.Duration // bound on the wait for what is still on its way

	// Progress is called about once a second, Phase when one begins. Both are
	// called by the goroutine that drives the load: they should be quick.
	Progress func(Progress)
	Phase    func(Phase)
}

// Phase is a part of a run.
type Phase int

// The phases, in their order.
const (
	Connecting Phase = iota
	Warming          // everybody has joined and it has become quiet
	Measuring
	Draining // nothing new is sent
)

// Progress is what a run looks like while it is under way.
type Progress struct {
	Phase     Phase
	Elapsed   time.Duration // in this phase
	Of        time.Duration // what the phase takes; 0: not known
	Joined    int
	Sockets   int
	PerSecond float64       // deliveries, since the last report
	P99       time.Duration // so far
	Missing   int64         // on their way or lost
}

// Bounds of Options. A socket is an open file, so the operating system has one
// more.
const (
	maxSockets  = 1_000_000
	maxTracks   = 20_000_000 // of 24 bytes
	maxSize     = 60 << 10
	maxDuration = 24 * time.Hour
)

// ErrOptions is wrapped by errors about what was asked for.
var ErrOptions = errors.New("bad options")

func (o *Options) validate() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{ErrOptions}, args...)...)
	}
	switch {
	case len(o.URLs) < 1 || len(o.URLs) > 2:
		return bad("one or two URLs")
	case o.Rooms < 1 || o.Members < 1 || o.Senders < 1:
		return bad("rooms, members and senders must be at least 1")
	case len(o.URLs) == 1 && o.Senders > o.Members:
		return bad("%d senders in a room of %d members", o.Senders, o.Members)
	case len(o.URLs) == 1 && o.Members < 2 && (o.Rate > 0 || o.InFlight > 0):
		return bad("a room of one member has nobody to deliver to")
	case o.Rooms > maxSockets || o.perRoom() > maxSockets || o.sockets() > maxSockets:
		return bad("more than %d sockets", maxSockets)
	case o.sockets()*o.Senders > maxTracks:
		return bad("%d senders, each to be followed by %d sockets: too much to keep", o.Senders, o.sockets())
	case o.Rate < 0 || o.Rate > 1e7 || o.InFlight < 0 || o.InFlight > 1e5:
		return bad("rate is at most 10,000,000 a second, in-flight at most 100,000")
	case o.Rate > 0 && o.InFlight > 0:
		return bad("rate or in-flight, not both")
	case o.Size < stampSize || o.Size > maxSize:
		return bad("size is %d to %d bytes", stampSize, maxSize)
	case o.Warm < 0 || o.Warm > maxDuration || o.Duration <= 0 || o.Duration > maxDuration:
		return bad("duration is more than 0 and at most %v", maxDuration)
	}
	for _, s := range o.URLs {
		if _, err := parseURL(s); err != nil {
			return bad("%w", err)
		}
	}
	return nil
}

// perRoom is how many sockets a room takes.
func (o *Options) perRoom() int {
	if len(o.URLs) == 2 {
		return o.Members + o.Senders
	}
	return o.Members
}

func (o *Options) sockets() int { return o.Rooms * o.perRoom() }

func parseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil {
		return nil, errors.New("a URL cannot be read: is it like ws://localhost:5000/ws?") // the error would quote it, with any token in it
	}
	switch u.Scheme {
	case "ws", "wss":
	default:
		return nil, fmt.Errorf("scheme %q: use ws:// or wss://", u.Scheme)
	}
	if u.Host == "" {
		return nil, errors.New("a URL without a host")
	}
	if u.Port() == "" {
		port := map[string]string{"ws": "80", "wss": "443"}[u.Scheme]
		u.Host = u.Host + ":" + port
	}
	return u, nil
}

// Run connects, joins, offers the load and closes. An error means that there is
// no result worth reading: the options are wrong, or not everybody could join.
// What went wrong under load is in the Result. When ctx ends, the measurement
// does, and what was measured so far is the result.
func Run(ctx context.Context, opt Options) (*Result, error) {
	if opt.Connect == 0 {
		opt.Connect = time.Minute
	}
	if opt.Drain == 0 {
		opt.Drain = 5 * time.Second
	}
	if err := opt.validate(); err != nil {
		return nil, err
	}
	if err := enoughFiles(opt.sockets()); err != nil {
		return nil, err
	}
	d, err := newDialer(&opt)
	if err != nil {
		return nil, err
	}
	nw := newNetwork(d.encrypted())
	defer nw.close()
	began := time.Now()
	l := newLoad(&opt, nw, func() time.Duration { return time.Since(began) }, rand.Text()[:runSize])
	if err := l.connect(ctx, d); err != nil {
		return nil, fmt.Errorf("connecting: %w", err)
	}
	return l.run(ctx), nil
}
