package app_test

import (
	"strings"
	"testing"

	"github.com/gorilla/websocket"

	client "github.com/wsrelay/relay/client/go"
)

// Who is on call finds why a connection ended and what to do about it; those who
// come and go as they should make no lines but for debugging.
func TestAFaultyCloseIsLoggedWithItsRunbook(t *testing.T) {
	i := start(t, open)
	ann := dial(t, i.url(), client.Options{})
	ann.do(&client.Request{Type: "join", RoomID: "r", User: user("ann")})
	_ = ann.Close()
	ws, _, err := websocket.DefaultDialer.Dial(i.url(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	if err := ws.WriteMessage(websocket.BinaryMessage, []byte("x")); err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, _, err = ws.ReadMessage()
	}
	if !websocket.IsCloseError(err, 1003) {
		t.Fatal(err)
	}
	i.stop() // all has been written then
	for line := range strings.Lines(i.logs.String()) {
		fault := strings.Contains(line, `"code":1003`)
		if strings.Contains(line, "connection closed") && (strings.Contains(line, `"INFO"`) != fault || fault && !strings.Contains(line, "docs/observability.md#closed-with-1003")) {
			t.Error(line)
		}
	}
	if !strings.Contains(i.logs.String(), `"code":1003`) || !strings.Contains(i.logs.String(), `"code":1000`) {
		t.Errorf("a close is missing:\n%s", i.logs.String())
	}
}
