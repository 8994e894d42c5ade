package filter

import (
	"encoding/json"
	"errors"
	"reflect"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	pb "github.com/wsrelay/relay/plugins/filter/filterpb"
)

func fullMessage() *Message {
	return &Message{
		ID: "4bf92f3577b34da6a3ce929d0e0e4736", Event: Chat, Endpoint: "/ws", Room: "r",
		User: User{ID: "ann", Name: "Ann", Roles: []string{"a", "b"}, Guest: true, Claims: map[string]json.RawMessage{"team": []byte(`["x"]`)}, IP: "::1"},
		Body: []byte(`{"text":"hi"}`), Texts: []Text{{"/text", "hi"}}, ContentType: "application/json", Budget: 50 * time.Millisecond,
		Traceparent: "00-x", Labels: map[string]string{"lang": "de"},
		Recent: []Recent{{"1", "bob", []byte(`1`), time.UnixMilli(1700000000123)}}, DryRun: true,
	}
}

func fullVerdict() Verdict {
	v := Modify(JSON([]byte(`2`))).Flag("spam", 0.5).Flag("x", 1).Warn("w").Mute(time.Minute, "m").Kick("k").Ban(0, "b").Everywhere().Label("a", "b").Stop()
	v.Texts, v.Code, v.Reason, v.Elapsed = []string{"t", ""}, "c", "r", time.Millisecond
	return v
}

// Every field set, so that one that an adapter forgets is noticed when it is
// added.
func TestAdaptersCarryEveryField(t *testing.T) {
	full := func(name string, v any) {
		rv := reflect.ValueOf(v)
		for i := range rv.NumField() {
			if f := rv.Type().Field(i); f.IsExported() && rv.Field(i).IsZero() {
				t.Errorf("%s.%s is not set in this test", name, f.Name)
			}
		}
	}
	m, v := fullMessage(), fullVerdict()
	full("Message", *m)
	full("User", m.User)
	full("Recent", m.Recent[0])
	full("Verdict", v)
	if got := MessageFromProto(wireMessage(t, m.Proto(7))); !reflect.DeepEqual(got, m) {
		t.Errorf("message\n%+v\n%+v", got, m)
	}
	p := v.Proto(9, nil)
	if p.GetCall() != 9 {
		t.Errorf("call %d", p.GetCall())
	}
	if got, err := VerdictFromProto(wireVerdict(t, p)); err != nil || !reflect.DeepEqual(got, v) {
		t.Errorf("verdict %v\n%+v\n%+v", err, got, v)
	}
}

func TestAnErrorIsNoVerdict(t *testing.T) {
	for _, cause := range []error{errors.New("model is not loaded"), errors.New("")} {
		v := Reject("spam", "no")
		got, err := VerdictFromProto(wireVerdict(t, v.Proto(1, cause)))
		if err == nil || !reflect.DeepEqual(got, Verdict{}) {
			t.Errorf("%+v, %v", got, err)
		}
	}
}

func TestALaterVerdictSaysWhetherToTakeBack(t *testing.T) {
	for _, c := range []struct {
		in   Verdict
		want Verdict
	}{
		{Reject("nsfw", "no").Ban(time.Hour, "x"), Reject("nsfw", "no").Ban(time.Hour, "x")},
		{Drop("spam"), Reject("spam", "")},
		{Allow().Flag("odd", 0.5), Allow().Flag("odd", 0.5)},
	} {
		id, got := LateFromProto(c.in.LateProto("abc"))
		if id != "abc" || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%+v became %s %+v", c.in, id, got)
		}
	}
	if err := fullMessage().Later(Reject("x", "")); !errors.Is(err, ErrNotLater) {
		t.Errorf("a message without a host took a later verdict: %v", err)
	}
}

// Whatever strings come in, what goes out is accepted by protobuf and stays the
// same on its way back.
func FuzzAdapters(f *testing.F) {
	f.Add("id", "text", []byte(`"b"`), int64(5), uint8(1), float32(0.5))
	f.Add("\xff", "\xc3\x28", []byte("\xff"), int64(-5), uint8(200), float32(2))
	f.Fuzz(func(t *testing.T, a, b string, body []byte, n int64, k uint8, score float32) {
		m := &Message{
			ID: mustUTF8(a), Event: Event(k), Room: b, User: User{ID: b, Name: a, Roles: []string{a}, Claims: map[string]json.RawMessage{a: []byte(b)}},
			Body: body, Texts: []Text{{a, b}}, Budget: time.Duration(n), Labels: map[string]string{a: b}, Traceparent: a,
			Recent: []Recent{{a, b, body, time.UnixMilli(n)}},
		}
		once := MessageFromProto(wireMessage(t, m.Proto(1)))
		if twice := MessageFromProto(wireMessage(t, once.Proto(1))); !reflect.DeepEqual(once, twice) {
			t.Fatalf("message\n%+v\n%+v", once, twice)
		}
		if utf8.ValidString(a) && utf8.ValidString(b) && (once.User.Name != a || once.Texts[0].Text != b || once.Recent[0].UserID != b) {
			t.Fatalf("%+v lost %q or %q", once, a, b)
		}
		v := Verdict{
			Action: Action(k), Body: body, Texts: []string{a, b}, Code: a, Reason: b, Flags: []Flag{{a, score}},
			Sanctions: []Sanction{{SanctionKind(k), n%2 == 0, time.Duration(n), b}}, Labels: map[string]string{a: b}, Elapsed: time.Duration(n),
		}
		first, err := VerdictFromProto(wireVerdict(t, v.Proto(1, nil)))
		if err != nil {
			t.Fatal(err)
		}
		second, err := VerdictFromProto(wireVerdict(t, first.Proto(1, nil)))
		if err != nil || score == score && !reflect.DeepEqual(first, second) {
			t.Fatalf("verdict %v\n%+v\n%+v", err, first, second)
		}
		if first.Action != v.Action || len(first.Texts) != 2 {
			t.Fatalf("%+v became %+v", v, first)
		}
	})
}

func mustUTF8(s string) string { return valid(s) }

func wireMessage(t *testing.T, p *pb.Message) *pb.Message {
	t.Helper()
	b, err := proto.Marshal(p)
	if err != nil {
		t.Fatalf("protobuf refuses the message: %v", err)
	}
	out := new(pb.Message)
	if err := proto.Unmarshal(b, out); err != nil {
		t.Fatal(err)
	}
	return out
}

func wireVerdict(t *testing.T, p *pb.Verdict) *pb.Verdict {
	t.Helper()
	b, err := proto.Marshal(p)
	if err != nil {
		t.Fatalf("protobuf refuses the verdict: %v", err)
	}
	out := new(pb.Verdict)
	if err := proto.Unmarshal(b, out); err != nil {
		t.Fatal(err)
	}
	return out
}
