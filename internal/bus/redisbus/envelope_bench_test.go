package redisbus

import (
	"bytes"
	"strings"
	"testing"

	"github.com/wsrelay/relay/internal/bus"
)

// benchEvent is an ordinary message of 128 bytes.
func benchEvent() *bus.Event {
	return &bus.Event{
		Kind: bus.Chat, ID: bus.NewMessageID(), Time: 1_700_000_000_000,
		Sender: bus.Sender{Member: "user-17", User: []byte(`{"id":"user-17","name":"user-17"}`), Conn: "k3vq2m7x4w1p-17"},
		Body:   []byte(`"` + strings.Repeat("x", 128) + `"`),
	}
}

func BenchmarkAppendEnvelope(b *testing.B) {
	e := benchEvent()
	dst := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		dst = appendEnvelope(dst[:0], e)
	}
}

func BenchmarkDecodeFrame(b *testing.B) {
	envelope := string(appendEnvelope(nil, benchEvent()))
	for name, s := range map[string]string{"plain": "u" + envelope, "stored": "e9f86d081884c7d65 12345 " + envelope} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			buf := []byte(s)
			for b.Loop() {
				if _, err := decodeFrame("room-42", bytes.Clone(buf)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
