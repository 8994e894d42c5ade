package redisbus

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/wsrelay/relay/internal/bus"
)

// FuzzSanction: what is stored of a sanction is what is read back.
func FuzzSanction(f *testing.F) {
	f.Add(byte(2), "id", "member", "192.0.2.1", "room", "reason", "cli", int64(5), int64(6))
	f.Add(byte(4), "~", "", "::1", "", "two\nlines \u2028", "\"", int64(1), int64(0))
	f.Fuzz(func(t *testing.T, kind byte, id, member, ip, room, reason, by string, issued, until int64) {
		s := &bus.Sanction{ID: id, Kind: bus.SanctionKind(kind), Member: member, IP: ip, Room: room, Reason: reason, By: by}
		if s.ID == "" || s.Check() != nil {
			t.Skip("a sanction that the bus would refuse is never stored")
		}
		s.Issued, s.Until = issued, until
		text, err := encodeSanction(s)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeSanction(id, fmt.Sprintf("%d %d %s", issued, until, text))
		if err != nil || *got != *s {
			t.Fatalf("got %+v, %v, want %+v", got, err, s)
		}
		p, err := decodePush(fmt.Sprintf("-a.1.x a.2.y %s %d %d %s", id, issued, until, text))
		if err != nil || *p.sanction != *s || p.sign != '-' || p.before != "a.1.x" || p.after != "a.2.y" {
			t.Fatalf("got %+v, %v", p, err)
		}
	})
}

// FuzzPush: whatever comes over the channel is a push or foreign.
func FuzzPush(f *testing.F) {
	for _, s := range []string{
		"", "+", "!", "!id 1 2 {}", "+- a.1.b id 1 2 {}", "-a.1.b a.2.c id 1 0 {\"k\":4,\"m\":\"x\"}", "+ - - - - -", "!id 1 2 {", "!id x 2 {}", "! 1 2 {}",
		"!id 1 2 {\"k\":300}", "!id 99999999999999999999 2 {}", "?id 1 2 {}",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := decodePush(s)
		if (err == nil) != (p.sanction != nil) || err != nil && !errors.Is(err, errForeign) {
			t.Fatalf("%+v, %v", p, err)
		}
		if err == nil && (p.sanction.ID == "" || !strings.Contains("+-!", string(p.sign))) {
			t.Fatalf("%+v", p)
		}
		p.before.covers(p.after)
	})
}

// TestSanctionsOfTheFirstVersion holds what is stored in Redis. It must stay
// readable: change this test only by adding to it.
func TestSanctionsOfTheFirstVersion(t *testing.T) {
	text, err := encodeSanction(&bus.Sanction{Kind: bus.Ban, Member: "m", IP: "::1", Room: "r", Reason: "why", By: "cli"})
	if want := `{"k":4,"m":"m","ip":"::1","r":"r","why":"why","by":"cli"}`; err != nil || string(text) != want {
		t.Errorf("encoded %s, %v, want %s", text, err, want)
	}
	got, err := decodeSanction("id", `1 2 {"k":4,"m":"m","ip":"::1","r":"r","why":"why","by":"cli","of a later version":[]}`)
	want := bus.Sanction{ID: "id", Kind: bus.Ban, Member: "m", IP: "::1", Room: "r", Reason: "why", By: "cli", Issued: 1, Until: 2}
	if err != nil || *got != want {
		t.Errorf("decoded %+v, %v, want %+v", got, err, want)
	}
}

// judged writes down what it is told.
type judged struct{ told }

func (j *judged) Sanctioned(s *bus.Sanction) { j.WriteString("+" + s.ID + " ") }
func (j *judged) Lifted(s *bus.Sanction)     { j.WriteString("-" + s.ID + " ") }

func testSanctions() (*sanctions, *judged) {
	h := &judged{}
	b := &Bus{handler: h, log: slog.New(slog.DiscardHandler)}
	s := &b.sanctions
	s.init(&Bus{handler: h, log: b.log, keys: newKeys("x")}, nil)
	return s, h
}

func asked(s *sanctions) bool {
	select {
	case <-s.wake:
		return true
	default:
		return false
	}
}

// TestPushesFollowEachOther: what follows is applied, what is old is not, and
// whatever else makes it read anew.
func TestPushesFollowEachOther(t *testing.T) {
	const ban = ` 1 0 {"k":4,"m":"m"}`
	for name, c := range map[string]struct {
		pushes []string
		told   string
		asks   bool
	}{
		"in order":             {[]string{"+- l.1.a A" + ban, "+l.1.a l.2.b B" + ban, "-l.2.b l.3.c A" + ban}, "+A +B -A ", false},
		"one is lost":          {[]string{"+- l.1.a A" + ban, "-l.2.b l.3.c A" + ban}, "+A ", true},
		"one comes again":      {[]string{"+- l.1.a A" + ban, "+l.1.a l.2.b B" + ban, "+- l.1.a A" + ban}, "+A +B ", false},
		"a new line":           {[]string{"+- l.1.a A" + ban, "+- n.1.b B" + ban}, "+A ", true},
		"the number once more": {[]string{"+- l.1.a A" + ban, "+l.1.x l.2.b B" + ban}, "+A ", true},
		"a kick between":       {[]string{"+- l.1.a A" + ban, `!K 1 0 {"k":3,"m":"m"}`, "-l.1.a l.2.b A" + ban}, "+A +K -A ", false},
		"lifted unseen":        {[]string{"-- l.1.a A" + ban, "+l.1.a l.2.b B" + ban}, "+B ", false},
		"not for us":           {[]string{"hello", "+- l.1.a A" + ban}, "+A ", false},
	} {
		t.Run(name, func(t *testing.T) {
			s, h := testSanctions()
			for _, p := range c.pushes {
				s.hear(p)
			}
			if h.String() != c.told || asked(s) != c.asks {
				t.Errorf("told %q, want %q and asking %v", h.String(), c.told, c.asks)
			}
			// The same while they are being read, in which state the last is.
			s, h = testSanctions()
			s.reading = true
			for _, p := range c.pushes {
				s.hear(p)
			}
			s.release()
			if h.String() != c.told || asked(s) != c.asks || s.reading {
				t.Errorf("told %q when read, want %q and asking %v", h.String(), c.told, c.asks)
			}
		})
	}
}

// TestReadingMeetsPushes: whether or not a change was read already, it is told
// once, and what is read last holds.
func TestReadingMeetsPushes(t *testing.T) {
	const ban = `1 0 {"k":4,"m":"m"}`
	for name, c := range map[string]struct {
		read   map[string]string
		pushes []string
		told   string
		left   int
	}{
		"read with it in":           {map[string]string{"A": ban, "B": ban}, []string{"+l.1.a l.2.b B " + ban}, "+A +B ", 2},
		"read before it":            {map[string]string{"A": ban}, []string{"+l.1.a l.2.b B " + ban}, "+A +B ", 2},
		"read before it was gone":   {map[string]string{"A": ban}, []string{"-l.1.a l.2.b A " + ban}, "+A -A ", 0},
		"read after it was gone":    {map[string]string{}, []string{"-l.1.a l.2.b A " + ban}, "", 0},
		"older ones":                {map[string]string{"A": ban}, []string{"+- l.0.x B " + ban}, "+A ", 1},
		"ended":                     {map[string]string{"A": `1 5 {"k":4,"m":"m"}`}, nil, "", 0},
		"unreadable":                {map[string]string{"A": "?", "B": ban}, nil, "+B ", 1},
		"a kind of a later version": {map[string]string{"A": `1 0 {"k":9,"m":"m"}`}, nil, "+A ", 1},
	} {
		t.Run(name, func(t *testing.T) {
			s, h := testSanctions()
			s.reading = true
			for _, p := range c.pushes {
				s.hear(p)
			}
			s.replace(position{"l.1.a", len(c.read), 10}, c.read, false)
			s.release()
			if h.String() != c.told || s.table.Len() != c.left || asked(s) {
				t.Errorf("told %q, want %q; %d are left, want %d", h.String(), c.told, s.table.Len(), c.left)
			}
		})
	}
}

// TestTooManyPushesAreReadAnew: what is held while reading is bounded.
func TestTooManyPushesAreReadAnew(t *testing.T) {
	s, _ := testSanctions()
	s.reading = true
	for i := range pushesMax + 5 {
		s.hear(fmt.Sprintf(`+l.%d.x l.%d.x S%d 1 0 {"k":4,"m":"m"}`, i, i+1, i))
	}
	if len(s.held) != pushesMax {
		t.Errorf("%d are held", len(s.held))
	}
	s.version = "l.0.x"
	s.release()
	if !asked(s) || s.table.Len() != pushesMax {
		t.Errorf("%d are in force", s.table.Len())
	}
}

// TestTheStoresClockDecides: an end is compared with Redis's clock, whatever
// ours says.
func TestTheStoresClockDecides(t *testing.T) {
	s, _ := testSanctions()
	ahead := time.Now().Add(24 * time.Hour).UnixMilli()
	s.clock.Store(&reading{time.Now(), ahead})
	s.table.Add(&bus.Sanction{ID: "over", Kind: bus.Ban, Member: "m", Until: ahead - 1})
	s.table.Add(&bus.Sanction{ID: "lasts", Kind: bus.Ban, Member: "m", Until: ahead + 60_000})
	if list := s.table.InForce("m", "", "", s.now()); len(list) != 1 || list[0].ID != "lasts" {
		t.Errorf("in force: %+v", list)
	}
}
