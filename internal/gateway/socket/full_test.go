package socket

import (
	"testing"
	"time"

	"github.com/wsrelay/relay/internal/wire"
)

// In these tests the kernel takes nothing more for a client that does not read:
// all that is sent waits behind the boulder.

// behind makes room for so much behind the boulder.
func behind(room int, slow Slow) Options {
	return Options{MaxQueue: len(boulder().Bytes()) + room, Slow: slow, CloseWait: 5 * time.Second, WriteStall: time.Hour}
}

// cutAsSlow expects that the client has just been cut, once, that nothing waits
// for it but what its writer has begun, and that it is not waited for for ever.
func cutAsSlow(t *testing.T, s *server, p *peer) {
	t.Helper()
	if n := s.group.stats.SlowCut.Load(); n != 1 {
		t.Fatalf("cut %d times", n)
	}
	p.Send(text("too late"))
	if q := s.group.stats.QueuedBytes.Load(); q != int64(len(boulder().Bytes())) {
		t.Errorf("%d bytes are queued for a client that is cut", q)
	}
	if len(p.closed) > 0 {
		t.Error("cut without time to read why")
	}
	s.advance(6 * time.Second)
	if k := wait(t, p.closed); k.Code != wire.CloseSlow || k.By != Server {
		t.Errorf("cause %+v", k)
	}
}

func testAFullQueueDisconnects(t *testing.T, k kind) {
	s := serveStill(t, small(k), behind(20*minCost, Disconnect))
	_, p := s.raw(t)
	stick(t, s, p)
	for range 20 {
		p.Send(chat(0, 1))
	}
	if n := s.group.stats.SlowCut.Load(); n != 0 {
		t.Fatal("cut though all fits")
	}
	p.Send(chat(0, 1))
	cutAsSlow(t, s, p)
}

func testSheddingKeepsWhatMatters(t *testing.T, k kind) {
	s := serveStill(t, k, behind(20*minCost, Shed))
	ws, p := s.dial(t, nil)
	stick(t, s, p)
	shedAndKeep(t, s.group, ws, p)
	_ = ws.Close()
	wait(t, p.closed)
}

func testSheddingCutsWhereSequencedFramesAloneAreTooMuch(t *testing.T, k kind) {
	s := serveStill(t, small(k), behind(20*minCost, Shed))
	_, p := s.raw(t)
	stick(t, s, p)
	for i := range 20 {
		p.Send(signal("a", "1")) // gives way
		p.Send(chat(uint64(i+1), i))
	}
	if n := s.group.stats.SlowCut.Load(); n != 0 {
		t.Fatal("cut though what must stay fits")
	}
	p.Send(chat(21, 21))
	cutAsSlow(t, s, p)
}
