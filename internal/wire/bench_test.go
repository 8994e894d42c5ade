package wire

import (
	"strings"
	"testing"
)

// chatRequest is an ordinary chat of 200 bytes.
var chatRequest = []byte(`{"type":"chat","id":7,"roomId":"room-42","user":{"id":"user-17","name":"user-17"},"message":"` +
	strings.Repeat("x", 104) + `"}`)

func BenchmarkParseChat(b *testing.B) {
	var r Request
	b.ReportAllocs()
	b.SetBytes(int64(len(chatRequest)))
	for b.Loop() {
		if Parse(chatRequest, &r) != nil {
			b.Fatal("refused")
		}
	}
}

func benchChat() *Chat {
	return &Chat{
		RoomID: "room-42", Seq: 12345, Time: 1_700_000_000_000, MessageID: [16]byte{1, 2, 3},
		User: []byte(`{"id":"user-17","name":"user-17"}`), Message: []byte(`"` + strings.Repeat("x", 128) + `"`),
	}
}

func BenchmarkAppendChat(b *testing.B) {
	c := benchChat()
	dst := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		dst = c.AppendJSON(dst[:0])
	}
}

func BenchmarkFrameChat(b *testing.B) {
	c := benchChat()
	b.ReportAllocs()
	for b.Loop() {
		c.Frame()
	}
}
