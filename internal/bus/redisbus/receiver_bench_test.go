package redisbus

import (
	"errors"
	"fmt"
	"io"
	"syscall"
	"testing"
	"time"

	"github.com/wsrelay/relay/internal/bus"
)

// tally is a Handler that counts.
type tally struct {
	aloof
	n int
}

func (t *tally) Deliver(*bus.Event) { t.n++ }

// appendMessage is what a server says of a message on a channel.
func appendMessage[T string | []byte](b []byte, channel string, payload T) []byte {
	return appendArg(appendArg(appendArg(appendCommand(b, 3), "message"), channel), payload)
}

// BenchmarkReceive is the way of a message from the connection to the Handler,
// with as many in one read as named.
func BenchmarkReceive(b *testing.B) {
	for _, kind := range []string{"plain", "stored"} {
		for _, together := range []int{1, 16, 128} {
			b.Run(fmt.Sprintf("%s/%d", kind, together), func(b *testing.B) { benchmarkReceive(b, kind == "stored", together) })
		}
	}
}

func benchmarkReceive(b *testing.B, stored bool, together int) {
	conn := &canned{}
	n := newCanned(b, conn)
	counted := &tally{}
	n.handler = counted
	const rooms = 100
	seq := make([]uint64, rooms)
	for i := range rooms {
		name := fmt.Sprint("room-", i)
		part := partitionOf(name)
		n.rooms.shards[part].rooms[name] = &room{
			bus: n, lane: n.lanes[0], name: name, keeps: stored, placed: true, pos: bus.Position{Epoch: "9f86d081884c7d65"},
		}
	}
	r := &n.lanes[0].receiver
	ln, err := r.connect()
	if err != nil {
		b.Fatal(err)
	}
	envelope := string(appendEnvelope(nil, benchEvent()))
	for i := 0; i < b.N; i += together {
		var part []byte
		for j := i; j < min(b.N, i+together); j++ {
			room := j % rooms
			frame := "u" + envelope
			if stored {
				seq[room]++
				frame = fmt.Sprintf("e9f86d081884c7d65 %d %s", seq[room], envelope)
			}
			part = appendMessage(part, n.keys.channel(fmt.Sprint("room-", room)), frame)
		}
		conn.parts = append(conn.parts, part)
	}
	b.ReportAllocs()
	b.ResetTimer()
	before := processorTime()
	if err := r.read(ln); !errors.Is(err, io.EOF) {
		b.Fatal(err)
	}
	b.StopTimer()
	b.ReportMetric(float64((processorTime()-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
	if counted.n != b.N {
		b.Errorf("%d of %d were delivered", counted.n, b.N)
	}
}

// processorTime is what this process has used: unlike the time of the clock, it
// says something on a machine with other work.
func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
