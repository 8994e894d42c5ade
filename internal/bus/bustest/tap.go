package bustest

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/wsrelay/relay/internal/bus"
)

// tap is the Handler of one instance: it keeps all it is given, by room, and
// notes breaches of Handler's own rules.
type tap struct {
	mu      sync.Mutex
	rooms   map[string][]*bus.Event
	copies  map[string][]bus.Event // of the same, deep, to find later writes
	inside  map[string]bool        // a Deliver call for the room is under way
	open    int                    // calls of Gather without their Flush
	broken  error                  // the first breach
	changed chan struct{}          // closed and replaced at each delivery

	verdicts verdicts
}

func newTap() *tap {
	return &tap{
		rooms: make(map[string][]*bus.Event), copies: make(map[string][]bus.Event),
		inside: make(map[string]bool), changed: make(chan struct{}),
		verdicts: verdicts{changed: make(chan struct{})},
	}
}

func (p *tap) Deliver(e *bus.Event) {
	p.mu.Lock()
	if p.inside[e.Room] && p.broken == nil {
		p.broken = fmt.Errorf("room %q: Deliver called while another call for the room was under way", e.Room)
	}
	p.inside[e.Room] = true
	p.mu.Unlock()

	twin := clone(e) // outside the lock, so that overlapping calls can be seen

	p.mu.Lock()
	defer p.mu.Unlock()
	p.inside[e.Room] = false
	p.rooms[e.Room] = append(p.rooms[e.Room], e)
	p.copies[e.Room] = append(p.copies[e.Room], twin)
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *tap) Gather() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open++
}

func (p *tap) Flush() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open--; p.open < 0 && p.broken == nil {
		p.broken = errors.New("Flush called without Gather")
	}
}

// gathering is how many calls of Gather had no Flush yet.
func (p *tap) gathering() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open
}

// room returns what came so far, and a channel that closes when more came.
func (p *tap) room(name string) ([]*bus.Event, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rooms[name][:len(p.rooms[name]):len(p.rooms[name])], p.changed
}

// wait returns the room's events once cond holds for them, or what there is
// after the timeout and false.
func (p *tap) wait(room string, timeout time.Duration, cond func([]*bus.Event) bool) ([]*bus.Event, bool) {
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	for {
		events, changed := p.room(room)
		if cond(events) {
			return events, true
		}
		select {
		case <-changed:
		case <-deadline.C:
			return events, false
		}
	}
}

// breach is the first rule that was broken, a later write to an event included.
func (p *tap) breach() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broken != nil {
		return p.broken
	}
	for room, events := range p.rooms {
		for i, e := range events {
			if was := p.copies[room][i]; !same(e, &was) {
				return fmt.Errorf("room %q: an event was written to after Deliver: was %s, is %s", room, show(&was), show(e))
			}
		}
	}
	return p.verdicts.breach()
}

func clone(e *bus.Event) bus.Event {
	c := *e
	c.Body, c.Sender.User = bytes.Clone(e.Body), bytes.Clone(e.Sender.User)
	c.Members = nil
	for _, m := range e.Members {
		c.Members = append(c.Members, bytes.Clone(m))
	}
	return c
}

// same compares everything; nil and empty slices are alike.
func same(a, b *bus.Event) bool {
	if len(a.Members) != len(b.Members) || !bytes.Equal(a.Body, b.Body) || !bytes.Equal(a.Sender.User, b.Sender.User) {
		return false
	}
	for i := range a.Members {
		if !bytes.Equal(a.Members[i], b.Members[i]) {
			return false
		}
	}
	return a.Kind == b.Kind && a.Room == b.Room && a.Position == b.Position && a.ID == b.ID && a.Time == b.Time &&
		a.Sender.Member == b.Sender.Member && a.Sender.Conn == b.Sender.Conn && a.Key == b.Key && a.Trace == b.Trace &&
		a.Reason == b.Reason && a.Target == b.Target && a.TargetSeq == b.TargetSeq && a.Count == b.Count &&
		a.Version == b.Version && a.Notice == b.Notice && a.From == b.From && a.To == b.To
}

// difference names the fields that are not the same.
func difference(got, want *bus.Event) string {
	var b strings.Builder
	g, w := reflect.ValueOf(*got), reflect.ValueOf(*want)
	for i := range g.NumField() {
		verb := "%+v"
		if g.Field(i).Kind() == reflect.Slice {
			verb = "%q"
		}
		if x, y := fmt.Sprintf(verb, g.Field(i)), fmt.Sprintf(verb, w.Field(i)); x != y {
			fmt.Fprintf(&b, " %s (%s, want %s)", g.Type().Field(i).Name, x, y)
		}
	}
	return b.String()
}

// show prints an event in a line, with what matters for its kind.
func show(e *bus.Event) string {
	switch e.Kind {
	case bus.Chat:
		return fmt.Sprintf("chat(seq %d, id %.6s, from %s, %s)", e.Seq, e.ID, e.Sender.Member, clip(e.Body))
	case bus.Shadow:
		return fmt.Sprintf("shadow(id %.6s, from %s, %s)", e.ID, e.Sender.Member, clip(e.Body))
	case bus.Signal:
		return fmt.Sprintf("signal(from %s, %s)", e.Sender.Member, clip(e.Body))
	case bus.Joined:
		return fmt.Sprintf("joined(%s, count %d, version %d)", e.Sender.Member, e.Count, e.Version)
	case bus.Left:
		return fmt.Sprintf("left(%s, count %d, version %d, reason %q)", e.Sender.Member, e.Count, e.Version, e.Reason)
	case bus.Redacted:
		return fmt.Sprintf("redacted(seq %d, target %.6s at %d, reason %q)", e.Seq, e.Target, e.TargetSeq, e.Reason)
	case bus.Notice:
		return fmt.Sprintf("notice(kind %d, from %d, to %d, epoch %.6s)", e.Notice, e.From, e.To, e.Epoch)
	case bus.Resync:
		return fmt.Sprintf("resync(count %d, version %d)", e.Count, e.Version)
	}
	return fmt.Sprintf("%+v", *e)
}

func showAll(events []*bus.Event) string {
	var b bytes.Buffer
	const most = 40
	for i, e := range events {
		if i == most {
			fmt.Fprintf(&b, "\n  … and %d more", len(events)-most)
			break
		}
		fmt.Fprintf(&b, "\n  %s", show(e))
	}
	if len(events) == 0 {
		return " nothing"
	}
	return b.String()
}

func clip(b []byte) string {
	if len(b) > 40 {
		return fmt.Sprintf("%s… (%d bytes)", b[:40], len(b))
	}
	return string(b)
}
