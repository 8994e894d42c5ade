package verify

import (
	"fmt"
	"strings"
	"testing"
)

func stored(texts ...string) (list []Stored) {
	for i, t := range texts {
		list = append(list, Stored{uint64(i + 1), t})
	}
	return list
}

// saw makes a record: "<2" entered at seq 2, "?" told, ">2" forked at 2, else
// delivered, "a.1@3" at seq 3.
func saw(client string, acked map[string]uint64, entries ...string) *Record {
	r := &Record{Room: "r", Client: client, Acked: acked, Sent: map[string]bool{}}
	for _, e := range entries {
		switch {
		case e[0] == '<':
			var seq uint64
			_, _ = fmt.Sscan(e[1:], &seq)
			r.Entries = append(r.Entries, Entry{Kind: Entered, Seq: seq})
		case e[0] == '>':
			var seq uint64
			_, _ = fmt.Sscan(e[1:], &seq)
			r.Entries = append(r.Entries, Entry{Kind: Forked, Seq: seq})
		case e == "?":
			r.Entries = append(r.Entries, Entry{Kind: Told})
		default:
			d := Entry{Kind: Delivered}
			var at string
			d.Text, at, _ = strings.Cut(e, "@")
			_, _ = fmt.Sscan(at, &d.Seq)
			r.Entries = append(r.Entries, d)
		}
	}
	for _, t := range []string{"a.1", "a.2", "a.3", "b.1", "b.2"} {
		r.Sent[t] = true
	}
	return r
}

// Each plant is one thing that a server could do wrong.
func TestPlants(t *testing.T) {
	truth := []string{"a.1", "b.1", "a.2", "b.2", "a.3"}
	for name, c := range map[string]struct {
		stored []string
		record *Record
		want   string // Lost Repeated Swapped Phantom Noticed
	}{
		"clean":                       {truth, saw("x", nil, "<0", "a.1", "b.1", "a.2", "b.2", "a.3"), "0 0 0 0 0"},
		"joined later":                {truth, saw("x", nil, "<2", "a.2", "b.2", "a.3"), "0 0 0 0 0"},
		"never joined":                {truth, saw("x", nil), "0 0 0 0 0"},
		"a loss":                      {truth, saw("x", nil, "<0", "a.1", "b.1", "b.2", "a.3"), "1 0 0 0 0"},
		"a loss at the start":         {truth, saw("x", nil, "<0", "b.1", "a.2", "b.2", "a.3"), "1 0 0 0 0"},
		"a loss at the end":           {truth, saw("x", nil, "<0", "a.1", "b.1", "a.2", "b.2"), "1 0 0 0 0"},
		"all lost":                    {truth, saw("x", nil, "<0"), "5 0 0 0 0"},
		"a loss that was told":        {truth, saw("x", nil, "<0", "a.1", "?", "b.2", "a.3"), "0 0 0 0 2"},
		"a loss told in another hole": {truth, saw("x", nil, "<0", "a.1", "?", "a.2", "a.3"), "1 0 0 0 1"},
		"a loss at the end, told":     {truth, saw("x", nil, "<0", "a.1", "b.1", "a.2", "b.2", "?"), "0 0 0 0 1"},
		"a repeat":                    {truth, saw("x", nil, "<0", "a.1", "b.1", "b.1", "a.2", "b.2", "a.3"), "0 1 0 0 0"},
		"a swap":                      {truth, saw("x", nil, "<0", "b.1", "a.1", "a.2", "b.2", "a.3"), "1 0 1 0 0"},
		"a phantom":                   {truth[:4], saw("x", nil, "<0", "a.1", "b.1", "a.2", "b.2", "a.3"), "0 0 0 1 0"},
		"a phantom that was told":     {truth[:4], saw("x", nil, "<0", "a.1", "b.1", "a.2", "b.2", "a.3", "?"), "0 0 0 0 1"},
		"begun anew, told":            {truth[:2], saw("x", nil, "<9", "a.3", "?", "a.1", "b.1"), "0 0 0 0 1"},
		"begun anew, not told":        {truth[:2], saw("x", nil, "<9", "a.1", "b.1"), "0 0 2 0 0"},
		"void, and stored again":      {[]string{"a.1", "b.1", "a.2"}, saw("x", nil, "<0", "a.1@1", "a.2@2", ">1", "b.1@2", "a.2@3"), "0 0 0 0 1"},
		"stored again, not void":      {[]string{"a.1", "b.1", "a.2"}, saw("x", nil, "<0", "a.1@1", "a.2@2", "b.1@2", "a.2@3"), "1 1 1 0 0"},
		"void, and gone":              {[]string{"a.1"}, saw("x", nil, "<0", "a.1@1", "a.2@2", ">1"), "0 0 0 0 1"},
		"before the fork, repeated":   {[]string{"a.1", "b.1"}, saw("x", nil, "<0", "a.1@1", ">1", "a.1@1", "b.1@2"), "0 1 0 0 0"},
		"an ack of nothing":           {truth[:4], saw("x", map[string]uint64{"a.3": 5}, "<0", "a.1", "b.1", "a.2", "b.2"), "0 0 0 1 0"},
		"an ack at another seq":       {truth, saw("x", map[string]uint64{"a.3": 4}, "<5"), "0 0 0 1 0"},
		"a sender swapped":            {[]string{"a.2", "a.1"}, saw("x", nil, "<2"), "0 0 1 0 0"},
		"stored twice":                {[]string{"a.1", "a.1"}, saw("x", nil, "<2"), "0 1 0 0 0"},
		"stored unsent":               {[]string{"z.1"}, saw("x", nil, "<1"), "0 0 0 1 0"},
	} {
		r := Check(stored(c.stored...), []*Record{c.record})
		if got := fmt.Sprint(r.Lost, r.Repeated, r.Swapped, r.Phantom, r.Noticed); got != c.want {
			t.Errorf("%s: lost, repeated, swapped, phantom, noticed are %s, want %s\n%s", name, got, c.want, strings.Join(r.Violations, "\n"))
		}
		if violated := !strings.HasPrefix(c.want, "0 0 0 0"); violated == r.OK() || violated != (len(r.Violations) > 0) {
			t.Errorf("%s: OK is %v with %v", name, r.OK(), r.Violations)
		}
	}
}

func TestReportsAddUp(t *testing.T) {
	sum := &Report{}
	for range 2 {
		sum.Add(Check(stored("a.1"), []*Record{saw("x", map[string]uint64{"a.1": 1}, "<0"), saw("y", nil, "<0", "a.1", "a.1")}))
	}
	if sum.Acked != 2 || sum.Delivered != 4 || sum.Lost != 2 || sum.Repeated != 2 || sum.OK() {
		t.Errorf("%+v", sum)
	}
}
