package redistest

import (
	"net"
	"sync"
	"testing"
	"time"
)

// Proxy stands between a client and a server and spoils connections on demand.
// It passes bytes along as they come; it does not know Redis's protocol.
type Proxy struct {
	t      testing.TB
	target string
	ln     net.Listener
	done   sync.WaitGroup

	mu      sync.Mutex
	changed *sync.Cond
	pairs   map[*pair]struct{}
	refuse  bool // new connections are closed at once
	toward  bool // bytes towards the server are held back
	back    bool // bytes towards the client are held back
	swallow bool // bytes towards the client are thrown away
	closed  bool
}

type pair struct{ client, server net.Conn }

// NewProxy listens on a port of its own and connects to target, a host:port.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listening for a proxy: %v", err)
	}
	p := &Proxy{t: t, target: target, ln: ln, pairs: make(map[*pair]struct{})}
	p.changed = sync.NewCond(&p.mu)
	p.done.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

// Addr is where to connect.
func (p *Proxy) Addr() string { return p.ln.Addr().String() }

// URL is redis://host:port/0.
func (p *Proxy) URL() string { return "redis://" + p.Addr() + "/0" }

// Cut ends every connection there is. New ones are taken.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut()
}

func (p *Proxy) cut() {
	for c := range p.pairs {
		closeAll(c.client, c.server)
	}
}

// CutEvery cuts again and again until the returned function is called.
func (p *Proxy) CutEvery(d time.Duration) (stop func()) {
	end := make(chan struct{})
	var once sync.Once
	p.done.Go(func() {
		tick := time.NewTicker(d)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				p.Cut()
			case <-end:
				return
			}
		}
	})
	stop = func() { once.Do(func() { close(end) }) }
	p.t.Cleanup(stop)
	return stop
}

// Refuse cuts every connection and takes no new one until Heal.
func (p *Proxy) Refuse() {
	p.set(func() {
		p.refuse = true
		p.cut()
	})
}

// Blackhole holds all bytes back in both directions, as a half-open connection
// does, until Heal lets them go on. New connections are taken and say nothing.
func (p *Proxy) Blackhole() { p.set(func() { p.toward, p.back = true, true }) }

// HoldReplies lets commands reach the server, and keeps what comes back.
func (p *Proxy) HoldReplies() { p.set(func() { p.back = true }) }

// DropReplies lets commands reach the server, and throws away what comes back;
// Heal cuts the connections that it was done to.
func (p *Proxy) DropReplies() { p.set(func() { p.swallow = true }) }

// Heal ends whatever was begun.
func (p *Proxy) Heal() {
	p.set(func() {
		if p.swallow {
			p.cut() // their bytes do not fit together any more
		}
		p.refuse, p.toward, p.back, p.swallow = false, false, false, false
	})
}

func (p *Proxy) set(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	p.changed.Broadcast()
}

func (p *Proxy) accept() {
	for {
		client, err := p.ln.Accept()
		if err != nil {
			return
		}
		p.done.Go(func() { p.serve(client) })
	}
}

func (p *Proxy) serve(client net.Conn) {
	defer closeAll(client)
	p.mu.Lock()
	refuse := p.refuse || p.closed
	p.mu.Unlock()
	if refuse {
		return
	}
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer closeAll(server)
	c := &pair{client, server}
	p.mu.Lock()
	p.pairs[c] = struct{}{}
	if p.refuse || p.closed {
		closeAll(client, server)
	}
	p.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { p.pass(server, client, &p.toward, nil) })
	both.Go(func() { p.pass(client, server, &p.back, &p.swallow) })
	both.Wait()
	p.mu.Lock()
	delete(p.pairs, c)
	p.mu.Unlock()
}

// pass copies until either end closes, and then closes both.
func (p *Proxy) pass(to, from net.Conn, held, swallowed *bool) {
	defer closeAll(to, from)
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			p.mu.Lock()
			for *held && !p.closed {
				p.changed.Wait()
			}
			drop := swallowed != nil && *swallowed
			p.mu.Unlock()
			if !drop {
				if _, werr := to.Write(buf[:n]); werr != nil {
					return
				}
			}
		}
		if err != nil {
			return
		}
	}
}

func (p *Proxy) close() {
	p.set(func() {
		p.closed = true
		p.cut()
	})
	closeAll(p.ln)
	p.done.Wait()
}
