package bus_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/wsrelay/relay/internal/bus"
)

// TestSanctionTableMatchesAList: random changes, compared with a plain list.
func TestSanctionTableMatchesAList(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	var table bus.SanctionTable
	var list []*bus.Sanction
	find := func(id string) int {
		return slices.IndexFunc(list, func(s *bus.Sanction) bool { return s.ID == id })
	}
	now := int64(1000)
	for i := range 20_000 {
		id := fmt.Sprint(rng.IntN(60))
		switch rng.IntN(5) {
		case 0, 1:
			s := &bus.Sanction{
				ID: id, Kind: bus.Mute, Member: []string{"", "a", "b"}[rng.IntN(3)], IP: []string{"", "x", "y"}[rng.IntN(3)],
				Room: []string{"", "r", "q"}[rng.IntN(3)], Issued: now,
			}
			if rng.IntN(2) == 0 {
				s.Until = now + int64(rng.IntN(200))
			}
			if added := table.Add(s); added != (find(id) < 0) {
				t.Fatalf("seed %d, step %d: added %v", seed, i, added)
			} else if added {
				list = append(list, s)
			}
		case 2:
			got := table.Remove(id)
			if at := find(id); at < 0 != (got == nil) || at >= 0 && got != list[at] {
				t.Fatalf("seed %d, step %d: removed %+v", seed, i, got)
			} else if at >= 0 {
				list = slices.Delete(list, at, at+1)
			}
		case 3:
			now += int64(rng.IntN(20))
			if rng.IntN(4) == 0 {
				table.Purge(now)
				list = slices.DeleteFunc(list, func(s *bus.Sanction) bool { return s.Ended(now) })
			}
		case 4:
			member, ip, room := []string{"", "a", "b", "c"}[rng.IntN(4)], []string{"", "x", "y", "z"}[rng.IntN(4)], []string{"", "r", "q", "p"}[rng.IntN(4)]
			var want []*bus.Sanction
			for _, s := range list {
				if (member != "" && s.Member == member || ip != "" && s.IP == ip) && (s.Room == "" || s.Room == room) && !s.Ended(now) {
					want = append(want, s)
				}
			}
			got := slices.Clone(table.InForce(member, ip, room, now))
			byID := func(a, b *bus.Sanction) int { return strings.Compare(a.ID, b.ID) }
			slices.SortFunc(got, byID)
			slices.SortFunc(want, byID)
			if !slices.Equal(got, want) {
				t.Fatalf("seed %d, step %d: against %q, %q in %q: %v, want %v", seed, i, member, ip, room, got, want)
			}
			page := table.Page("", 1000, now)
			if page.Count != len(slices.DeleteFunc(slices.Clone(list), func(s *bus.Sanction) bool { return s.Ended(now) })) || len(page.Sanctions) != page.Count {
				t.Fatalf("seed %d, step %d: listed %d, count %d", seed, i, len(page.Sanctions), page.Count)
			}
		}
		if table.Len() != len(list) || table.Empty() != (len(list) == 0) {
			t.Fatalf("seed %d, step %d: holds %d, want %d", seed, i, table.Len(), len(list))
		}
	}
}

// TestSanctionTableIsReadWhileItChanges: a sanction that is not touched is seen
// by every reader at any time.
func TestSanctionTableIsReadWhileItChanges(t *testing.T) {
	var table bus.SanctionTable
	table.Add(&bus.Sanction{ID: "always", Member: "m", IP: "x"})
	var readers sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if !slices.ContainsFunc(table.InForce("m", "x", "r", 1), func(s *bus.Sanction) bool { return s.ID == "always" }) {
					t.Error("a sanction was not seen")
					return
				}
			}
		})
	}
	for i := range 5000 {
		id := fmt.Sprint(i)
		table.Add(&bus.Sanction{ID: id, Member: "m", IP: "x", Until: int64(i%2) * 2})
		if i%3 == 0 {
			table.Purge(3)
		}
		table.Remove(id)
	}
	close(stop)
	readers.Wait()
}

func TestSanctionPagesTakeAnyCursor(t *testing.T) {
	var table bus.SanctionTable
	for i := range 5 {
		table.Add(&bus.Sanction{ID: fmt.Sprint("with-dash-", i), Member: "m", Issued: 7})
	}
	for _, cursor := range []string{"", "x", "-", "-x", "99999999999999999999-x"} {
		if page := table.Page(cursor, 0, 1); page.Count != 5 || len(page.Sanctions) != 1 || page.Cursor == "" {
			t.Errorf("%q: %+v", cursor, page)
		}
	}
	page := table.Page("7-with-dash-3", 10, 1)
	if len(page.Sanctions) != 1 || page.Sanctions[0].ID != "with-dash-4" || page.Cursor != "" {
		t.Errorf("the last page is %+v", page)
	}
}

func TestSanctionErrorsSayWhatIsWrong(t *testing.T) {
	for want, s := range map[string]bus.Sanction{
		"kind 0":                          {Member: "m"},
		"neither a member nor an address": {Kind: bus.Ban},
		"a kick has no end":               {Kind: bus.Kick, Member: "m", Until: 1},
		"not UTF-8":                       {Kind: bus.Ban, Member: "\xff"},
		"bytes of text, 4096 are allowed": {Kind: bus.Ban, Member: "m", Reason: strings.Repeat("x", 4096)},
		"printable ASCII without spaces":  {Kind: bus.Ban, Member: "m", ID: "é"},
	} {
		if err := s.Check(); !errors.Is(err, bus.ErrBadSanction) || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", s, err, want)
		}
	}
	if err := (&bus.Sanction{Kind: bus.Mute, IP: "::1", Until: 1}).Check(); err != nil {
		t.Error(err)
	}
}

// BenchmarkInForce is what every message and join pays.
func BenchmarkInForce(b *testing.B) {
	for _, c := range []struct {
		name    string
		n       int
		asked   string
		inForce int
	}{{"none", 0, "m0", 0}, {"others", 100_000, "nobody", 0}, {"one", 100_000, "m5", 1}} {
		b.Run(c.name, func(b *testing.B) {
			var table bus.SanctionTable
			for i := range c.n {
				table.Add(&bus.Sanction{ID: fmt.Sprint(i), Kind: bus.Ban, Member: fmt.Sprint("m", i), Until: int64(i) + 10})
			}
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if got := len(table.InForce(c.asked, "", "room", 1)); got != c.inForce {
						b.Errorf("%d in force", got)
					}
				}
			})
		})
	}
}

func BenchmarkSanctionTableChange(b *testing.B) {
	var table bus.SanctionTable
	for i := range 100_000 {
		table.Add(&bus.Sanction{ID: fmt.Sprint(i), Kind: bus.Ban, Member: fmt.Sprint("m", i), Until: int64(i) + 10})
	}
	s := &bus.Sanction{ID: "x", Kind: bus.Ban, Member: "m", Until: 5}
	b.ReportAllocs()
	for b.Loop() {
		table.Add(s)
		table.Remove("x")
	}
}
