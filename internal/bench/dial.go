package bench

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// dialer makes WebSocket connections.
type dialer struct {
	urls  []*url.URL
	token string
	tls   *tls.Config
	tcp   net.Dialer
}

func newDialer(opt *Options) (*dialer, error) {
	d := &dialer{token: opt.Token, tls: opt.TLS}
	for _, s := range opt.URLs {
		u, err := parseURL(s)
		if err != nil {
			return nil, err
		}
		d.urls = append(d.urls, u)
	}
	if strings.ContainsFunc(d.token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, fmt.Errorf("%w: the token has characters that no token has", ErrOptions)
	}
	return d, nil
}

func (d *dialer) encrypted() bool {
	for _, u := range d.urls {
		if u.Scheme == "wss" {
			return true
		}
	}
	return false
}

// busyError is a server's word that it takes no more connections right now.
type busyError struct {
	error
	after time.Duration
}

// dial connects, and comes back when a busy server says that it may. It also
// returns what the server sent right behind its answer to the handshake.
func (d *dialer) dial(ctx context.Context, which int) (net.Conn, []byte, error) {
	for {
		c, first, err := d.once(ctx, d.urls[which])
		var busy busyError
		if !errors.As(err, &busy) {
			return c, first, err
		}
		t := time.NewTimer(busy.after + rand.N(busy.after)) // spread: everybody was told the same
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil, nil, err
		}
	}
}

func (d *dialer) once(ctx context.Context, u *url.URL) (net.Conn, []byte, error) {
	c, err := d.tcp.DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return nil, nil, err
	}
	plain := c
	stop := context.AfterFunc(ctx, func() { _ = plain.SetDeadline(time.Unix(1, 0)) }) // fails only where reading does too
	defer stop()
	if u.Scheme == "wss" {
		cfg := &tls.Config{}
		if d.tls != nil {
			cfg = d.tls.Clone()
		}
		if cfg.ServerName == "" {
			cfg.ServerName = u.Hostname()
		}
		c = tls.Client(c, cfg)
	}
	first, err := d.handshake(c, u)
	if err != nil {
		_ = c.Close() // the other error tells more
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, nil, err
	}
	return c, first, nil
}

// The key and its answer are the example of RFC 6455, section 1.3.
const (
	key    = "dGhlIHNhbXBsZSBub25jZQ=="
	accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
)

func (d *dialer) handshake(c net.Conn, u *url.URL) ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\nSec-WebSocket-Protocol: relay.v1\r\n", u.RequestURI(), u.Host, key)
	if d.token != "" {
		b.WriteString("Authorization: Bearer " + d.token + "\r\n")
	}
	b.WriteString("\r\n")
	if _, err := c.Write(b.Bytes()); err != nil {
		return nil, fmt.Errorf("handshake: %w", err)
	}
	r := bufio.NewReader(c)
	res, err := http.ReadResponse(r, &http.Request{Method: http.MethodGet})
	if err != nil {
		return nil, fmt.Errorf("handshake: %w", err)
	}
	if res.StatusCode != http.StatusSwitchingProtocols {
		return nil, refusedHandshake(res)
	}
	if res.Header.Get("Sec-Websocket-Accept") != accept {
		return nil, errors.New("handshake: the answer does not match: is this a WebSocket server?")
	}
	first, _ := r.Peek(r.Buffered()) // they are there
	return first, nil
}

func refusedHandshake(res *http.Response) error {
	line, _, _ := bufio.NewReader(io.LimitReader(res.Body, 512)).ReadLine() // a hint at best
	err := fmt.Errorf("handshake: the server answers %d: %s", res.StatusCode, line)
	if after := res.Header.Get("Retry-After"); res.StatusCode == http.StatusServiceUnavailable && after != "" {
		if s, perr := strconv.Atoi(after); perr == nil && s >= 0 {
			return busyError{err, time.Duration(max(s, 1)) * time.Second}
		}
	}
	return err
}
