package app_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	client "github.com/wsrelay/relay/client/go"
)

// Whatever one client sends, it hears what was wrong, and a bystander in the
// same room keeps talking.
func TestBadInputGetsAClearAnswerAndHurtsNobodyElse(t *testing.T) { overBoth(t, open, testBadInput) }

func testBadInput(t *testing.T, i *instance) {
	by, friend := i.guest(t), i.guest(t)
	by.do(&client.Request{Type: "join", RoomID: "r", User: user("by")})
	friend.do(&client.Request{Type: "join", RoomID: "r", User: user("friend")})
	in := func(message string) string {
		return `{"id":"1","type":"chat","roomId":"r","message":` + message + `}`
	}
	for name, c := range map[string]struct {
		send  string
		code  string // of the error
		says  string // in it
		close int    // code that follows; 0: the socket stays
	}{
		"not JSON":                 {`hello`, "bad_request", "", 0},
		"empty":                    {``, "bad_request", "", 0},
		"an array":                 {`[1]`, "bad_request", "object", 0},
		"null":                     {`null`, "bad_request", "object", 0},
		"two objects":              {`{"type":"ping"}{"type":"ping"}`, "bad_request", "", 0},
		"unterminated":             {`{"type":"chat`, "bad_request", "", 0},
		"nesting of 30k":           {in(strings.Repeat("[", 30000) + strings.Repeat("]", 30000)), "bad_request", "128", 0},
		"lone surrogate":           {in(`"\ud800"`), "bad_request", "surrogate", 0},
		"invalid UTF-8":            {in("\"\xff\""), "bad_request", "UTF-8", 1007},
		"no type":                  {`{"id":"1"}`, "bad_request", "type", 0},
		"type of a number":         {`{"id":"1","type":5}`, "bad_request", "type", 0},
		"unknown type":             {`{"id":"1","type":"dance"}`, "unknown_type", "dance", 0},
		"no room":                  {`{"id":"1","type":"join","user":{"id":"x"}}`, "bad_request", "roomId", 0},
		"room of a number":         {`{"id":"1","type":"join","roomId":7}`, "bad_request", "roomId", 0},
		"room of 129 bytes":        {`{"id":"1","type":"join","roomId":"` + strings.Repeat("x", 129) + `"}`, "bad_request", "roomId", 0},
		"room with a control":      {`{"id":"1","type":"join","roomId":"a\u0000b"}`, "bad_request", "roomId", 0},
		"user of a text":           {`{"id":"1","type":"join","roomId":"r","user":"x"}`, "bad_request", "user", 0},
		"user id of 129 bytes":     {`{"id":"1","type":"join","roomId":"r","user":{"id":"` + strings.Repeat("x", 129) + `"}}`, "bad_request", "user.id", 0},
		"user data of 2 KiB":       {`{"id":"1","type":"join","roomId":"r","user":{"id":"x","data":"` + strings.Repeat("x", 2048) + `"}}`, "bad_request", "user.data", 0},
		"no message":               {`{"id":"1","type":"chat","roomId":"r"}`, "bad_request", "message", 0},
		"id of an object":          {`{"id":{},"type":"ping"}`, "bad_request", "id", 0},
		"resume of a number":       {`{"id":"1","type":"join","roomId":"r","resume":1}`, "bad_request", "resume", 0},
		"seq beyond all numbers":   {`{"id":"1","type":"history","roomId":"r","before":1e999}`, "bad_request", "before", 0},
		"a negative seq":           {`{"id":"1","type":"history","roomId":"r","after":-1}`, "bad_request", "after", 0},
		"a message over 16 KiB":    {in(`"` + strings.Repeat("x", 17<<10) + `"`), "too_large", "", 0},
		"a frame over 64 KiB":      {in(`"` + strings.Repeat("x", 70<<10) + `"`), "", "", 1009},
		"a key of 65 bytes":        {`{"id":"1","type":"chat","roomId":"r","message":1,"key":"` + strings.Repeat("k", 65) + `"}`, "bad_request", "key", 0},
		"a number of 5,000 digits": {in(strings.Repeat("9", 5000)), "", "", 0},
		"duplicate keys":           {`{"id":"1","type":"chat","type":"ping"}`, "", "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			p := i.guest(t)
			p.do(&client.Request{Type: "join", RoomID: "r", User: user("bad")})
			// A close may come before all of the message is written: gorilla then refuses the rest.
			if err := p.SendRaw([]byte(c.send)); err != nil && (c.close == 0 || !errors.Is(err, websocket.ErrCloseSent)) {
				t.Fatal(err)
			}
			if c.code != "" {
				e := p.next("error")
				if e.Code != c.code || !strings.Contains(string(e.Message), c.says) {
					t.Errorf("said %s", e.Raw)
				}
			}
			if c.close != 0 {
				if got := p.closed(); got != c.close {
					t.Errorf("closed with %d", got)
				}
			} else if e := p.do(&client.Request{Type: "ping"}); e.Type != "pong" {
				t.Errorf("%s", e.Raw)
			}
			by.do(&client.Request{Type: "chat", RoomID: "r", Message: text(name)})
			friend.await("the bystander's chat", func(e *client.Event) bool { return e.Type == "chat" && e.Text() == name })
		})
	}
	if strings.Contains(i.logs.String(), "panic") {
		t.Error("a panic is in the log")
	}
}

func TestAMessageIsPassedOnAsItCame(t *testing.T) { overBoth(t, open, testAMessageIsPassedOnAsItCame) }

func testAMessageIsPassedOnAsItCame(t *testing.T, i *instance) {
	p, q := i.guest(t), i.guest(t)
	p.do(&client.Request{Type: "join", RoomID: "r", User: user("a")})
	q.do(&client.Request{Type: "join", RoomID: "r", User: user("b")})
	for _, m := range []string{
		`123456789012345678901234567890.5e-3`, `{"b":1,"a":2,"b":3}`, `"\u0041\/\u2028"`, `[ 1 , 2 ]`, `null`, `""`, `{"__proto__":{}}`, `"` + strings.Repeat("ü", 4000) + `"`,
	} {
		if err := p.SendRaw([]byte(`{"type":"chat","roomId":"r","message":` + m + `}`)); err != nil {
			t.Fatal(err)
		}
		if e := q.next("chat"); !strings.Contains(string(e.Raw), `"message":`+m+`}`) {
			t.Errorf("%.60s came as %.200s", m, e.Raw)
		}
	}
}

func TestRequestsOfOneSocketAreBounded(t *testing.T) {
	overBoth(t, strings.Replace(open, "requests: 100000/s", "requests: 10/s", 1), testRequestsOfOneSocketAreBounded)
}

func testRequestsOfOneSocketAreBounded(t *testing.T, i *instance) {
	p := i.guest(t)
	refused := 0
	for n := range 30 {
		if err := p.Send(&client.Request{Type: "ping", ID: fmt.Sprint(n)}); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 30 {
		e := p.await("reply", func(e *client.Event) bool { return e.ID == fmt.Sprint(n) })
		if e.Code == "rate_limited" && e.Retry && e.RetryAfterMs > 0 {
			refused++
		}
	}
	if refused < 15 || refused > 20 {
		t.Errorf("%d of 30 were refused", refused)
	}
}

func TestAPipelineOfRequestsIsCarriedOutInOrder(t *testing.T) {
	overBoth(t, open, testAPipelineOfRequestsIsCarriedOutInOrder)
}

func testAPipelineOfRequestsIsCarriedOutInOrder(t *testing.T, i *instance) {
	watcher := i.guest(t)
	watcher.do(&client.Request{Type: "join", RoomID: "r", User: user("w")})
	ws, res, err := (&websocket.Dialer{TLSClientConfig: i.trust}).DialContext(t.Context(), i.url(), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	defer ws.Close()
	for _, m := range []string{
		`{"type":"join","roomId":"r","user":{"id":"p"}}`, `{"type":"chat","roomId":"r","message":1}`, `{"type":"chat","roomId":"r","message":2}`,
		`{"type":"exit","roomId":"r"}`, `{"id":9,"type":"chat","roomId":"r","message":3}`,
	} {
		if err := ws.WriteMessage(websocket.TextMessage, []byte(m)); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for len(got) < 4 {
		e := watcher.await("anything", func(e *client.Event) bool { return strings.HasPrefix(e.Type, "member_") || e.Type == "chat" })
		got = append(got, e.Type+string(e.Message))
	}
	if fmt.Sprint(got) != "[member_joined chat1 chat2 member_left]" {
		t.Errorf("%v", got)
	}
	_ = ws.SetReadDeadline(time.Now().Add(10 * time.Second))
	for {
		_, b, err := ws.ReadMessage()
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b), `"id":9`) {
			if !strings.Contains(string(b), "not_member") {
				t.Errorf("%s", b)
			}
			return
		}
	}
}
