package plugins

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/wsrelay/relay/plugins/filter"
)

// Set is filters that are ready to judge: those of one configuration. Every set
// is either committed or discarded, once.
type Set struct {
	host   *Host
	stages map[string]*stage
	order  []string // names, sorted
	active runs     // messages on their way through one of its chains
}

// Prepare makes filters ready: it starts and configures the plugins that are new
// or changed, a changed file included, and takes over those in force that stayed
// as they are. What is in force stays in force, whatever comes of it. The error
// is all that is wrong, as *Error values joined by errors.Join; nothing is left
// running then.
func (h *Host) Prepare(ctx context.Context, list []Options) (*Set, error) {
	if !h.enter() {
		return nil, ErrClosed
	}
	defer h.preparing.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(h.open, cancel)()

	set := &Set{host: h, stages: make(map[string]*stage, len(list))}
	set.active.idle = make(chan struct{}, 1)
	stages := make([]*stage, len(list))
	errs := make([]error, len(list))
	var wg sync.WaitGroup
	for i := range list {
		wg.Go(func() { stages[i], errs[i] = h.prepare(ctx, list[i]) })
	}
	wg.Wait()
	for i, st := range stages {
		if st == nil {
			continue
		}
		if _, twice := set.stages[st.opts.Name]; twice {
			errs[i] = &Error{Filter: st.opts.Name, Err: errors.New("there are two filters of this name")}
			st.release()
			continue
		}
		set.stages[st.opts.Name] = st
		set.order = append(set.order, st.opts.Name)
	}
	slices.Sort(set.order)
	if err := errors.Join(errs...); err != nil {
		set.release()
		return nil, err
	}
	h.mu.Lock()
	h.loose[set] = struct{}{}
	h.mu.Unlock()
	return set, nil
}

// prepare makes one filter ready.
func (h *Host) prepare(ctx context.Context, o Options) (*stage, error) {
	if err := o.check(); err != nil {
		return nil, &Error{Filter: o.Name, Err: err}
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	st := &stage{opts: o, tally: h.tally(o.Name), log: h.log.With("filter", o.Name)}
	old := h.inForce(o.Name)
	var err error
	if o.Builtin != nil {
		err = st.prepareBuiltin(old)
	} else {
		err = st.prepareProcess(ctx, h, old)
	}
	if err != nil {
		return nil, err
	}
	if err := st.able(); err != nil {
		st.release()
		return nil, &Error{Filter: o.Name, Err: err}
	}
	st.limit()
	return st, nil
}

// able refuses what the filter says it cannot do.
func (s *stage) able() error {
	for _, e := range s.opts.Events {
		if !slices.Contains(s.desc.Events, e) {
			names := make([]string, len(s.desc.Events))
			for i, d := range s.desc.Events {
				names[i] = d.String()
			}
			return errors.New("events: it cannot judge " + e.String() + ", only " + strings.Join(names, ", "))
		}
	}
	return nil
}

// prepareBuiltin takes over the one in force where nothing changed, with what it
// remembers, or makes a new one. One that remembers nothing is always made anew:
// it may have read a file that changed.
func (s *stage) prepareBuiltin(old *stage) error {
	p := *s.opts.Builtin
	desc, err := p.Describe()
	if err != nil {
		return &Error{Filter: s.opts.Name, Err: err}
	}
	s.desc = desc
	config := string(s.opts.Config)
	if !desc.Stateless && old != nil && old.builtin != nil && old.builtin.plugin.Name == p.Name && old.builtin.plugin.Version == p.Version && old.builtin.config == config {
		s.builtin = old.builtin
		s.builtin.refs.Add(1)
		return nil
	}
	judge, problems := p.Build(s.opts.Config)
	if err := s.problems(problems); err != nil {
		return err
	}
	s.builtin = &builtin{plugin: p, judge: judge, config: config}
	s.builtin.refs.Store(1)
	return nil
}

// prepareProcess takes over the process in force where nothing changed, or starts
// one.
func (s *stage) prepareProcess(ctx context.Context, h *Host, old *stage) error {
	sp := &spec{opts: s.opts, prints: fingerprint(s.opts.Command, s.opts.SHA256)}
	if old != nil && old.unit != nil && old.unit.hold() {
		s.unit = old.unit
		if s.unit.runs(sp) {
			s.desc = old.desc
			return nil
		}
	}
	l, problems, err := h.launch(ctx, sp, s.log)
	if err != nil {
		err = &Error{Filter: s.opts.Name, Err: err}
	}
	if err := errors.Join(err, s.problems(problems)); err != nil {
		s.release()
		return err
	}
	s.desc = l.desc
	if s.unit != nil {
		s.fresh = l
		return nil
	}
	s.unit = newUnit(h, s.log, s.tally)
	s.unit.mu.Lock()
	s.unit.attach(l)
	s.unit.mu.Unlock()
	go s.unit.supervise()
	return nil
}

// problems makes an error of what is wrong with the configuration, and logs what
// is not quite.
func (s *stage) problems(list []filter.Problem) error {
	var errs []error
	for _, p := range list {
		if p.Warning {
			s.log.Warn("configuration of a filter", "path", p.Path, "problem", p.Message)
			continue
		}
		errs = append(errs, &Error{Filter: s.opts.Name, Pointer: p.Path, InConfig: true, Err: errors.New(p.Message)})
	}
	return errors.Join(errs...)
}

// Discard ends what was started for a set that is not to be, and returns when
// that is gone.
func (s *Set) Discard() {
	if s.host.take(s) {
		s.release()
	}
}

// retire waits for the messages of a set's chains, and lets go of its filters.
func (s *Set) retire() {
	s.active.wait(s.host.open)
	s.release()
}

// release lets go of the filters, and returns when those that nobody else holds
// have ended.
func (s *Set) release() {
	var wg sync.WaitGroup
	for _, name := range s.order {
		wg.Go(s.stages[name].release)
	}
	wg.Wait()
}
