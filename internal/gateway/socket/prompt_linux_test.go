package socket

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// promptly is a prompt connection that has begun, of which the kernel keeps
// little, and its other end.
func promptly(t *testing.T) (p *prompt, other net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if other, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if err := other.(*net.TCPConn).SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	nc, err := Prompt(ln).Accept()
	if err != nil {
		t.Fatal(err)
	}
	p = nc.(*prompt)
	if err := p.Conn.(*net.TCPConn).SetWriteBuffer(4096); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = nc.Close(), other.Close() })
	p.begin()
	return p, other
}

// counting is a stream of bytes of which each says where it is.
type counting struct{ at int }

func (c *counting) next(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte((c.at + i) % 251)
	}
	c.at += n
	return b
}

func TestPromptWritesWithoutWaitingAndKeepsOrder(t *testing.T) {
	p, other := promptly(t)
	var sent counting
	write := func(n int) {
		t.Helper()
		if m, err := p.Write(sent.next(n)); m != n || err != nil {
			t.Fatalf("%d of %d bytes, %v", m, n, err)
		}
	}
	write(100)
	if p.behind() {
		t.Fatal("100 bytes found no room")
	}
	for !p.behind() {
		write(1000) // nobody reads, and this goroutine goes on all the same
	}
	write(1000)
	got := make(chan []byte)
	go func() {
		b, _ := io.ReadAll(other) // ends with the connection
		got <- b
	}()
	done := make(chan error)
	go func() { done <- p.drain() }()
	for range 10 {
		write(500) // while what came before is being written, or after it
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	write(10)
	if err := p.drain(); err != nil { // of what came last
		t.Fatal(err)
	}
	if p.behind() {
		t.Error("something is kept after drain")
	}
	_ = p.Close()
	if b := <-got; !bytes.Equal(b, (&counting{}).next(sent.at)) {
		t.Errorf("%d bytes came, of %d, or in another order", len(b), sent.at)
	}
}

func TestPromptKeepsSoMuchAndNoMore(t *testing.T) {
	p, _ := promptly(t)
	var err error
	for written := 0; err == nil; {
		_, err = p.Write(make([]byte, 1000))
		if written += 1000; written > 100*restMax {
			t.Fatal("there is no bound")
		}
	}
	if !errors.Is(err, errNotRead) || len(p.rest) > restMax {
		t.Errorf("%v, %d bytes are kept", err, len(p.rest))
	}
}

func TestPromptTellsOfTheEnd(t *testing.T) {
	p, _ := promptly(t)
	for !p.behind() {
		if _, err := p.Write(make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan error)
	go func() { done <- p.drain() }()
	_ = p.Close() // as hangUp does, whoever waits
	if err := <-done; err == nil {
		t.Error("drain does not say that the connection is closed")
	}
}

// What TLS answers by itself is in no queue. It is written nevertheless, when
// there is room again.
func TestWhatTLSAnswersDoesNotStay(t *testing.T) {
	s := serveStill(t, kind{tls: true, wrap: newPrompt}, Options{PingEvery: 0})
	nc, p := s.raw(t)
	st := p.Conn.(*conn).line.(*stream)
	answered := 0
	for !st.behind() { // as the reader does when it is asked to
		n, err := st.net.Write(make([]byte, 1000))
		if err != nil {
			t.Fatal(err)
		}
		answered += n
	}
	got := make(chan int64)
	go func() {
		n, _ := io.CopyN(io.Discard, nc, int64(answered))
		got <- n
	}()
	until(t, "there is room again", func() bool { s.advance(time.Second); return !st.behind() })
	if n := wait(t, got); n != int64(answered) {
		t.Errorf("%d of %d bytes came", n, answered)
	}
}
