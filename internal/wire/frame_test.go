package wire

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// unframe reads a frame as RFC 6455 section 5.2 has it.
func unframe(t *testing.T, b []byte) (first byte, payload []byte) {
	t.Helper()
	if len(b) < 2 || b[1]&0x80 != 0 {
		t.Fatalf("a frame of %d bytes, or masked", len(b))
	}
	n, rest := uint64(b[1]), b[2:]
	switch n {
	case 126:
		n, rest = uint64(binary.BigEndian.Uint16(rest)), rest[2:]
		if n < 126 {
			t.Fatalf("length %d is not in the shortest form", n)
		}
	case 127:
		n, rest = binary.BigEndian.Uint64(rest), rest[8:]
		if n < 1<<16 {
			t.Fatalf("length %d is not in the shortest form", n)
		}
	}
	if n != uint64(len(rest)) {
		t.Fatalf("length %d in front of %d bytes", n, len(rest))
	}
	return b[0], rest
}

func TestFraming(t *testing.T) {
	for _, n := range []int{0, 1, 125, 126, 127, 128, 65535, 65536, 65537, 200_000} {
		want := bytes.Repeat([]byte("x"), n)
		f := seal(append(open(n+16), want...), ClassReply)
		first, payload := unframe(t, f.Bytes())
		if first != 0x81 || !bytes.Equal(payload, want) || !bytes.Equal(f.Payload(), want) {
			t.Errorf("a payload of %d bytes is framed wrongly", n)
		}
		// Whoever appends to a shared frame must not write into it.
		_ = append(f.Bytes(), 'y')
		if cap(f.Bytes()) != len(f.Bytes()) || cap(f.Payload()) != len(f.Payload()) {
			t.Errorf("%d bytes: the frame has room to append", n)
		}
	}
}

func TestCompressedIsMadeOnceAndCanBeRead(t *testing.T) {
	f := (&Chat{RoomID: "r", Message: []byte(`"` + strings.Repeat("abc", 1000) + `"`)}).Frame()
	var calls atomic.Int32
	deflate := func(dst, payload []byte) []byte {
		calls.Add(1)
		buf := bytes.NewBuffer(dst)
		w, err := flate.NewWriter(buf, flate.BestSpeed)
		if err != nil {
			t.Error(err)
			return nil
		}
		_, _ = w.Write(payload)
		_ = w.Flush()
		return bytes.TrimSuffix(buf.Bytes(), []byte{0, 0, 0xff, 0xff}) // RFC 7692 section 7.2.1
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			first, payload := unframe(t, f.Compressed(deflate))
			if first != 0xc1 {
				t.Errorf("first byte %#x, want FIN, RSV1 and text", first)
			}
			r := flate.NewReader(io.MultiReader(bytes.NewReader(payload), strings.NewReader("\x00\x00\xff\xff\x01\x00\x00\xff\xff")))
			if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, f.Payload()) {
				t.Errorf("inflated to %d bytes (%v), want %d", len(got), err, len(f.Payload()))
			}
		})
	}
	wg.Wait()
	if n := calls.Load(); n != 1 {
		t.Errorf("compressed %d times", n)
	}
}

func TestCompressionThatWinsNothingIsLeftOut(t *testing.T) {
	for name, deflate := range map[string]func(dst, payload []byte) []byte{
		"gave up": func(_, _ []byte) []byte { return nil },
		"grew":    func(dst, payload []byte) []byte { return append(append(dst, payload...), 'x') },
		"same":    func(dst, payload []byte) []byte { return append(dst, payload...) },
		"nothing": func(dst, _ []byte) []byte { return dst },
	} {
		f := Pong{}.Frame()
		if got := f.Compressed(deflate); !bytes.Equal(got, f.Bytes()) {
			t.Errorf("%s: got %q", name, got)
		}
	}
}

// TestFramesTakeTwoAllocations: the bytes and the Frame. A third would be a
// buffer that was too small.
func TestFramesTakeTwoAllocations(t *testing.T) {
	c := benchChat()
	for _, seq := range []uint64{0, MaxInteger} {
		c.Seq = seq
		if n := testing.AllocsPerRun(100, func() { c.Frame() }); n > 2 {
			t.Errorf("a chat of seq %d takes %v allocations", seq, n)
		}
	}
	dst := make([]byte, 0, 1024)
	if n := testing.AllocsPerRun(100, func() { dst = c.AppendJSON(dst[:0]) }); n > 0 {
		t.Errorf("AppendJSON takes %v allocations", n)
	}
	user := UserJSON("u", "", nil, false)
	members := &MemberJoined{RoomID: "room", User: user, Count: 1_000_000}
	if n := testing.AllocsPerRun(100, func() { members.Frame() }); n > 2 {
		t.Errorf("a member_joined takes %v allocations", n)
	}
}

func TestClasses(t *testing.T) {
	seen := map[string]bool{}
	for c := ClassReply; c <= ClassSignal; c++ {
		if seen[c.String()] {
			t.Errorf("two classes are called %s", c)
		}
		seen[c.String()] = true
		if want := c != ClassReply && c != ClassSequenced; c.Sheddable() != want {
			t.Errorf("%s: Sheddable() = %t", c, !want)
		}
	}
}
