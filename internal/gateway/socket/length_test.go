package socket

import (
	"slices"
	"strings"
	"testing"
)

// A message whose length takes 64 bits of its frame's header, whole and in pieces
// of which some do too.
func testAMessageOf70KBArrives(t *testing.T, k kind) {
	want := strings.Repeat("0123456789", 7<<10)
	pieces := func(sizes ...int) (all []byte) {
		rest := []byte(want)
		for i, n := range sizes {
			op := byte(0)
			if i == 0 {
				op = 1
			}
			all = append(all, frame(i == len(sizes)-1, op, rest[:n])...)
			rest = rest[n:]
		}
		if len(rest) > 0 {
			t.Fatalf("%d bytes are in no fragment", len(rest))
		}
		return all
	}
	for name, send := range map[string][]byte{
		"whole":                      pieces(len(want)),
		"in seven fragments":         pieces(slices.Repeat([]int{10 << 10}, 7)...),
		"a large fragment and small": pieces(66<<10, 1, 0, 4<<10-1),
		"a small fragment and large": pieces(0, 4<<10, 66<<10),
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, k, Options{MaxMessage: int64(len(want))})
			nc, p := s.raw(t)
			if _, err := nc.Write(append(send, frame(true, 1, []byte("next"))...)); err != nil {
				t.Fatal(err)
			}
			if got := wait(t, p.got); got != want {
				t.Errorf("%d bytes came, %.20q and so on", len(got), got)
			}
			if got := wait(t, p.got); got != "next" {
				t.Errorf("%.20q came next", got)
			}
		})
	}
}

// RFC 6455 wants the shortest form of a length, but clients that do not care are
// let be, by gorilla and so by both kinds of connection.
func testALengthOf64BitsMayBeSmall(t *testing.T, k kind) {
	s := serve(t, k, Options{})
	nc, p := s.raw(t)
	long := func(first byte, payload string) []byte {
		return append([]byte{first, 0xff, 0, 0, 0, 0, 0, 0, 0, byte(len(payload)), 0, 0, 0, 0}, payload...)
	}
	all := append(long(0x81, "whole"), long(0x01, "in ")...)
	all = append(append(all, long(0x80, "two")...), long(0x81, "")...)
	for _, b := range all { // one by one: no part of a header is taken for all of it
		if _, err := nc.Write([]byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"whole", "in two", ""} {
		if got := wait(t, p.got); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// A pong does not wait until the message that it came in the midst of is whole.
func testAPingAmongFragmentsIsAnsweredAtOnce(t *testing.T, k kind) {
	s := serve(t, k, Options{})
	ws, p := s.dial(t, nil)
	got := make(chan string, 1)
	ws.SetPongHandler(func(d string) error { got <- d; return nil })
	go func() { _, _, _ = ws.ReadMessage() }()
	_, _ = ws.NetConn().Write(append(frame(false, 1, []byte("a")), frame(true, 9, []byte("?"))...))
	if d := wait(t, got); d != "?" {
		t.Errorf("pong %q", d)
	}
	_, _ = ws.NetConn().Write(frame(true, 0, []byte("b")))
	if m := wait(t, p.got); m != "ab" {
		t.Errorf("message %q", m)
	}
}
