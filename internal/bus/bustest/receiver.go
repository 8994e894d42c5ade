package bustest

import (
	"errors"
	"fmt"
	"time"

	"github.com/wsrelay/relay/internal/bus"
)

// receiver compares what one instance was given for one room with the model's
// log. Events of the time it was subscribed are owed to it; others may come (a
// subscription lingers), but in their order and once.
type receiver struct {
	node       *node
	room       *modelRoom
	subscribed int
	owed       []bool // parallel to room.log
	at         int    // place in room.log after the last event that came
	seen       int    // how many of the tap's events were compared

	signals   map[bus.MessageID]*bus.Event // that were sent, in any room
	signalled map[bus.MessageID]bool       // that came
}

// owe marks what the last operation added to the log.
func (rc *receiver) owe() {
	for len(rc.owed) < len(rc.room.log) {
		rc.owed = append(rc.owed, rc.subscribed > 0)
	}
}

// sync compares until nothing is owed any more.
func (rc *receiver) sync(timeout time.Duration) error {
	last := len(rc.owed)
	for last > 0 && !rc.owed[last-1] {
		last--
	}
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	for {
		events, changed := rc.node.tap.room(rc.room.name)
		for ; rc.seen < len(events); rc.seen++ {
			if err := rc.take(events[rc.seen]); err != nil {
				return fmt.Errorf("delivery %d: %w", rc.seen+1, err)
			}
		}
		if rc.at >= last {
			return nil
		}
		select {
		case <-changed:
		case <-deadline.C:
			return fmt.Errorf("not delivered: %s", show(rc.room.log[rc.at]))
		}
	}
}

func (rc *receiver) take(got *bus.Event) error {
	if got.Kind == bus.Signal {
		want := rc.signals[got.ID]
		if want == nil || !same(want, got) || rc.signalled[got.ID] {
			return fmt.Errorf("got %s, which was not sent or came before", show(got))
		}
		rc.signalled[got.ID] = true
		return nil
	}
	for i := rc.at; i < len(rc.room.log); i++ {
		err := match(rc.room.log[i], got)
		if err == nil {
			rc.at = i + 1
			return rc.versionRises(i)
		}
		if rc.owed[i] {
			return err
		}
	}
	return fmt.Errorf("got %s, when nothing more was due", show(got))
}

// versionRises compares a change's version with that of the change before it.
func (rc *receiver) versionRises(i int) error {
	e := rc.room.log[i]
	for k := i - 1; k >= 0 && e.Version != 0; k-- {
		if before := rc.room.log[k]; before.Version != 0 {
			if before.Version >= e.Version {
				return fmt.Errorf("got %s after %s", show(e), show(before))
			}
			break
		}
	}
	return nil
}

// match compares an event with the model's. What the model cannot know of a
// change or redaction it learns from whoever is given it first.
func match(want, got *bus.Event) error {
	expected := *want
	if want.Kind != bus.Chat && want.Time == 0 {
		expected.ID, expected.Time, expected.Trace = got.ID, got.Time, got.Trace
		if want.Version == 0 {
			expected.Version = got.Version
		}
	}
	if !same(&expected, got) {
		return fmt.Errorf("got %s, want %s; they differ in%s", show(got), show(want), difference(got, &expected))
	}
	if got.Time == 0 {
		return errors.New("got " + show(got) + " without a time")
	}
	*want = expected
	return nil
}

func matchAll(want, got []*bus.Event) error {
	if len(want) != len(got) {
		return fmt.Errorf("got %d events:%s\nwant %d:%s", len(got), showAll(got), len(want), showAll(want))
	}
	for i := range want {
		if err := match(want[i], got[i]); err != nil {
			return fmt.Errorf("event %d of %d: %w", i+1, len(want), err)
		}
	}
	return nil
}
