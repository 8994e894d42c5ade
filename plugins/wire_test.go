package plugins

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/wsrelay/relay/plugins/filter"
	pb "github.com/wsrelay/relay/plugins/filter/filterpb"
)

// marshalled is a batch of one message as wire writes it, read by the generated
// code.
func marshalled(t *testing.T, m *filter.Message, n uint64, budget time.Duration) *pb.HostFrame {
	t.Helper()
	now := time.Now()
	p := parcel{n: n, msg: m, until: now.Add(budget)}
	data, err := wire{}.Marshal(&batchFrame{batch: []parcel{p, p}, now: now})
	if err != nil {
		t.Fatal(err)
	}
	defer data.Free()
	f := &pb.HostFrame{}
	if err := proto.Unmarshal(data.Materialize(), f); err != nil {
		t.Fatalf("the generated code cannot read it: %v", err)
	}
	return f
}

func sameMessage(t *testing.T, m *filter.Message, n uint64, budget time.Duration) {
	t.Helper()
	got := marshalled(t, m, n, budget).GetBatch().GetMessages()
	m.Budget = max(0, budget)
	want := m.Proto(n)
	if len(got) != 2 || !proto.Equal(got[0], want) || !proto.Equal(got[1], want) {
		t.Errorf("wire:\n%v\ngenerated:\n%v", got, want)
	}
}

// What wire writes is what the adapters of package filter make of a message, and
// so every field that they know.
func FuzzABatchIsWrittenAsTheAdaptersWould(f *testing.F) {
	f.Add("id", "text", []byte(`"b"`), int64(5), uint8(1), true, 3)
	f.Add("\xff", "\xc3\x28", []byte{}, int64(-5), uint8(200), false, 0)
	f.Add("", "", make([]byte, 300), int64(1)<<60, uint8(0), true, 20)
	f.Fuzz(func(t *testing.T, a, b string, body []byte, n int64, k uint8, yes bool, many int) {
		m := &filter.Message{
			ID: "4bf92f3577b34da6a3ce929d0e0e4736", Event: filter.Event(k), Endpoint: a, Room: b, Body: body, ContentType: "application/json", Traceparent: b, DryRun: yes,
			User: filter.User{ID: b, Name: a, Roles: []string{a, ""}, Guest: yes, IP: b, Claims: map[string]json.RawMessage{"x": []byte(b)}},
		}
		for i := range max(0, min(many, 50)) {
			m.Texts = append(m.Texts, filter.Text{Pointer: a, Text: b})
			m.Recent = append(m.Recent, filter.Recent{ID: a, UserID: b, Body: body, Time: time.UnixMilli(n)})
			if i == 0 {
				m.Labels = map[string]string{a: b}
			}
		}
		sameMessage(t, m, uint64(n), time.Duration(n))
	})
}

// And what it reads is what they would.
func FuzzVerdictsAreReadAsTheAdaptersWould(f *testing.F) {
	v := filter.Reject("c", "r").Flag("x", 1).Mute(time.Minute, "m").Label("a", "b").Stop()
	v.Elapsed = time.Second
	simple := filter.Drop("c")
	for _, frame := range []*pb.FilterFrame{
		{Frame: &pb.FilterFrame_Verdicts{Verdicts: &pb.VerdictBatch{Verdicts: []*pb.Verdict{v.Proto(7, nil), simple.Proto(8, nil), simple.Proto(9, errWire)}}}},
		{Frame: &pb.FilterFrame_Verdicts{Verdicts: &pb.VerdictBatch{}}},
		{Frame: &pb.FilterFrame_Pong{Pong: &pb.Pong{N: 3}}},
		{Frame: &pb.FilterFrame_Late{Late: v.LateProto("abc")}},
		{},
	} {
		b, err := proto.Marshal(frame)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(append(b, b...))
	}
	f.Add([]byte{0x0a, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		want := &pb.FilterFrame{}
		if err := proto.Unmarshal(b, want); err != nil {
			return // ours may be more patient with what is no UTF-8, or nothing
		}
		var got replyFrame
		if err := (wire{}).Unmarshal(mem.BufferSlice{mem.SliceBuffer(b)}, &got); err != nil {
			t.Fatalf("%v, which the generated code reads as %v", err, want)
		}
		if want.GetVerdicts() == nil {
			if len(got.verdicts) > 0 || got.other == nil || !proto.Equal(got.other, want) {
				t.Fatalf("%+v for %v", got, want)
			}
			return
		}
		if len(got.verdicts) != len(want.GetVerdicts().GetVerdicts()) {
			t.Fatalf("%d verdicts for %v", len(got.verdicts), want)
		}
		for i, p := range want.GetVerdicts().GetVerdicts() {
			w := verdictOf(p)
			g := got.verdicts[i]
			if (g.err == nil) != (w.err == nil) || g.err != nil && g.err.Error() != w.err.Error() {
				t.Fatalf("error %v, want %v", g.err, w.err)
			}
			if g.call != w.call || !reflect.DeepEqual(normal(g.Verdict), normal(w.Verdict)) {
				t.Fatalf("%#v\nwant\n%#v", g, w)
			}
		}
	})
}

// normal takes away what DeepEqual would stumble over: scores that are no number,
// and empty things that are nil or not.
func normal(v filter.Verdict) filter.Verdict {
	for i := range v.Flags {
		if v.Flags[i].Score != v.Flags[i].Score {
			v.Flags[i].Score = -1
		}
	}
	if len(v.Body) == 0 {
		v.Body = nil
	}
	if len(v.Labels) == 0 {
		v.Labels = nil
	}
	return v
}
