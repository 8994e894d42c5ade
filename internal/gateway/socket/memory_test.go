package socket

import (
	"bytes"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/wsrelay/relay/internal/wire"
)

func heap() int {
	runtime.GC()
	runtime.GC() // what sync.Pool keeps survives one
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

const tightBuffer = 4 << 10

// small makes the kernel keep little for a client that does not read.
func small(k kind) kind {
	k.tight = true
	if k.front {
		return k
	}
	was := k.wrap
	k.wrap = func(nc net.Conn) net.Conn {
		_ = nc.(*net.TCPConn).SetWriteBuffer(tightBuffer)
		if was != nil {
			return was(nc)
		}
		return nc
	}
	return k
}

// A thousand clients that stop reading cost what their queues may hold, and not
// much more, however small the frames are and though no two share one.
func testMemoryUnderAThousandStuckReadersIsBounded(t *testing.T, k kind) {
	const bound = 64 << 10
	clients := 1000
	if k.tls {
		clients = 100 // handshakes are slow
	}
	s := serve(t, small(k), Options{MaxQueue: bound, Slow: Shed, WriteStall: time.Hour})
	var peers []*peer
	for range clients {
		_, p := s.dial(t, nil)
		peers = append(peers, p)
	}
	// What it may cost: its queue, as the allocator rounds it up, and what is
	// being written.
	most := bound + bound/4 + chunk + 8<<10
	if k.tls {
		most += 48 << 10 // records, of the client too
	}
	before := heap()
	round := func(size int) {
		for _, p := range peers {
			p.Send((&wire.Chat{RoomID: "r", User: []byte(`{}`), Message: bytes.Repeat([]byte("1"), size)}).Frame())
		}
	}
	queued := func() int { return int(s.group.stats.QueuedBytes.Load()) }
	full := func(size int) {
		until(t, "the kernel takes no more", func() bool {
			round(size)
			return queued() > clients*bound*3/4
		})
	}
	full(4 << 10)
	for _, size := range []int{4 << 10, 1, 1 << 10} {
		for range bound / max(size, minCost) * 3 / 2 {
			round(size)
		}
		full(size)
		if q := queued(); q > clients*bound || q < clients*bound/2 {
			t.Errorf("frames of %d: %d bytes are queued, the bound is %d", size, q, clients*bound)
		}
		if grown := heap() - before; grown > clients*most {
			t.Errorf("frames of %d: each stuck reader costs %d bytes", size, grown/clients)
		}
	}
	if cut := s.group.stats.SlowCut.Load(); cut != 0 {
		t.Errorf("%d were cut", cut)
	}
}
