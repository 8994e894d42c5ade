package plugins

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// Host owns the filters of one instance of relay, and the processes of those that
// are plugins. Its methods may be called from any goroutine.
type Host struct {
	opts  HostOptions
	log   *slog.Logger
	times timing
	began time.Time

	open  context.Context // until Close is called
	close context.CancelFunc
	hard  context.Context // until Close has no more time for drains
	kill  context.CancelFunc

	preparing sync.WaitGroup // calls of Prepare
	gone      sync.WaitGroup // sets that are being taken down

	mu      sync.Mutex
	closed  bool              // guarded by mu, like all below
	current *Set              // in force; nil before the first Commit
	loose   map[*Set]struct{} // prepared, and neither committed nor discarded
	tallies map[string]*tally // by filter; as many as there ever were names

	sockets   *socketDir // made with the first process, like spawn
	spawn     *spawner
	processes int // so far
}

// timing is how long plugins have for what is no message. Tests are in a hurry.
type timing struct {
	start     time.Duration // until it says where it listens
	configure time.Duration // until it is configured after that, and has answered a first ping
	ping      time.Duration // between health pings
	health    time.Duration // without an answer to one, until it is replaced
	drain     time.Duration // to answer what it has
	end       time.Duration // to end after that, when its standard input did

	// short is what a process has to live for its successor to be started without
	// delay. Of two in a row that lived shorter, the second one's successor waits,
	// and each after it twice as long as the one before.
	short time.Duration
}

var usual = timing{
	start: 5 * time.Second, configure: 10 * time.Second, ping: 5 * time.Second, health: 5 * time.Second,
	drain: 5 * time.Second, end: 2 * time.Second, short: 500 * time.Millisecond,
}

// ErrClosed is returned by a Host that was closed.
var ErrClosed = errors.New("filter host closed")

// New makes a host. It starts nothing.
func New(opts HostOptions) *Host {
	h := &Host{opts: opts, log: opts.Log, times: usual, began: time.Now(), loose: map[*Set]struct{}{}, tallies: map[string]*tally{}}
	h.open, h.close = context.WithCancel(context.Background())
	h.hard, h.kill = context.WithCancel(context.Background())
	return h
}

// clock tells the time in nanoseconds, never 0, and minds no change of the
// system's.
func (h *Host) clock() int64 { return int64(time.Since(h.began)) + 1 }

// enter admits a call of Prepare.
func (h *Host) enter() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed {
		h.preparing.Add(1)
	}
	return !h.closed
}

// take removes a set from those that are neither committed nor discarded.
func (h *Host) take(s *Set) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, ok := h.loose[s]
	delete(h.loose, s)
	return ok
}

// Commit puts a set in force. What only the one before it used goes on until the
// messages that are on their way through its chains are through, and is then
// drained and ended; Commit does not wait for that.
func (h *Host) Commit(set *Set) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.loose[set]; !ok {
		return // committed or discarded already, or the host is closed
	}
	delete(h.loose, set)
	for _, name := range set.order {
		set.stages[name].install()
	}
	old := h.current
	h.current = set
	if old != nil {
		h.gone.Go(old.retire)
	}
}

// Check finds what is wrong with options, as Prepare does, and leaves nothing
// running: plugins are started, asked, and ended.
func (h *Host) Check(ctx context.Context, list []Options) error {
	set, err := h.Prepare(ctx, list)
	if err != nil {
		return err
	}
	set.Discard()
	return nil
}

// Close ends all processes: it drains them until ctx is done, and kills what is
// left. Messages that come after it get no verdict (Crash). It returns when no
// process is left; an error says that some had to be killed. It may be called
// more than once.
func (h *Host) Close(ctx context.Context) error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		h.gone.Wait()
		return nil
	}
	h.closed = true
	sets := make([]*Set, 0, len(h.loose)+1)
	for s := range h.loose {
		sets = append(sets, s)
	}
	clear(h.loose)
	if h.current != nil {
		sets = append(sets, h.current)
		h.current = nil
	}
	h.mu.Unlock()

	stop := context.AfterFunc(ctx, h.kill)
	h.close()
	h.preparing.Wait() // they are cancelled
	for _, s := range sets {
		h.gone.Go(s.release)
	}
	h.gone.Wait()
	stop()
	inTime := h.hard.Err() == nil
	h.kill()
	h.clear()
	if !inTime {
		return errors.New("ending filters: not all were drained in time")
	}
	return nil
}

// clear removes what the processes needed, when there are none any more.
func (h *Host) clear() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.spawn != nil {
		h.spawn.close()
		h.sockets.remove()
		h.spawn, h.sockets = nil, nil
	}
}

// Status tells about the filters in force, by name.
func (h *Host) Status() []Status {
	h.mu.Lock()
	set := h.current
	h.mu.Unlock()
	if set == nil {
		return nil
	}
	list := make([]Status, 0, len(set.order))
	for _, name := range set.order {
		list = append(list, set.stages[name].status())
	}
	return list
}

func (h *Host) inForce(name string) *stage {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.current == nil {
		return nil
	}
	return h.current.stages[name]
}

func (h *Host) tally(name string) *tally {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.tallies[name]
	if t == nil {
		t = &tally{}
		h.tallies[name] = t
	}
	return t
}
