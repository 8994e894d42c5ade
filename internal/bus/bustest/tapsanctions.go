package bustest

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/wsrelay/relay/internal/bus"
)

// verdicts is what one instance's Handler was told of sanctions.
type verdicts struct {
	of bus.Bus // to ask, while being told, what is in force

	mu      sync.Mutex
	inside  bool // a call is under way
	list    []verdict
	broken  error         // the first breach of Handler's rules
	changed chan struct{} // closed and replaced at each call
}

// verdict is one call.
type verdict struct {
	sanction *bus.Sanction
	was      bus.Sanction // a copy, to find later writes
	lifted   bool
}

func (p *tap) Sanctioned(s *bus.Sanction) { p.verdicts.told(s, false) }
func (p *tap) Lifted(s *bus.Sanction)     { p.verdicts.told(s, true) }

func (v *verdicts) told(s *bus.Sanction, lifted bool) {
	v.mu.Lock()
	if v.inside && v.broken == nil {
		v.broken = fmt.Errorf("told of %s while another call was under way", showSanction(s))
	}
	v.inside = true
	v.mu.Unlock()

	// Outside the lock, so that overlapping calls can be seen.
	in := v.of != nil && slices.ContainsFunc(v.of.InForce(s.Member, s.IP, s.Room), func(o *bus.Sanction) bool { return o.ID == s.ID })

	v.mu.Lock()
	defer v.mu.Unlock()
	v.inside = false
	if v.of != nil && s.Kind.Lasts() && s.Until == 0 && in == lifted && v.broken == nil {
		v.broken = fmt.Errorf("told of %s (lifted: %v) when in force was %v", showSanction(s), lifted, in)
	}
	v.list = append(v.list, verdict{s, *s, lifted})
	close(v.changed)
	v.changed = make(chan struct{})
}

// breach is the first rule that was broken, a later write included.
func (v *verdicts) breach() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.broken != nil {
		return v.broken
	}
	for _, c := range v.list {
		if *c.sanction != c.was {
			return fmt.Errorf("a sanction was written to after it was told: was %s, is %s", showSanction(&c.was), showSanction(c.sanction))
		}
	}
	return nil
}

// about lists the calls about a sanction: true for lifted.
func (v *verdicts) about(id string) (calls []bool, changed <-chan struct{}) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, c := range v.list {
		if c.was.ID == id {
			calls = append(calls, c.lifted)
		}
	}
	return calls, v.changed
}

// wait waits until the calls about a sanction are as many as wanted.
func (v *verdicts) wait(id string, n int, timeout time.Duration) (calls []bool, ok bool) {
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	for {
		calls, changed := v.about(id)
		if len(calls) >= n {
			return calls, true
		}
		select {
		case <-changed:
		case <-deadline.C:
			return calls, false
		}
	}
}

func showSanction(s *bus.Sanction) string {
	if s == nil {
		return "no sanction"
	}
	return fmt.Sprintf("%s(%.6s, member %q, ip %q, room %q, until %d)", s.Kind, s.ID, s.Member, s.IP, s.Room, s.Until)
}
