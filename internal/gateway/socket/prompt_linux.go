package socket

import (
	"errors"
	"net"
	"sync"
	"syscall"

	"github.com/wsrelay/relay/internal/rawio"
)

// Prompt has TLS connections of a TCP listener written like those of plain TCP, by
// the writers that all share. It is the listener to give to tls.NewListener.
func Prompt(ln net.Listener) net.Listener { return promptListener{ln} }

type promptListener struct{ net.Listener }

// Accept implements net.Listener.
func (l promptListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return newPrompt(nc), nil
}

// prompt is a TCP connection under TLS whose Write never waits, once it has begun.
// TLS cannot go on later with a record of which the kernel took half: so that one
// goroutine can write to many, what there was no room for is kept here, until
// drain has written it.
type prompt struct {
	net.Conn
	raw syscall.RawConn
	try func(fd uintptr) bool // once, allocated once

	mu       sync.Mutex
	begun    bool
	draining bool   // what comes waits behind what is being written
	rest     []byte // what is kept
	given    []byte // to try
	err      error  // of it
}

// restMax bounds what is kept. What is due to a client is given a chunk at a time,
// when nothing is kept; the rest of the room is for what TLS answers by itself,
// which a client that reads nothing could ask for without end.
const restMax = 4 * chunk

var errNotRead = errors.New("the client does not read what TLS has to answer")

func newPrompt(nc net.Conn) net.Conn {
	tcp, ok := nc.(*net.TCPConn)
	if !ok {
		return nc
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nc // is closed: whoever reads finds out
	}
	p := &prompt{Conn: nc, raw: raw}
	p.try = p.once
	return p
}

// begin implements unwaiting.
func (p *prompt) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.begun = true
}

// Write implements net.Conn.
func (p *prompt) Write(b []byte) (int, error) {
	p.mu.Lock()
	if !p.begun {
		p.mu.Unlock()
		return p.Conn.Write(b)
	}
	defer p.mu.Unlock()
	p.given = b
	defer func() { p.given = nil }() // it is the caller's
	if len(p.rest) == 0 && !p.draining {
		p.err = nil
		if err := p.raw.Write(p.try); err != nil {
			return 0, err
		}
		if p.err != nil {
			return 0, p.err
		}
	}
	if len(p.rest)+len(p.given) > restMax {
		return 0, errNotRead
	}
	p.rest = append(p.rest, p.given...)
	return len(b), nil
}

// once writes what there is room for. It always says that it is done.
func (p *prompt) once(fd uintptr) bool {
	for len(p.given) > 0 {
		n, err := rawio.Write(int(fd), p.given)
		switch err {
		case nil:
			p.given = p.given[n:]
		case syscall.EINTR:
		case syscall.EAGAIN:
			return true
		default:
			p.err = err
			return true
		}
	}
	return true
}

// behind implements unwaiting.
func (p *prompt) behind() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.rest) > 0
}

// drain implements unwaiting.
func (p *prompt) drain() error {
	for {
		p.mu.Lock()
		b := p.rest
		p.rest, p.draining = nil, len(b) > 0
		p.mu.Unlock()
		if len(b) == 0 {
			return nil
		}
		if _, err := p.Conn.Write(b); err != nil {
			return err
		}
	}
}
