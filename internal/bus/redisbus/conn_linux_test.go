package redisbus

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// twoEnds is a quiet connection and its other end.
func twoEnds(t testing.TB) (quiet, other net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	quiet = quietly(c)
	if other, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	if _, ok := quiet.(*quietConn); !ok {
		t.Fatalf("a %T is not quiet", quiet)
	}
	t.Cleanup(func() { _, _ = quiet.Close(), other.Close() })
	return quiet, other
}

func TestQuietConnCarriesMoreThanASocketHolds(t *testing.T) {
	quiet, other := twoEnds(t)
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
	go func() { _, _ = io.Copy(other, other) }() // ends with the connection
	wrote := make(chan error, 1)
	go func() {
		n, err := quiet.Write(sent)
		if err == nil && n != len(sent) {
			err = io.ErrShortWrite
		}
		wrote <- err
	}()
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(quiet, got); err != nil || !bytes.Equal(got, sent) {
		t.Errorf("read %v; the same: %v", err, bytes.Equal(got, sent))
	}
	if err := <-wrote; err != nil {
		t.Errorf("wrote: %v", err)
	}
}

func TestQuietConnKeepsDeadlines(t *testing.T) {
	quiet, _ := twoEnds(t)
	if err := quiet.SetDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	var ne net.Error
	if n, err := quiet.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &ne) || !ne.Timeout() {
		t.Errorf("read %d: %v", n, err)
	}
	if _, err := quiet.Write(make([]byte, 64<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("write: %v", err)
	}
}

func TestQuietConnTellsTheEnd(t *testing.T) {
	quiet, other := twoEnds(t)
	if _, err := other.Write([]byte("bye")); err != nil {
		t.Fatal(err)
	}
	if err := other.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(quiet); err != nil || string(b) != "bye" {
		t.Errorf("%q, %v", b, err)
	}
	if err := other.(*net.TCPConn).SetLinger(0); err != nil {
		t.Fatal(err)
	}
	_ = other.Close() // resets
	var err error
	for limit := time.Now().Add(10 * time.Second); err == nil && time.Now().Before(limit); {
		_, err = quiet.Write([]byte("x"))
	}
	if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Errorf("writing to who is gone: %v", err)
	}
	_ = quiet.Close()
	if _, err := quiet.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("reading from what is closed: %v", err)
	}
}

func TestQuietConnWritesWhatThereIsRoomFor(t *testing.T) {
	quiet, other := twoEnds(t)
	sent := bytes.Repeat([]byte("0123456789abcdef"), 4<<20)
	n, err := quiet.(*quietConn).WriteAtOnce(sent)
	if err != nil || n == 0 || n == len(sent) {
		t.Fatalf("wrote %d of %d: %v", n, len(sent), err)
	}
	got := make([]byte, n)
	if _, err := io.ReadFull(other, got); err != nil || !bytes.Equal(got, sent[:n]) {
		t.Errorf("read %v; the same: %v", err, bytes.Equal(got, sent[:n]))
	}
}
