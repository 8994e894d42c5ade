package gateway

import (
	"context"
	"fmt"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/wsrelay/relay/internal/bus"
	"github.com/wsrelay/relay/internal/gateway/socket"
)

// A message is encoded and framed once. What it takes for one receiver more, from
// the room to the kernel, is a place in that one's queue, which is not allocated.
func TestADeliveryAllocatesNothingPerReceiver(t *testing.T) {
	const few, many = 10, 210
	at := func(members int) float64 {
		g := occupied(t, members)
		rooms := g.opt.Rooms
		e := &bus.Event{
			Kind: bus.Chat, Room: "r", ID: bus.NewMessageID(), Sender: bus.Sender{Member: "other", User: []byte(`{"id":"other"}`), Conn: "c-other"},
			Body: []byte(`"hello"`),
		}
		stats := g.opt.Sockets.Stats()
		deliver := func() {
			before := rooms.Stats().Delivered.Load()
			rooms.Deliver(e)
			for stats.QueuedBytes.Load() > 0 {
				runtime.Gosched()
			}
			if n := rooms.Stats().Delivered.Load() - before; n != int64(members) {
				t.Fatalf("%d deliveries to %d members", n, members)
			}
		}
		for range 20 {
			deliver() // what is made once
		}
		return testing.AllocsPerRun(50, deliver)
	}
	// Under the race detector sync.Pool forgets one of four things that it is
	// given; and something else may run meanwhile.
	low, high := at(few), at(many)
	t.Logf("%.0f for %d receivers, %.0f for %d", low, few, high, many)
	if per := (high - low) / (many - few); per > 0.5 {
		t.Errorf("%.2f allocations for each receiver", per)
	}
}

// occupied is a gateway with a room r in which so many sit, each on a socket of
// its own that nobody reads.
func occupied(t *testing.T, members int) *Gateway {
	t.Helper()
	g, _ := inMemory(t, nil, socket.NewGroup(nil))
	srv := httptest.NewServer(g)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := g.Drain(ctx, 0); err != nil {
			t.Errorf("drain: %v", err)
		}
		srv.Close()
	})
	for n := range members {
		ws, res, err := websocket.DefaultDialer.DialContext(t.Context(), "ws"+strings.TrimPrefix(srv.URL, "http")+"/ws", nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		t.Cleanup(func() { _ = ws.Close() })
		if err := ws.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, `{"type":"join","roomId":"r","user":{"id":"u%d"}}`, n)); err != nil {
			t.Fatal(err)
		}
		for said := ""; !strings.Contains(said, `"joined"`); {
			_, b, err := ws.ReadMessage()
			if err != nil {
				t.Fatal(err)
			}
			said = string(b)
		}
	}
	return g
}
