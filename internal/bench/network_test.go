package bench

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// networks are all that can be had here.
func networks(t *testing.T, f func(t *testing.T, nw network)) {
	t.Run("streams", func(t *testing.T) { nw := newStreams(); defer nw.close(); f(t, nw) })
	if nw, err := newEpoll(); err == nil {
		t.Run("epoll", func(t *testing.T) { defer nw.close(); f(t, nw) })
	} else {
		t.Logf("no epoll: %v", err)
	}
}

// pair is a connection and its other end.
func pair(t *testing.T) (ours, theirs net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ours, err = net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	theirs, err = ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = theirs.Close() })
	return ours, theirs
}

// until waits for something to become true.
func until(t *testing.T, nw network, take func(int, []byte, error), done func() bool) {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); !done(); {
		if time.Now().After(limit) {
			t.Fatal("it did not come")
		}
		nw.wait(10*time.Millisecond, take)
	}
}

func TestNetworkCarriesBytesBothWays(t *testing.T) {
	networks(t, func(t *testing.T, nw network) {
		const n = 3
		got := make([]bytes.Buffer, n)
		ends := make([]net.Conn, n)
		for i := range n {
			ours, theirs := pair(t)
			ends[i] = theirs
			if err := nw.add(i, ours); err != nil {
				t.Fatal(err)
			}
			go func() { _, _ = io.Copy(theirs, theirs) }() // ends with the connection
		}
		for i := range n {
			for range 10 {
				nw.write(i, []byte{byte('a' + i)})
			}
		}
		until(t, nw, func(id int, b []byte, err error) {
			if err != nil {
				t.Errorf("%d: %v", id, err)
			}
			got[id].Write(b)
		}, func() bool { return got[0].Len()+got[1].Len()+got[2].Len() == 10*n })
		for i := range n {
			if want := bytes.Repeat([]byte{byte('a' + i)}, 10); !bytes.Equal(got[i].Bytes(), want) {
				t.Errorf("%d: %q", i, got[i].Bytes())
			}
		}
	})
}

// A peer that does not read holds nobody up, and gets everything when it does.
func TestNetworkKeepsWhatTheSocketDoesNotTake(t *testing.T) {
	networks(t, func(t *testing.T, nw network) {
		ours, theirs := pair(t)
		if err := nw.add(7, ours); err != nil {
			t.Fatal(err)
		}
		block := bytes.Repeat([]byte("0123456789abcdef"), 4096)
		sent := 0
		for nw.backlog(7) < 4*len(block) {
			nw.write(7, block)
			sent += len(block)
			if sent > 1<<30 {
				t.Fatal("a socket took a gigabyte unread")
			}
		}
		read := make(chan []byte)
		go func() {
			b := make([]byte, sent)
			_, _ = io.ReadFull(theirs, b)
			read <- b
		}()
		var b []byte
		until(t, nw, func(int, []byte, error) {}, func() bool {
			select {
			case b = <-read:
			default:
			}
			return b != nil
		})
		if !bytes.Equal(b, bytes.Repeat(block, sent/len(block))) {
			t.Error("bytes were lost or swapped")
		}
		if n := nw.backlog(7); n != 0 {
			t.Errorf("%d bytes are still kept", n)
		}
	})
}

func TestNetworkTellsTheEnd(t *testing.T) {
	networks(t, func(t *testing.T, nw network) {
		ours, theirs := pair(t)
		if err := nw.add(1, ours); err != nil {
			t.Fatal(err)
		}
		if _, err := theirs.Write([]byte("bye")); err != nil {
			t.Fatal(err)
		}
		if err := theirs.Close(); err != nil {
			t.Fatal(err)
		}
		var got []byte
		var end error
		until(t, nw, func(id int, b []byte, err error) {
			got = append(got, b...)
			if err != nil {
				end = err
				nw.drop(id)
			}
		}, func() bool { return end != nil })
		if string(got) != "bye" || !errors.Is(end, io.EOF) {
			t.Errorf("%q and then %v", got, end)
		}
		nw.write(1, []byte("x")) // nobody there: no harm
		if n := nw.backlog(1); n != 0 {
			t.Errorf("%d bytes are kept for a socket that is gone", n)
		}
	})
}

func TestNetworkWaitsNoLongerThanAsked(t *testing.T) {
	networks(t, func(t *testing.T, nw network) {
		began := time.Now()
		nw.wait(3*time.Millisecond, func(int, []byte, error) { t.Error("something came") })
		if d := time.Since(began); d < 3*time.Millisecond || d > 5*time.Second {
			t.Errorf("waited %v", d)
		}
	})
}
