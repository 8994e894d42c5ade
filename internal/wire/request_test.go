package wire

import (
	"encoding/json"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"testing"
)

func TestParseReadsEachRequest(t *testing.T) {
	id := [16]byte{0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0xff}
	const hexID = "0123456789abcdefff00000000000000"
	for _, tc := range []struct {
		in   string
		want flatRequest
	}{
		{
			`{"type":"create","id":"a","user":{"id":"u","name":"Ann","data":{"x":1}},"roomId":"r","key":"k"}`,
			flatRequest{Type: TypeCreate, ID: `"a"`, Room: "r", Key: "k", HasUser: true, UserID: "u", UserName: "Ann", UserData: `{"x":1}`},
		},
		{`{"type":"create"}`, flatRequest{Type: TypeCreate}},
		{
			`{"type":"join","roomId":"r","resume":{"epoch":"e","seq":9}}`,
			flatRequest{Type: TypeJoin, Room: "r", HasResume: true, Epoch: "e", ResumeSeq: 9},
		},
		{
			`{"type":"chat","id":-1,"roomId":"r","message":{"n": 1.50e+400} ,"key":"k","traceparent":"00-x","debug":"d"}`,
			flatRequest{Type: TypeChat, ID: "-1", Room: "r", Message: `{"n": 1.50e+400}`, Key: "k", Trace: "00-x", Debug: "d"},
		},
		{`{"type":"exit","roomId":"r","user":{}}`, flatRequest{Type: TypeExit, Room: "r", HasUser: true}},
		{`{"type":"members","roomId":"r","cursor":"c"}`, flatRequest{Type: TypeMembers, Room: "r", Cursor: "c"}},
		{`{"type":"history","roomId":"r","before":5,"limit":10}`, flatRequest{Type: TypeHistory, Room: "r", Before: 5, HasBefore: true, Limit: 10}},
		{`{"type":"history","roomId":"r","after":0}`, flatRequest{Type: TypeHistory, Room: "r", HasAfter: true}},
		{`{"type":"signal","roomId":"r","data":null}`, flatRequest{Type: TypeSignal, Room: "r", Data: "null"}},
		{
			`{"type":"redact","roomId":"r","messageId":"` + hexID + `","seq":7,"reason":"spam"}`,
			flatRequest{Type: TypeRedact, Room: "r", MessageID: id, Seq: 7, Reason: "spam"},
		},
		{`{"type":"auth","token":"t"}`, flatRequest{Type: TypeAuth, Token: "t"}},
		{`{"type":"ping","id":1}`, flatRequest{Type: TypePing, ID: "1"}},
		{`{"type":"order.new","id":1,"roomId":7,"token":true}`, flatRequest{Type: TypeUnknown, ID: "1"}},
	} {
		var r Request
		if err := Parse([]byte(tc.in), &r); err != nil {
			t.Errorf("Parse(%s): %v", tc.in, err)
			continue
		}
		var typ struct{ Type string }
		if err := json.Unmarshal([]byte(tc.in), &typ); err != nil {
			t.Fatal(err)
		}
		tc.want.TypeName = typ.Type
		if got := flat(&r); !reflect.DeepEqual(got, tc.want) {
			t.Errorf("Parse(%s)\n got %+v\nwant %+v", tc.in, got, tc.want)
		}
		if string(r.Raw) != tc.in {
			t.Errorf("Raw = %s", r.Raw)
		}
	}
}

// TestBadInput has a case for everything that may be wrong with a request, and
// what its sender is told.
func TestBadInput(t *testing.T) {
	chat := func(members string) string { return `{"type":"chat","id":7,"roomId":"r","message":1` + members + `}` }
	long := func(n int) string { return `"` + strings.Repeat("x", n) + `"` }
	for _, tc := range []struct {
		name, in string
		id       string // that the answer can name
		want     string
	}{
		{"empty", "", "", "not JSON: ends too early"},
		{"white space", " \n", "", "not JSON: ends too early"},
		{"not JSON", "hello", "", "must be a JSON object"},
		{"array", `[{"type":"ping"}]`, "", "must be a JSON object"},
		{"string", `"ping"`, "", "must be a JSON object"},
		{"null", `null`, "", "must be a JSON object"},
		{"byte order mark", "\ufeff{}", "", "must be a JSON object"},
		{"cut off", `{"id":1,"type":"chat","roomId":"r`, "1", "not JSON: ends too early"},
		{"cut off in the id", `{"id":"abc`, "", "not JSON: ends too early"},
		{"cut off before a value", `{"id":`, "", "not JSON: ends too early"},
		{"two values", `{"type":"ping","id":1}{"type":"ping"}`, "1", "not JSON: unexpected character at byte 22"},
		{"trailing comma", `{"type":"ping",}`, "", "not JSON: unexpected character at byte 15"},
		{"single quotes", `{'type':'ping'}`, "", "not JSON: unexpected character at byte 1"},
		{"newline in a string", "{\"type\":\"pi\nng\"}", "", "not JSON: unexpected character at byte 11"},
		{"newline in the middle of a long string", "{\"type\":\"ping\",\"x\":\"0123456789\n0123456789\"}", "", "not JSON: unexpected character at byte 30"},
		{"array closed as an object", `{"type":"ping","x":[1}`, "", "not JSON: unexpected character at byte 21"},
		{"object closed as an array", `{"type":"ping","x":{"a":1]`, "", "not JSON: unexpected character at byte 25"},
		{"comment", `{"type":"ping"/**/}`, "", "not JSON: unexpected character at byte 14"},
		{"100,000 arrays", chat(`,"message":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000)), "7", "nested deeper than 128 levels"},
		{"100,000 arrays, open", strings.Repeat("[", 100_000), "", "must be a JSON object"},
		{"100,000 objects, open", strings.Repeat(`{"a":`, 100_000), "", "nested deeper than 128 levels"},
		{"deep in a field that is not read", `{"type":"ping","id":7,"x":` + strings.Repeat(`{"a":[`, 64), "7", "nested deeper than 128 levels"},
		{"huge number for an integer", `{"type":"history","id":7,"roomId":"r","limit":1e400}`, "7", expected[fieldLimit]},
		{"huge integer", `{"type":"history","id":7,"roomId":"r","before":` + strings.Repeat("9", 10_000) + `}`, "7", expected[fieldBefore]},
		{"integer above 2^53-1", `{"type":"history","id":7,"roomId":"r","after":9007199254740992}`, "7", expected[fieldAfter]},
		{"negative integer", `{"type":"history","id":7,"roomId":"r","after":-1}`, "7", expected[fieldAfter]},
		{"duplicate key, the last bad", chat(`,"roomId":5`), "7", expected[fieldRoomID]},
		{"duplicate key, the last null", chat(`,"roomId":null`), "7", expected[fieldRoomID]},
		{"duplicate id, the last bad", chat(`,"id":[]`), "", expected[fieldID]},
		{"invalid UTF-8", chat(`,"x":"` + "\xff" + `"`), "", "not valid UTF-8"},
		{"surrogate in UTF-8", chat(`,"x":"` + "\xed\xa0\x80" + `"`), "", "not valid UTF-8"},
		{"overlong UTF-8", chat(`,"x":"` + "\xc0\xaf" + `"`), "", "not valid UTF-8"},
		{"lone high surrogate", chat(`,"x":"\ud83d"`), "7", "half a surrogate pair in a string, at byte 52"},
		{"lone low surrogate", chat(`,"x":"\ude00"`), "7", "half a surrogate pair in a string, at byte 52"},
		{"high surrogate before a letter", chat(`,"x":"\ud83dx"`), "7", "half a surrogate pair in a string, at byte 52"},
		{"surrogates the wrong way round", chat(`,"x":"\ude00\ud83d"`), "7", "half a surrogate pair in a string, at byte 52"},
		{"lone surrogate in a name", chat(`,"\ud83d":1`), "7", "half a surrogate pair in a string, at byte 48"},
		{"no type", `{"id":7}`, "7", expected[fieldType]},
		{"type null", `{"id":7,"type":null}`, "7", expected[fieldType]},
		{"type a number", `{"id":7,"type":1}`, "7", expected[fieldType]},
		{"type in capitals", `{"id":7,"Type":"ping"}`, "7", expected[fieldType]},
		{"type too long", `{"id":7,"type":` + long(MaxTypeName+1) + `}`, "7", expected[fieldType]},
		{"id a fraction", `{"type":"ping","id":1.5}`, "", expected[fieldID]},
		{"id with exponent", `{"type":"ping","id":1e3}`, "", expected[fieldID]},
		{"id true", `{"type":"ping","id":true}`, "", expected[fieldID]},
		{"id an object", `{"type":"ping","id":{}}`, "", expected[fieldID]},
		{"id too long", `{"type":"ping","id":` + long(MaxID-1) + `}`, "", expected[fieldID]},
		{"no roomId", `{"type":"join","id":7}`, "7", expected[fieldRoomID]},
		{"roomId a number", `{"type":"join","id":7,"roomId":42}`, "7", expected[fieldRoomID]},
		{"roomId empty", `{"type":"join","id":7,"roomId":""}`, "7", expected[fieldRoomID]},
		{"roomId too long", `{"type":"join","id":7,"roomId":` + long(MaxRoomID+1) + `}`, "7", expected[fieldRoomID]},
		{"roomId with NUL", `{"type":"join","id":7,"roomId":"a\u0000b"}`, "7", expected[fieldRoomID]},
		{"roomId with DEL", `{"type":"join","id":7,"roomId":"a` + "\x7f" + `"}`, "7", expected[fieldRoomID]},
		{"roomId with C1 control", `{"type":"join","id":7,"roomId":"a` + "\u0085" + `"}`, "7", expected[fieldRoomID]},
		{"no message", `{"type":"chat","id":7,"roomId":"r"}`, "7", expected[fieldMessage]},
		{"no data", `{"type":"signal","id":7,"roomId":"r"}`, "7", expected[fieldData]},
		{"no token", `{"type":"auth","id":7}`, "7", expected[fieldToken]},
		{"token a number", `{"type":"auth","id":7,"token":1}`, "7", expected[fieldToken]},
		{"token too long", `{"type":"auth","id":7,"token":` + long(MaxToken+1) + `}`, "7", expected[fieldToken]},
		{"user a string", chat(`,"user":"u"`), "7", expected[fieldUser]},
		{"user.id a number", chat(`,"user":{"id":5}`), "7", expected[fieldUserID]},
		{"user.id empty", chat(`,"user":{"id":""}`), "7", expected[fieldUserID]},
		{"user.id too long", chat(`,"user":{"id":` + long(MaxUserID+1) + `}`), "7", expected[fieldUserID]},
		{"user.id with a control character", chat(`,"user":{"id":"a\n"}`), "7", expected[fieldUserID]},
		{"user.name a number", chat(`,"user":{"name":5}`), "7", expected[fieldUserName]},
		{"user.name too long", chat(`,"user":{"name":` + long(MaxUserName+1) + `}`), "7", expected[fieldUserName]},
		{"user.data too large", chat(`,"user":{"data":` + long(MaxUserData-1) + `}`), "7", expected[fieldUserData]},
		{"key empty", chat(`,"key":""`), "7", expected[fieldKey]},
		{"key too long", chat(`,"key":` + long(MaxKey+1)), "7", expected[fieldKey]},
		{"traceparent a number", chat(`,"traceparent":0`), "7", expected[fieldTraceparent]},
		{"traceparent too long", chat(`,"traceparent":` + long(MaxTraceparent+1)), "7", expected[fieldTraceparent]},
		{"debug a number", chat(`,"debug":1`), "7", expected[fieldDebug]},
		{"debug too long", chat(`,"debug":` + long(MaxDebug+1)), "7", expected[fieldDebug]},
		{"resume a string", `{"type":"join","id":7,"roomId":"r","resume":"e"}`, "7", expected[fieldResume]},
		{"resume without seq", `{"type":"join","id":7,"roomId":"r","resume":{"epoch":"e"}}`, "7", expected[fieldResumeSeq]},
		{"resume without epoch", `{"type":"join","id":7,"roomId":"r","resume":{"seq":1}}`, "7", expected[fieldResumeEpoch]},
		{"epoch too long", `{"type":"join","id":7,"roomId":"r","resume":{"seq":1,"epoch":` + long(MaxEpoch+1) + `}}`, "7", expected[fieldResumeEpoch]},
		{"cursor a number", `{"type":"members","id":7,"roomId":"r","cursor":1}`, "7", expected[fieldCursor]},
		{"cursor too long", `{"type":"members","id":7,"roomId":"r","cursor":` + long(MaxCursor+1) + `}`, "7", expected[fieldCursor]},
		{"before the first", `{"type":"history","id":7,"roomId":"r","before":0}`, "7", expected[fieldBefore]},
		{"limit 0", `{"type":"history","id":7,"roomId":"r","limit":0}`, "7", expected[fieldLimit]},
		{"limit too large", `{"type":"history","id":7,"roomId":"r","limit":1001}`, "7", expected[fieldLimit]},
		{"before and after", `{"type":"history","id":7,"roomId":"r","before":1,"after":1}`, "7", "before, after: give one of them, not both"},
		{"messageId in capitals", `{"type":"redact","id":7,"roomId":"r","seq":1,"messageId":"` + strings.Repeat("A", 32) + `"}`, "7", expected[fieldMessageID]},
		{"messageId too short", `{"type":"redact","id":7,"roomId":"r","seq":1,"messageId":` + long(31) + `}`, "7", expected[fieldMessageID]},
		{"seq a string", `{"type":"redact","id":7,"roomId":"r","seq":"1","messageId":"` + strings.Repeat("a", 32) + `"}`, "7", expected[fieldSeq]},
		{"reason too long", `{"type":"redact","id":7,"roomId":"r","seq":1,"messageId":"` + strings.Repeat("a", 32) + `","reason":` + long(MaxReason+1) + `}`, "7", expected[fieldReason]},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := Request{ID: []byte("left over"), Token: []byte("left over")}
			err := Parse([]byte(tc.in), &r)
			if err == nil {
				t.Fatalf("accepted as %v", r)
			}
			if err.Code != BadRequest || err.Message != tc.want || string(r.ID) != tc.id || err.Retry {
				t.Errorf("got %s %q for id %q, want %q for id %q", err.Code, err.Message, r.ID, tc.want, tc.id)
			}
			if wantClose := err.Message == "not valid UTF-8"; (err.Close == CloseInvalidData) != wantClose || !wantClose && err.Close != 0 {
				t.Errorf("Close = %d", err.Close)
			}
			if len(r.Token) > 0 {
				t.Errorf("Token = %q", r.Token)
			}
		})
	}
}

// TestUnusedFieldsAreLeftAlone: what a request does not read may be anything
// that is JSON.
func TestUnusedFieldsAreLeftAlone(t *testing.T) {
	for _, in := range []string{
		`{"type":"ping","roomId":5,"user":"x","message":1,"resume":3,"limit":-1,"token":{}}`,
		`{"type":"chat","roomId":"r","message":1,"limit":"many","resume":{"seq":"x"},"token":7}`,
		`{"type":"members","roomId":"r","user":{"id":5}}`,
	} {
		var r Request
		if err := Parse([]byte(in), &r); err != nil {
			t.Errorf("Parse(%s): %v", in, err)
		}
		if r.Token != nil || r.User.Present || r.Resume.Present || r.Limit != 0 {
			t.Errorf("Parse(%s) filled what it should not: %+v", in, flat(&r))
		}
	}
}

// TestErrorNamesItsRoom: an error of a request that got as far as its room says
// which it was.
func TestErrorNamesItsRoom(t *testing.T) {
	var r Request
	err := Parse([]byte(`{"type":"chat","id":"x","roomId":"r\u00e9"}`), &r)
	if err == nil || err.RoomID != "ré" {
		t.Errorf("got %+v, want an error about room ré", err)
	}
}

// TestExpectationsMatchBounds holds the texts to the constants.
func TestExpectationsMatchBounds(t *testing.T) {
	for f, bound := range map[field]int{
		fieldID: MaxID, fieldType: MaxTypeName, fieldRoomID: MaxRoomID, fieldKey: MaxKey, fieldTraceparent: MaxTraceparent, fieldDebug: MaxDebug,
		fieldCursor: MaxCursor, fieldLimit: MaxLimit, fieldReason: MaxReason, fieldToken: MaxToken, fieldMessageID: 2 * len(Request{}.MessageID),
		fieldUserID: MaxUserID, fieldUserName: MaxUserName, fieldUserData: MaxUserData, fieldResumeEpoch: MaxEpoch,
	} {
		if want := fmt.Sprintf(" %d", bound); !strings.Contains(expected[f], want) {
			t.Errorf("%q does not mention %d", expected[f], bound)
		}
	}
	for f := fieldID; f < fieldOther; f++ {
		if expected[f] == "" {
			t.Errorf("field %d has no text", f)
		}
	}
}

// TestRequestsKeepTheirSecrets: no verb prints a token or a message.
func TestRequestsKeepTheirSecrets(t *testing.T) {
	var r Request
	if err := Parse([]byte(`{"type":"auth","token":"hunter2","roomId":"r","message":"hunter2"}`), &r); err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, v := range []any{r, &r, []Request{r}, struct{ R Request }{r}} {
			out := fmt.Sprintf(verb, v)
			if strings.Contains(out, "hunter2") || strings.Contains(out, "68756e746572") || strings.Contains(out, "104 117 110") {
				t.Errorf("%s of %T prints the token: %s", verb, v, out)
			}
		}
	}
}

func TestParseAllocates(t *testing.T) {
	var r Request
	for _, tc := range []struct {
		name, in string
		most     float64
	}{
		{"chat", string(chatRequest), 0},
		{"escapes", `{"type":"chat","roomId":"\u00e9","message":"\n","us\u0065r":{"id":"\u00e9"}}`, 0}, // once the buffer is there
		{"join", `{"type":"join","roomId":"r","resume":{"epoch":"e","seq":1}}`, 0},
		{"refusal", `{"type":"chat","roomId":"r"}`, 2}, // the Error and its RoomID
	} {
		in := []byte(tc.in)
		if n := testing.AllocsPerRun(100, func() { Parse(in, &r) }); n > tc.most {
			t.Errorf("%s: %v allocations, want at most %v", tc.name, n, tc.most)
		}
	}
}

// TestParseKeepsNoLargeBuffer: one request with a long escaped token does not
// make the Request large for good.
func TestParseKeepsNoLargeBuffer(t *testing.T) {
	var r Request
	if err := Parse([]byte(`{"type":"auth","token":"`+strings.Repeat(`\u0078`, MaxToken)+`"}`), &r); err != nil || len(r.Token) != MaxToken {
		t.Fatal(err, len(r.Token))
	}
	Parse([]byte(`{"type":"ping"}`), &r)
	if cap(r.scratch) > keepScratch {
		t.Errorf("%d bytes kept", cap(r.scratch))
	}
}

// TestParseReusesItsBuffer: what one request needs is not added to the next.
func TestParseReusesItsBuffer(t *testing.T) {
	in := []byte(`{"type":"exit","roomId":"` + strings.Repeat(`\u0078`, MaxRoomID) + `"}`)
	var r Request
	for range 2 * keepScratch / MaxRoomID {
		if err := Parse(in, &r); err != nil {
			t.Fatal(err)
		}
		if len(r.scratch) != MaxRoomID {
			t.Fatalf("%d bytes in use, want %d", len(r.scratch), MaxRoomID)
		}
	}
}

// TestDepthCostsNoStack: nesting is counted, not recursed into, however deep.
func TestDepthCostsNoStack(t *testing.T) {
	in := []byte(`{"type":"chat","roomId":"r","message":` + strings.Repeat(`[{"a":`, 1<<20))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var r Request
	if Parse(in, &r) == nil {
		t.Fatal("accepted")
	}
	runtime.ReadMemStats(&after)
	if grown := int64(after.StackInuse) - int64(before.StackInuse); grown > 1<<20 {
		t.Errorf("the stack grew by %d bytes", grown)
	}
}

func TestTypeNames(t *testing.T) {
	for typ := range shapes {
		typ := Type(typ)
		if got := typeNamed([]byte(typ.String())); got != typ {
			t.Errorf("%s is found as %s", typ, got)
		}
	}
	if s := Type(200).String(); s != "unknown" {
		t.Errorf("Type(200) = %s", s)
	}
}
