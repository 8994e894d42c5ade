package gateway_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	client "github.com/wsrelay/relay/client/go"
	"github.com/wsrelay/relay/internal/bus/membus"
)

// Two thousand sessions with a seat in two rooms each lose their sockets at once:
// who stays hears of each exactly once, and nothing is left of them.
func TestManySessionsLeaveTheirRoomsAtOnce(t *testing.T) {
	const rooms, perRoom = 100, 40 // every leaver is in two of them
	const leavers = rooms * perRoom / 2
	one := start(t, membus.New(membus.Options{}), "one")
	name := func(n int) string { return fmt.Sprint("room-", n%rooms) }
	var stay []*dialled
	for n := range rooms {
		d := one.dial(t)
		d.must(d.Join(t.Context(), name(n), user("stays"), nil))
		stay = append(stay, d)
	}
	sockets := make([]*websocket.Conn, leavers)
	lose := func() {
		for _, ws := range sockets {
			if ws != nil {
				_ = ws.NetConn().Close()
			}
		}
	}
	defer lose()
	dialer := websocket.Dialer{ReadBufferSize: 512, WriteBufferSize: 512}
	var all sync.WaitGroup
	for part := range 4 {
		all.Go(func() {
			for n := part; n < leavers; n += 4 {
				ws, res, err := dialer.DialContext(t.Context(), one.url, nil)
				if err != nil {
					t.Error(err)
					return
				}
				_ = res.Body.Close()
				sockets[n] = ws // which is not read: what comes lies in the kernel
				for _, room := range []string{name(n), name(n + 1 + n/rooms%(rooms-1))} {
					if err := ws.WriteJSON(&client.Request{Type: "join", RoomID: room, User: user(fmt.Sprint("u", n))}); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	all.Wait()
	came, total := make([]map[string]int, rooms), 0
	for n, d := range stay {
		came[n] = d.count("member_joined", perRoom)
		total += len(came[n])
	}
	if t.Failed() || total != 2*leavers {
		t.Fatalf("%d seats are taken", total)
	}

	began := time.Now()
	lose()
	for n, d := range stay {
		left := d.count("member_left", perRoom)
		for id := range came[n] {
			if left[id] != 1 {
				t.Fatalf("%s left %s %d times", id, name(n), left[id])
			}
		}
	}
	t.Logf("all have left after %v", time.Since(began))
	for n, d := range stay { // an ack has its place after all that was queued before
		e := d.must(d.Do(t.Context(), &client.Request{Type: "members", RoomID: name(n)}))
		if e.MemberCount != 1 || len(e.Members) != 1 {
			t.Errorf("%s has %d members: %s", name(n), e.MemberCount, e.Raw)
		}
		d.must(d.Chat(t.Context(), name(n), "end"))
		for len(d.events) > 0 {
			if e := <-d.events; e.Type == "member_left" {
				t.Errorf("%s left %s again", e.User.ID, name(n))
			}
		}
	}
	if s, r := one.rooms.Stats().Seats.Load(), one.rooms.Stats().Rooms.Load(); s != rooms || r != rooms {
		t.Errorf("%d seats in %d rooms are left", s, r)
	}
}

// count waits for so many events of a type, and counts them by user.
func (d *dialled) count(kind string, n int) map[string]int {
	d.t.Helper()
	of := make(map[string]int)
	for range n {
		of[d.next(kind).User.ID]++
	}
	return of
}
