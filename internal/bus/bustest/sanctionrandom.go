package bustest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/wsrelay/relay/internal/bus"
)

// sentence is one random operation on the sanctions.
type sentence struct {
	node  int
	given bus.Sanction // of which the ID is the operation's own
	lift  bool         // one of those before, by pick, instead
	again bool         // likewise: sanction once more under its id
	sync  bool         // compare everything instead
	pick  uint64
}

func sentences(seed uint64, n, nodes int) []sentence {
	rng := rand.New(rand.NewPCG(seed, 2))
	ops := make([]sentence, n)
	for i := range ops {
		o := sentence{node: rng.IntN(nodes), pick: rng.Uint64()}
		o.given = bus.Sanction{
			ID: fmt.Sprint("s", i), Kind: bus.SanctionKind(1 + rng.IntN(4)), Member: fmt.Sprint("m", rng.IntN(3)),
			Room: []string{"", "a", "b"}[rng.IntN(3)], IP: []string{"", "", "192.0.2.1", "192.0.2.2"}[rng.IntN(4)],
			Reason: fmt.Sprint("reason ", i), By: "filter:test",
		}
		if o.given.IP != "" && rng.IntN(3) == 0 {
			o.given.Member = ""
		}
		if o.given.Kind.Lasts() && rng.IntN(3) == 0 {
			o.given.Until = 1 // an hour from when it is done
		}
		switch rng.IntN(10) {
		case 0, 1, 2:
			o.lift = true
		case 3:
			o.again = true
		case 4:
			o.sync = true
		}
		ops[i] = o
	}
	return ops
}

// book is the contract of sanctions without time: what is in force, and what
// every instance is told of each.
type book struct {
	inForce []*bus.Sanction
	told    map[string][]bool
	names   []string // of all that were given
}

func (b *book) find(id string) *bus.Sanction {
	for _, s := range b.inForce {
		if s.ID == id {
			return s
		}
	}
	return nil
}

func (b *book) against(member, ip, room string) []string {
	var ids []string
	for _, s := range b.inForce {
		if (s.Member == member && member != "" || s.IP == ip && ip != "") && (s.Room == "" || s.Room == room) {
			ids = append(ids, s.ID)
		}
	}
	slices.Sort(ids)
	return ids
}

// replaySentences runs operations on a fresh backend next to a fresh book.
func replaySentences(t testing.TB, factory Factory, caps Capabilities, ops []sentence) (trace []string, err error) {
	t.Helper()
	s := newSession(t, factory, caps, randomNodes)
	defer s.close()
	b := &book{told: make(map[string][]bool)}
	for _, o := range append(slices.Clone(ops), sentence{sync: true}) {
		line, err := s.carryOut(b, o)
		trace = append(trace, fmt.Sprintf("  %3d  instance %d: %s", len(trace)+1, o.node, line))
		if err != nil {
			return trace, fmt.Errorf("operation %d: %w", len(trace), err)
		}
	}
	for _, n := range s.nodes {
		if err := n.breach(); err != nil {
			return trace, fmt.Errorf("instance %d: %w", n.index, err)
		}
	}
	return trace, nil
}

// carryOut does one operation on both sides and compares.
func (s *session) carryOut(b *book, o sentence) (line string, err error) {
	n := s.nodes[o.node]
	id := "unknown"
	if len(b.names) > 0 {
		id = b.names[o.pick%uint64(len(b.names))]
	}
	switch {
	case o.sync:
		return "compare", s.compareBook(b)
	case o.lift:
		want := b.find(id)
		got, err := n.Lift(s.ctx, id)
		switch {
		case want == nil && !errors.Is(err, bus.ErrNoSanction):
			err = fmt.Errorf("lifted %s, %w, want ErrNoSanction", showSanction(got), err)
		case want == nil:
			err = nil
		case err == nil && *got != *want:
			err = fmt.Errorf("lifted %+v, want %+v", got, want)
		case err == nil:
			b.inForce = slices.DeleteFunc(b.inForce, func(x *bus.Sanction) bool { return x == want })
			b.told[id] = append(b.told[id], true)
		}
		return "lift " + id, err
	}
	given := o.given
	if first := b.find(id); o.again && first != nil {
		given.ID, given.Kind, given.Until = id, bus.Ban, 0
		got, err := n.Sanction(s.ctx, &given)
		if err == nil && *got != *first {
			err = fmt.Errorf("the second time got %+v, want %+v", got, first)
		}
		return "again " + showSanction(&given), err
	}
	full := len(b.inForce) >= s.caps.MaxSanctions && s.caps.MaxSanctions > 0 && given.Kind.Lasts()
	if given.Until != 0 {
		given.Until = time.Now().Add(time.Hour).UnixMilli()
	}
	line = showSanction(&given)
	got, err := n.Sanction(s.ctx, &given)
	if full {
		if !errors.Is(err, bus.ErrTooManySanctions) {
			return line, fmt.Errorf("above the bound: %w", err)
		}
		return line, nil
	}
	if err != nil {
		return line, err
	}
	want := given
	want.Issued = got.Issued
	if want.Until != 0 {
		want.Until = got.Until
	}
	if *got != want || got.Issued == 0 || (got.Until == 0) != (given.Until == 0) {
		return line, fmt.Errorf("got %+v, want %+v", got, want)
	}
	b.names = append(b.names, given.ID)
	b.told[given.ID] = append(b.told[given.ID], false)
	if given.Kind.Lasts() {
		b.inForce = append(b.inForce, got)
	}
	return line, nil
}

// compareBook waits until every instance was told what it is owed, and compares
// what each says is in force.
func (s *session) compareBook(b *book) error {
	for _, n := range s.nodes {
		for _, id := range b.names {
			got, ok := n.tap.verdicts.wait(id, len(b.told[id]), s.caps.Timeout)
			if !ok || !slices.Equal(got, b.told[id]) {
				return fmt.Errorf("instance %d: told of %s %v, want %v", n.index, id, got, b.told[id])
			}
		}
		for _, member := range []string{"", "m0", "m1", "m2", "m3"} {
			for _, ip := range []string{"", "192.0.2.1", "192.0.2.2"} {
				for _, room := range []string{"", "a", "b", "c"} {
					if got, want := n.knows(member, ip, room), b.against(member, ip, room); !slices.Equal(got, want) {
						return fmt.Errorf("instance %d: against %q, %q in %q: %v, want %v", n.index, member, ip, room, got, want)
					}
				}
			}
		}
		var listed []string
		for cursor, pages := "", 0; pages <= len(b.inForce); pages++ {
			page, err := n.Sanctions(s.ctx, cursor, 3)
			if err != nil || page.Count != len(b.inForce) {
				return fmt.Errorf("instance %d: listed %+v, %w, want %d", n.index, page, err, len(b.inForce))
			}
			for _, x := range page.Sanctions {
				listed = append(listed, x.ID)
			}
			if cursor = page.Cursor; cursor == "" {
				break
			}
		}
		var want []string
		for _, x := range b.inForce {
			want = append(want, x.ID)
		}
		slices.Sort(listed)
		slices.Sort(want)
		if !slices.Equal(listed, want) {
			return fmt.Errorf("instance %d: listed %v, want %v", n.index, listed, want)
		}
	}
	return nil
}
