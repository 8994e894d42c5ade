package socket

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
)

// With this in its environment the test binary is so many clients: both ends of
// 10,000 connections are more open files than a process may have.
const clientsEnv = "RELAY_SOCKET_CLIENTS"

// beClients connects n clients to addr, says so, and holds them until it is
// killed: then all are gone at once, as when a balancer dies.
func beClients(what string) int {
	var (
		n       int
		addr    string
		encrypt bool
	)
	if _, err := fmt.Sscan(what, &n, &addr, &encrypt); err != nil {
		fmt.Println(err)
		return 1
	}
	held, err := connect(n, addr, encrypt)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("connected")
	_, _ = io.Copy(io.Discard, os.Stdin) // until whoever started us is gone, if it does not kill us
	runtime.KeepAlive(held)
	return 0
}

func connect(n int, addr string, encrypt bool) (held []net.Conn, err error) {
	const hello = "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
	secure := &tls.Config{
		InsecureSkipVerify: true, // a certificate of a moment ago, on loopback
		// All resume one session: full handshakes would take most of the test.
		MaxVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(1),
	}
	one := func() (net.Conn, error) {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			return nil, err
		}
		if encrypt {
			nc = tls.Client(nc, secure)
		}
		if _, err := nc.Write([]byte(hello)); err != nil {
			return nil, err
		}
		buf := make([]byte, 256)
		m, err := nc.Read(buf)
		if err == nil && !strings.Contains(string(buf[:m]), "101 ") {
			err = fmt.Errorf("the answer is %q", buf[:m])
		}
		return nc, err
	}
	var (
		mu   sync.Mutex
		all  sync.WaitGroup
		left = int64(n)
	)
	for range 4 {
		all.Go(func() {
			for atomic.AddInt64(&left, -1) >= 0 {
				nc, e := one()
				mu.Lock()
				held, err = append(held, nc), errors.Join(err, e)
				mu.Unlock()
				if e != nil {
					return
				}
			}
		})
	}
	all.Wait()
	return held, err
}
