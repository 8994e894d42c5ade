package socket

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wsrelay/relay/internal/wire"
)

// One message to every member of a room, from Send to the kernel, with so many
// more that come before the sockets are written.
func BenchmarkFanOut(b *testing.B) {
	const members = 1000
	for _, burst := range []int{1, 4, 16} {
		b.Run(fmt.Sprintf("burst=%d", burst), func(b *testing.B) {
			g, _, addr, conns := crowded(b, Options{PingEvery: time.Hour})
			fds := crowd(b, addr, members)
			room := make([]Conn, 0, members)
			for range members {
				room = append(room, wait(b, conns))
			}
			f := (&wire.Chat{RoomID: "r", Seq: 1, User: []byte(`{"id":"somebody"}`), Message: make([]byte, 128)}).Frame()
			writes := g.stats.Writes.Load()
			var out int64
			for b.Loop() {
				for range burst {
					for _, c := range room {
						c.Send(f)
					}
				}
				out += int64(burst * members * len(f.Bytes()))
				for g.stats.BytesOut.Load() < out {
					<-time.After(50 * time.Microsecond)
				}
				b.StopTimer()
				drainAll(b, fds)
				b.StartTimer()
			}
			n := float64(b.N * burst * members)
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/n, "ns/delivery")
			b.ReportMetric(float64(g.stats.Writes.Load()-writes)/n, "writes/delivery")
		})
	}
}

// drainAll reads what the clients have got.
func drainAll(b *testing.B, fds []int) {
	buf := make([]byte, 64<<10)
	for _, fd := range fds {
		for {
			_, _, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT)
			if errors.Is(err, unix.EAGAIN) {
				break
			}
			if err != nil {
				b.Fatal(err)
			}
		}
	}
}
