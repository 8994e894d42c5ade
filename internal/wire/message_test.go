package wire

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

var (
	hexA = strings.Repeat("0a", 16)
	hexB = strings.Repeat("fb", 16)
	idA  = [16]byte{10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10}
	idB  = [16]byte{251, 251, 251, 251, 251, 251, 251, 251, 251, 251, 251, 251, 251, 251, 251, 251}
)

// sample is a server message, and the JSON it must be.
type sample struct {
	frame *Frame
	class Class
	want  string
}

// samples has every server message twice: with everything set, and with no more
// than must be.
func samples() []sample {
	var (
		id   = []byte(`"q-1"`)
		user = []byte(`{"id":"u","name":"Ann"}`)
		two  = [][]byte{[]byte(`{"id":"u"}`), []byte(`{"id":"v","guest":true}`)}
		full = &Chat{
			RoomID: "r\"1", Seq: 7, MessageID: idA, Time: 1700000000123, User: user, Message: []byte(`{"a":[1, 2.50]}`),
			Key: "k\n", Traceparent: "00-x",
		}
		plain      = &Chat{RoomID: "r", MessageID: idB, Time: 1, User: user, Message: []byte("null")}
		gone       = &Redacted{RoomID: "r", Seq: 8, MessageID: idA, Target: idB, Reason: "spam"}
		fullWant   = `{"type":"chat","roomId":"r\"1","seq":7,"messageId":"` + hexA + `","time":1700000000123,"user":{"id":"u","name":"Ann"},"message":{"a":[1,2.50]},"key":"k\n","traceparent":"00-x"}`
		plainWant  = `{"type":"chat","roomId":"r","messageId":"` + hexB + `","time":1,"user":{"id":"u","name":"Ann"},"message":null}`
		goneWant   = `{"type":"redacted","roomId":"r","seq":8,"messageId":"` + hexA + `","target":"` + hexB + `","reason":"spam"}`
		twoWant    = `[{"id":"u"},{"id":"v","guest":true}]`
		clientOops = &Error{Code: BadRequest, Message: "no"}
	)
	return []sample{
		{
			(&Welcome{ConnectionID: "c", Instance: "i", User: user, Heartbeat: 25 * time.Second, Limits: Limits{65536, 2.5, 100}}).Frame(), ClassReply,
			`{"type":"welcome","connectionId":"c","instance":"i","user":{"id":"u","name":"Ann"},"heartbeatMs":25000,"limits":{"frameSize":65536,"requestsPerSecond":2.5,"rooms":100}}`,
		},
		{(&Welcome{ConnectionID: "c", Instance: "i"}).Frame(), ClassReply, `{"type":"welcome","connectionId":"c","instance":"i","heartbeatMs":0,"limits":{}}`},
		{(&Welcome{Limits: Limits{Rooms: 1}}).Frame(), ClassReply, `{"type":"welcome","connectionId":"","instance":"","heartbeatMs":0,"limits":{"rooms":1}}`},
		{
			(&Created{ID: id, RoomID: "r", User: user, Epoch: "e", Seq: 0, Members: two, Count: 3}).Frame(), ClassReply,
			`{"type":"created","id":"q-1","roomId":"r","user":{"id":"u","name":"Ann"},"epoch":"e","seq":0,"members":` + twoWant + `,"memberCount":3}`,
		},
		{(&Created{RoomID: "r", User: user, Count: 1}).Frame(), ClassReply, `{"type":"created","roomId":"r","user":{"id":"u","name":"Ann"},"members":[],"memberCount":1}`},
		{
			(&Joined{ID: id, RoomID: "r", User: user, Epoch: "e", Seq: 8, Members: two, Count: 2, Recovered: true, Messages: []Event{full, gone}}).Frame(), ClassReply,
			`{"type":"joined","id":"q-1","roomId":"r","user":{"id":"u","name":"Ann"},"epoch":"e","seq":8,"members":` + twoWant + `,"memberCount":2,"recovered":true,"messages":[` + fullWant + `,` + goneWant + `]}`,
		},
		{(&Joined{RoomID: "r", User: user, Count: 1}).Frame(), ClassReply, `{"type":"joined","roomId":"r","user":{"id":"u","name":"Ann"},"members":[],"memberCount":1,"recovered":false,"messages":[]}`},
		{(&Exited{ID: []byte("7"), RoomID: "r", Reason: "policy"}).Frame(), ClassReply, `{"type":"exited","id":7,"roomId":"r","reason":"policy"}`},
		{(&Exited{RoomID: "r"}).Frame(), ClassReply, `{"type":"exited","roomId":"r"}`},
		{(&Members{ID: id, RoomID: "r", Members: two, Count: 2, Cursor: "c\u2028"}).Frame(), ClassReply, `{"type":"members","id":"q-1","roomId":"r","members":` + twoWant + `,"memberCount":2,"cursor":"c\u2028"}`},
		{(&Members{RoomID: "r"}).Frame(), ClassReply, `{"type":"members","roomId":"r","members":[],"memberCount":0}`},
		{(&History{ID: id, RoomID: "r", Epoch: "e", Messages: []Event{plain, full}}).Frame(), ClassReply, `{"type":"history","id":"q-1","roomId":"r","epoch":"e","messages":[` + plainWant + `,` + fullWant + `]}`},
		{(&History{RoomID: "r", Epoch: "e"}).Frame(), ClassReply, `{"type":"history","roomId":"r","epoch":"e","messages":[]}`},
		{
			(&Ack{ID: id, RoomID: "r", Seq: 1, MessageID: idA, Time: 5, Message: []byte(`"**"`), Duplicate: true}).Frame(), ClassReply,
			`{"type":"ack","id":"q-1","roomId":"r","seq":1,"messageId":"` + hexA + `","time":5,"message":"**","duplicate":true}`,
		},
		{(&Ack{RoomID: "r", MessageID: idA}).Frame(), ClassReply, `{"type":"ack","roomId":"r","messageId":"` + hexA + `"}`},
		{full.Frame(), ClassSequenced, fullWant},
		{plain.Frame(), ClassChat, plainWant},
		{gone.Frame(), ClassSequenced, goneWant},
		{(&Redacted{RoomID: "r", Seq: 8, MessageID: idA, Target: idB}).Frame(), ClassSequenced, `{"type":"redacted","roomId":"r","seq":8,"messageId":"` + hexA + `","target":"` + hexB + `"}`},
		{(&Signal{RoomID: "r", UserID: "u", User: user, Data: []byte("{}")}).Frame(), ClassSignal, `{"type":"signal","roomId":"r","user":{"id":"u","name":"Ann"},"data":{}}`},
		{(&MemberJoined{RoomID: "r", User: user, Count: 2}).Frame(), ClassMember, `{"type":"member_joined","roomId":"r","user":{"id":"u","name":"Ann"},"memberCount":2}`},
		{(&MemberLeft{RoomID: "r", User: user, Count: 0, Reason: "kicked"}).Frame(), ClassMember, `{"type":"member_left","roomId":"r","user":{"id":"u","name":"Ann"},"memberCount":0,"reason":"kicked"}`},
		{(&MemberLeft{RoomID: "r", User: user, Count: 1}).Frame(), ClassMember, `{"type":"member_left","roomId":"r","user":{"id":"u","name":"Ann"},"memberCount":1}`},
		{(&Sanction{RoomID: "r", Kind: "mute", Until: 9, Reason: "loud"}).Frame(), ClassReply, `{"type":"sanction","roomId":"r","kind":"mute","until":9,"reason":"loud"}`},
		{(&Sanction{Kind: "ban"}).Frame(), ClassReply, `{"type":"sanction","kind":"ban"}`},
		{(&RoomClosed{RoomID: "r", Reason: "over"}).Frame(), ClassReply, `{"type":"room_closed","roomId":"r","reason":"over"}`},
		{(&RoomClosed{RoomID: "r"}).Frame(), ClassReply, `{"type":"room_closed","roomId":"r"}`},
		{(&Notice{RoomID: "r", Kind: NoticeEpoch, Epoch: "f", From: 4, To: 9}).Frame(), ClassSequenced, `{"type":"notice","roomId":"r","kind":"epoch","epoch":"f","from":4,"to":9}`},
		{(&Notice{RoomID: "r", Kind: NoticeGap}).Frame(), ClassSequenced, `{"type":"notice","roomId":"r","kind":"gap"}`},
		{Expiring{In: 59_999_900 * time.Microsecond}.Frame(), ClassReply, `{"type":"expiring","inMs":59999}`},
		{Closing{ReconnectAfter: 1500 * time.Microsecond}.Frame(), ClassReply, `{"type":"closing","reconnectAfterMs":2}`},
		{
			(&Error{
				Code: Rejected, Message: "m", RoomID: "r", Retry: true, RetryAfter: 1, Outcome: OutcomeUnknown,
				Reason: "rude", ReasonCode: "words", Hint: "relay.yaml:3", Close: CloseForbidden,
			}).Frame(id), ClassReply,
			`{"type":"error","id":"q-1","code":"rejected","message":"m","roomId":"r","retry":true,"retryAfterMs":1,"outcome":"unknown","reason":"rude","reasonCode":"words","hint":"relay.yaml:3"}`,
		},
		{clientOops.Frame(nil), ClassReply, `{"type":"error","code":"bad_request","message":"no","retry":false}`},
		{(&Authenticated{ID: id, User: user, ExpiresAt: 6}).Frame(), ClassReply, `{"type":"authenticated","id":"q-1","user":{"id":"u","name":"Ann"},"expiresAt":6}`},
		{(&Authenticated{User: user}).Frame(), ClassReply, `{"type":"authenticated","user":{"id":"u","name":"Ann"}}`},
		{Pong{ID: id}.Frame(), ClassReply, `{"type":"pong","id":"q-1"}`},
		{Pong{}.Frame(), ClassReply, `{"type":"pong"}`},
		{(&Reply{ID: id, Data: []byte(`[true]`)}).Frame(), ClassReply, `{"type":"reply","id":"q-1","data":[true]}`},
		{(&Reply{}).Frame(), ClassReply, `{"type":"reply"}`},
	}
}

func TestServerMessages(t *testing.T) {
	for _, s := range samples() {
		got, want := decode(t, s.frame.Payload()), decode(t, []byte(s.want))
		if !reflect.DeepEqual(got, want) {
			t.Errorf("encoded as\n%s\nwant\n%s", s.frame.Payload(), s.want)
		}
		if s.frame.Class() != s.class {
			t.Errorf("%s is of class %s, want %s", s.frame.Payload(), s.frame.Class(), s.class)
		}
	}
}

// decode reads JSON without losing digits, and refuses duplicate keys.
func decode(t *testing.T, b []byte) (v any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	if d.More() {
		t.Fatalf("%s: more than one value", b)
	}
	names := map[string]bool{}
	for w := (walker{b: b}); w.next(); w.skip() {
		name := string(b[w.name.from:w.name.to])
		if names[name] {
			t.Fatalf("%s: %s occurs twice", b, name)
		}
		names[name] = true
	}
	return v
}

// TestSignalsOfOneSenderShareAKey: the newest of them is enough.
func TestSignalsOfOneSenderShareAKey(t *testing.T) {
	key := func(room, user, data string) ShedKey {
		return (&Signal{RoomID: room, UserID: user, User: []byte("{}"), Data: []byte(data)}).Frame().ShedKey()
	}
	if key("r", "u", "1") != key("r", "u", "2") {
		t.Error("two signals of one sender in one room have different keys")
	}
	if key("r", "u", "1") == key("s", "u", "1") || key("r", "u", "1") == key("r", "v", "1") {
		t.Error("signals of different rooms or senders share a key")
	}
}

func TestUserJSON(t *testing.T) {
	for _, tc := range []struct {
		id, name, data string
		guest          bool
		want           string
	}{
		{"u", "", "", false, `{"id":"u"}`},
		{"guest:u", "Ann \"A\" \x01", `{"x":[1]}`, true, `{"id":"guest:u","name":"Ann \"A\" \u0001","data":{"x":[1]},"guest":true}`},
	} {
		if got := string(UserJSON(tc.id, tc.name, []byte(tc.data), tc.guest)); got != tc.want {
			t.Errorf("got %s, want %s", got, tc.want)
		}
	}
}

// TestQuotingKeepsEveryCharacter: whatever goes in comes out of encoding/json's
// reader again, and what is not UTF-8 as encoding/json writes it.
func TestQuotingKeepsEveryCharacter(t *testing.T) {
	for r := rune(0); r <= 0x10FFFF; r++ {
		if r > 0x300 && r < 0x10FF00 && r%97 != 0 && (r < 0xD700 || r > 0xE100) && (r < 0x2020 || r > 0x2030) {
			continue
		}
		quotable(t, "a"+string(r)+"b")
	}
	for b := range 256 {
		quotable(t, string([]byte{byte(b)}))
		quotable(t, "é"+string([]byte{byte(b), 'x'}))
		quotable(t, string([]byte{0xf0, 0x9f, byte(b)}))
	}
	quotable(t, "")
}

// FuzzQuote is the same for any string.
func FuzzQuote(f *testing.F) {
	f.Add("a\"\\\x00\u2028é\xff\xed\xa0\x80")
	f.Fuzz(func(t *testing.T, s string) { quotable(t, s) })
}

func quotable(t *testing.T, s string) {
	t.Helper()
	var got, want string
	b := appendQuoted([]byte("x"), s)[1:]
	if err := json.Unmarshal(b, &got); err != nil || !utf8.Valid(b) {
		t.Fatalf("%q becomes %q: %v", s, b, err)
	}
	reference, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(reference, &want); err != nil || got != want {
		t.Fatalf("%q is read back as %q, want %q (%v)", s, got, want, err)
	}
}
