package wire

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// FuzzParse holds Parse to what encoding/json makes of the same bytes, read into
// a map and then, field by field, into the types of the protocol: both accept or
// both refuse, and the values are the same. What Parse refuses beyond that is
// written out in read.
func FuzzParse(f *testing.F) {
	for _, s := range seeds() {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) { agree(t, b) })
}

// agree fails where Parse and encoding/json do not, and reports whether they
// accept.
func agree(t *testing.T, b []byte) bool {
	t.Helper()
	kept := bytes.Clone(b)
	want, ok := read(b)
	var r Request
	err := Parse(b, &r)
	if !bytes.Equal(b, kept) {
		t.Fatalf("Parse wrote to its input")
	}
	if (err == nil) != ok {
		t.Fatalf("Parse(%q): %v; encoding/json accepts: %t", b, err, ok)
	}
	if r.ID != nil && !json.Valid(r.ID) {
		t.Fatalf("Parse(%q) leaves an id that is not JSON: %q", b, r.ID)
	}
	if err != nil {
		if err.Code != BadRequest || err.Message == "" {
			t.Fatalf("Parse(%q): %#v", b, err)
		}
		if !json.Valid(err.AppendJSON(nil, r.ID)) {
			t.Fatalf("Parse(%q): the error is not JSON: %s", b, err.AppendJSON(nil, r.ID))
		}
		return false
	}
	if got := flat(&r); !reflect.DeepEqual(got, want) {
		t.Fatalf("Parse(%q)\n got %+v\nwant %+v", b, got, want)
	}
	// A used Request gives the same as a fresh one.
	if again := Parse(b, &r); again != nil || !reflect.DeepEqual(flat(&r), want) {
		t.Fatalf("Parse(%q) for the second time: %v, %+v", b, again, flat(&r))
	}
	return true
}

// TestParseAgreesOnComposedRequests puts requests together from names and values
// that a fuzzer needs long to find.
func TestParseAgreesOnComposedRequests(t *testing.T) {
	names := []string{
		"id", "roomId", "user", "message", "key", "traceparent", "debug", "resume", "cursor", "before", "after",
		"limit", "data", "messageId", "seq", "reason", "token", "type", "Type", "room\\u0049d", "x", "",
	}
	inner := []string{"id", "name", "data", "epoch", "seq", "ID", "\\u0069d"}
	strs := []string{
		`""`, `"a"`, `"\u0000"`, `"\u009f"`, `"\u00a0"`, `"\ud83d\ude00"`, `"\ud83d"`, `"\udc00\ud800"`, `"\uD83Dx"`, `"a\/\"\\\b\f\n\r\t"`,
		`"0123456789abcdef0123456789abcdef"`, `"0123456789ABCDEF0123456789abcdef"`, "\"é\u0080\"", "\"é\"", "\"\x7f\"",
	}
	for _, n := range []int{MaxKey, MaxRoomID, MaxUserName, MaxReason, MaxCursor} {
		for _, d := range []int{-2, -1, 0, 1} { // an id counts its quotes
			strs = append(strs, `"`+strings.Repeat("x", n+d)+`"`, `"`+strings.Repeat("\\u0078", n+d)+`"`)
		}
	}
	others := []string{
		"null", "true", "0", "-0", "1", "1000", "1001", "9007199254740991", "9007199254740992", "18446744073709551616", "1.0", "1e2", "-1",
		"01", "+1", ".5", "1.", "1e", strings.Repeat("9", MaxID), strings.Repeat("9", MaxID+1), "[]", "{}", `[1,{"a":"b"}]`, "[1,]", `{"a"}`, "nul", "'a'", "",
		`"` + strings.Repeat("d", MaxUserData-2) + `"`, `"` + strings.Repeat("d", MaxUserData-1) + `"`,
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	pick := func(list []string) string { return list[rnd.IntN(len(list))] }
	value := func() string {
		if rnd.IntN(2) == 0 {
			return pick(strs)
		}
		return pick(others)
	}
	object := func(names []string, least int, value func() string) string {
		var b strings.Builder
		for i := range least + rnd.IntN(4) {
			if i > 0 {
				b.WriteString(pick([]string{",", " ,\n"}))
			}
			b.WriteString(`"` + pick(names) + `"` + pick([]string{":", " : "}) + value())
		}
		return b.String()
	}
	accepted := map[Type]int{}
	for range 12_000 {
		// Every request starts complete, and then gets members that may spoil it.
		typ := Type(rnd.IntN(len(shapes)))
		base := `"type":"` + typ.String() + `","roomId":"r","message":[1],"data":{},"token":"t","seq":3,"messageId":"` + strings.Repeat("a", 32) + `"`
		more := object(names, 0, func() string {
			if rnd.IntN(4) == 0 {
				return "{" + object(inner, 0, value) + "}"
			}
			return value()
		})
		if more != "" {
			more = "," + more
		}
		if agree(t, []byte("{"+base+more+"}")) {
			accepted[typ]++
		}
	}
	for typ := range shapes {
		if accepted[Type(typ)] < 100 {
			t.Errorf("only %d accepted requests of type %s: the composer is of little use", accepted[Type(typ)], Type(typ))
		}
	}
}

func seeds() []string {
	list := []string{
		string(chatRequest),
		`{}`, `[]`, `null`, `{"type":"ping"}`, ` {"type" : "ping" } `, `{"type":"ping"}x`, `{"type":"ping",}`, `{,}`,
		`{"type":"create","user":{"id":"u"},"key":"k"}`,
		`{"type":"join","roomId":"r","resume":{"epoch":"e","seq":9007199254740991,"seq":3},"resume":null}`,
		`{"type":"join","roomId":"r","resume":{"epoch":"e","seq":1},"resume":{"epoch":"f"}}`,
		`{"type":"chat","roomId":"r","message":null}`, `{"type":"chat","roomId":"r","message":1e999}`,
		`{"type":"chat","roomId":"\u00e9\ud83d\ude00\/","message":"\ud83d"}`,
		`{"\u0074ype":"chat","room\u0049d":"r","message":[[],{},[{"a":[1,-0.5E+7,true,false,null]}]],"message":{"":""}}`,
		`{"type":"exit","roomId":"a\u0000"}`, "{\"type\":\"exit\",\"roomId\":\"\u0085\"}", `{"type":"exit","roomId":""}`,
		`{"type":"members","roomId":"r","cursor":""}`, `{"type":"history","roomId":"r","before":0,"limit":1000}`,
		`{"type":"history","roomId":"r","before":1,"after":1}`, `{"type":"history","roomId":"r","limit":1.0}`,
		`{"type":"history","roomId":"r","limit":-0}`, `{"type":"history","roomId":"r","after":9007199254740992}`,
		`{"type":"signal","roomId":"r","data":{"typing":true}}`, `{"type":"auth","token":"t"}`,
		`{"type":"redact","roomId":"r","messageId":"0123456789abcdef0123456789abcdef","seq":1,"reason":"x"}`,
		`{"type":"order.new","id":-12345678901234567890,"data":1}`, `{"id":"\"","type":"x"}`, `{"id":1.5,"type":"x"}`,
		`{"id":`, `{"id":"ab`, `{"id":"a","type":"chat","user":{"id":`, `{"type":"exit","roomId":"r","user":[]}`,
		`{"type":"exit","roomId":"r","user":{"id":"u","name":null,"data":[1],"x":{}}}`, "{\"type\":\"\xff\"}",
		`{"type":"join","roomId":"r","user":{"id":"a","id":null},"user":{}}`,
		`{"type":"join","roomId":"r","user":{"id":"a","name":"b","data":1},"user":{}}`,
		`{"type":"ping","x":[}`, `{"type":"ping","x":{"a":1]}`, `{"type":"ping","x":[1}]`, `{"type":"ping","x":[{"a":[]]}]}`,
		`{"type":"ping","x":[1 , 2,{ "a" : [ ] , "b":{ } } ]}`, "{\"type\":\"ping\",\"x\":\"0123456789\n0123456789\"}",
	}
	for _, n := range []int{MaxDepth - 2, MaxDepth - 1, MaxDepth} {
		list = append(list, `{"type":"chat","roomId":"r","message":`+strings.Repeat("[", n)+strings.Repeat("]", n)+`}`)
		list = append(list, `{"type":"ping","user":{"data":`+strings.Repeat("[", n-1)+strings.Repeat("]", n-1)+`}}`)
	}
	return list
}

// flatRequest is a Request by value.
type flatRequest struct {
	Type                                          Type
	TypeName, ID, Room, Message, Data, Key, Trace string
	HasUser, HasResume, HasBefore, HasAfter       bool
	UserID, UserName, UserData, Epoch, Cursor     string
	Before, After, Seq, ResumeSeq                 uint64
	Limit                                         int
	MessageID                                     [16]byte
	Reason, Token, Debug                          string
}

func flat(r *Request) flatRequest {
	return flatRequest{
		Type: r.Type, TypeName: string(r.TypeName), ID: string(r.ID), Room: string(r.RoomID),
		Message: string(r.Message), Data: string(r.Data), Key: string(r.Key), Trace: string(r.Traceparent),
		HasUser: r.User.Present, HasResume: r.Resume.Present, HasBefore: r.HasBefore, HasAfter: r.HasAfter,
		UserID: string(r.User.ID), UserName: string(r.User.Name), UserData: string(r.User.Data),
		Epoch: string(r.Resume.Epoch), Cursor: string(r.Cursor),
		Before: r.Before, After: r.After, Seq: r.Seq, ResumeSeq: r.Resume.Seq,
		Limit: r.Limit, MessageID: r.MessageID, Reason: string(r.Reason), Token: string(r.Token), Debug: string(r.Debug),
	}
}

// read is Parse done slowly: the meaning is encoding/json's, the bounds are
// relay's, and the three deviations come first.
func read(b []byte) (q flatRequest, ok bool) {
	var m map[string]json.RawMessage
	if !utf8.Valid(b) || json.Unmarshal(b, &m) != nil || m == nil || depth(b) > MaxDepth || loneSurrogate(b) {
		return q, false
	}
	for name, raw := range m {
		if string(raw) == "null" && name != "message" && name != "data" {
			delete(m, name)
		}
	}
	v := reader{m: m, ok: true}
	q.TypeName = v.text("type", 1, MaxTypeName)
	if id := m["id"]; id != nil {
		var number json.Number
		isInt := json.Unmarshal(id, &number) == nil && id[0] != '"' && !strings.ContainsAny(string(id), ".eE")
		v.check(len(id) <= MaxID && (id[0] == '"' || isInt))
		q.ID = string(id)
	}
	if !v.ok {
		return q, false
	}
	v.fields(&q)
	return q, v.ok
}

func (v *reader) fields(q *flatRequest) {
	need := func(names ...string) {
		for _, n := range names {
			v.check(v.m[n] != nil)
		}
	}
	switch q.TypeName {
	case "create":
		q.Type, q.Room, q.Key = TypeCreate, v.name("roomId", MaxRoomID), v.text("key", 1, MaxKey)
		v.user(q)
	case "join":
		need("roomId")
		q.Type, q.Room = TypeJoin, v.name("roomId", MaxRoomID)
		v.user(q)
		v.resume(q)
	case "chat":
		need("roomId", "message")
		q.Type, q.Room, q.Message = TypeChat, v.name("roomId", MaxRoomID), string(v.m["message"])
		q.Key, q.Trace = v.text("key", 1, MaxKey), v.text("traceparent", 0, MaxTraceparent)
		q.Debug = v.text("debug", 0, MaxDebug)
		v.user(q)
	case "exit":
		need("roomId")
		q.Type, q.Room = TypeExit, v.name("roomId", MaxRoomID)
		v.user(q)
	case "members":
		need("roomId")
		q.Type, q.Room, q.Cursor = TypeMembers, v.name("roomId", MaxRoomID), v.text("cursor", 0, MaxCursor)
	case "history":
		need("roomId")
		q.Type, q.Room = TypeHistory, v.name("roomId", MaxRoomID)
		q.Before, q.HasBefore = v.number("before", 1, MaxInteger)
		q.After, q.HasAfter = v.number("after", 0, MaxInteger)
		limit, _ := v.number("limit", 1, MaxLimit)
		q.Limit = int(limit)
		v.check(!q.HasBefore || !q.HasAfter)
	case "signal":
		need("roomId", "data")
		q.Type, q.Room, q.Data = TypeSignal, v.name("roomId", MaxRoomID), string(v.m["data"])
	case "redact":
		need("roomId", "messageId", "seq")
		q.Type, q.Room, q.Reason = TypeRedact, v.name("roomId", MaxRoomID), v.text("reason", 0, MaxReason)
		q.Seq, _ = v.number("seq", 0, MaxInteger)
		id := v.text("messageId", 32, 32)
		raw, err := hex.DecodeString(id)
		v.check(err == nil && id == strings.ToLower(id))
		copy(q.MessageID[:], raw)
	case "auth":
		need("token")
		q.Type, q.Token = TypeAuth, v.text("token", 1, MaxToken)
	case "ping":
		q.Type = TypePing
	}
}

// reader reads fields out of an object; ok turns false at the first bad one.
type reader struct {
	m  map[string]json.RawMessage
	ok bool
}

func (v *reader) check(ok bool) { v.ok = v.ok && ok }

func (v *reader) text(name string, minLen, maxLen int) (s string) {
	raw := v.m[name]
	if raw == nil {
		v.check(name != "type")
		return ""
	}
	v.check(json.Unmarshal(raw, &s) == nil && minLen <= len(s) && len(s) <= maxLen)
	return s
}

func (v *reader) name(name string, maxLen int) string {
	s := v.text(name, 1, maxLen)
	v.check(strings.IndexFunc(s, unicode.IsControl) < 0)
	return s
}

func (v *reader) number(name string, low, high uint64) (n uint64, given bool) {
	raw := v.m[name]
	if raw == nil {
		return 0, false
	}
	v.check(json.Unmarshal(raw, &n) == nil && low <= n && n <= high)
	return n, true
}

func (v *reader) inside(name string) (*reader, bool) {
	raw := v.m[name]
	if raw == nil {
		return nil, false
	}
	in := &reader{ok: true}
	v.check(json.Unmarshal(raw, &in.m) == nil)
	for name, raw := range in.m {
		if string(raw) == "null" {
			delete(in.m, name)
		}
	}
	return in, v.ok
}

func (v *reader) user(q *flatRequest) {
	u, ok := v.inside("user")
	if !ok {
		return
	}
	q.HasUser, q.UserID, q.UserName, q.UserData = true, u.name("id", MaxUserID), u.text("name", 0, MaxUserName), string(u.m["data"])
	v.check(u.ok && len(q.UserData) <= MaxUserData)
}

func (v *reader) resume(q *flatRequest) {
	p, ok := v.inside("resume")
	if !ok {
		return
	}
	v.check(p.m["epoch"] != nil && p.m["seq"] != nil)
	q.HasResume, q.Epoch = true, p.text("epoch", 1, MaxEpoch)
	q.ResumeSeq, _ = p.number("seq", 0, MaxInteger)
	v.check(p.ok)
}

// depth counts how deep valid JSON is nested.
func depth(b []byte) (deepest int) {
	now, quoted := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			now++
			deepest = max(deepest, now)
		case c == '}' || c == ']':
			now--
		}
	}
	return deepest
}

// loneSurrogate looks for an escaped surrogate without its other half in valid
// JSON.
func loneSurrogate(b []byte) bool {
	s := strings.ReplaceAll(string(b), `\\`, "__") // what is left of backslashes starts an escape
	units := func(s string) (u uint16, ok bool) {
		if len(s) < 6 || s[:2] != `\u` {
			return 0, false
		}
		raw, err := hex.DecodeString(s[2:6])
		return uint16(raw[0])<<8 | uint16(raw[1]), err == nil
	}
	for i := 0; i < len(s); i++ {
		u, ok := units(s[i:])
		if !ok || !utf16.IsSurrogate(rune(u)) {
			continue
		}
		low, ok := units(s[i+6:])
		if !ok || utf16.DecodeRune(rune(u), rune(low)) == utf8.RuneError {
			return true
		}
		i += 11
	}
	return false
}
