package socket

import (
	"bytes"
	"testing"

	"github.com/gorilla/websocket"
)

func testALengthBeyond63BitsIs1009(t *testing.T, k kind) {
	s := serve(t, k, Options{})
	ws, p := s.dial(t, nil)
	_, _ = ws.NetConn().Write([]byte{0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	_, _, err := ws.ReadMessage()
	_ = ws.Close()
	t.Logf("client sees %v; cause %+v", err, wait(t, p.closed))
	if websocket.IsCloseError(err, websocket.CloseAbnormalClosure) {
		t.Error("no close frame")
	}
}

func testBrokenCompressionIs1007(t *testing.T, k kind) {
	s := serve(t, k, Options{Compression: true})
	ws, p := s.dial(t, &websocket.Dialer{EnableCompression: true})
	b := frame(true, 1, bytes.Repeat([]byte{0xff}, 20))
	b[0] |= 0x40
	_, _ = ws.NetConn().Write(b)
	_, _, err := ws.ReadMessage()
	_ = ws.Close()
	t.Logf("client sees %v; cause %+v", err, wait(t, p.closed))
	if !websocket.IsCloseError(err, 1007) {
		t.Error("not 1007")
	}
}
