package door

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wsrelay/relay/internal/rawio"
)

// handshake answers a request that took the shortcut. It is an
// http.ResponseWriter and an http.Hijacker. What is not hijacked is answered in
// one go when the handler returns, and closed.
type handshake struct {
	head   *head
	header http.Header
	status int // 0: the handler has said nothing
	body   bytes.Buffer

	ctx    context.Context
	cancel context.CancelFunc
	timer  *time.Timer

	mu   sync.Mutex
	conn *rawio.Conn // nil: hijacked or closed; guarded by mu
}

// lookEvery is how often somebody looks whether the client of a handshake is still
// there. Most are over before the first time.
const lookEvery = 250 * time.Millisecond

func newHandshake(ctx context.Context, c *rawio.Conn, h *head) *handshake {
	w := &handshake{conn: c, head: h, header: make(http.Header)}
	w.ctx, w.cancel = context.WithCancel(ctx)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(lookEvery, w.look)
	return w
}

// look cancels the request of a client that is gone.
func (w *handshake) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conn == nil {
		return
	}
	var b [1]byte
	if _, err := w.conn.Peek(b[:]); err != nil && !errors.Is(err, unix.EAGAIN) {
		w.cancel()
		return
	}
	w.timer.Reset(lookEvery)
}

// take takes the connection out; nil when it is not there any more.
func (w *handshake) take() *rawio.Conn {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.conn
	w.conn = nil
	w.timer.Stop()
	return c
}

// Header implements http.ResponseWriter.
func (w *handshake) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter.
func (w *handshake) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}

// Write implements http.ResponseWriter.
func (w *handshake) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(b)
}

// Hijack implements http.Hijacker.
func (w *handshake) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c := w.take()
	if c == nil {
		return nil, nil, http.ErrHijacked
	}
	return c, &w.head.rw, nil
}

// abort closes without an answer.
func (w *handshake) abort() {
	if c := w.take(); c != nil {
		_ = c.Close()
	}
}

// finish answers, if nobody has hijacked the connection.
func (w *handshake) finish() {
	w.cancel()
	c := w.take()
	if c == nil {
		return
	}
	defer c.Close()
	w.WriteHeader(http.StatusOK)
	if w.header.Get("Content-Type") == "" && w.body.Len() > 0 {
		w.header.Set("Content-Type", http.DetectContentType(w.body.Bytes()))
	}
	w.header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	res := http.Response{
		StatusCode: w.status, ProtoMajor: 1, ProtoMinor: 1, Header: w.header, Close: true,
		ContentLength: int64(w.body.Len()), Body: io.NopCloser(&w.body),
	}
	var b bytes.Buffer
	_ = res.Write(&b)         // a buffer takes everything
	_, _ = c.Write(b.Bytes()) // it has room: nothing was written before
}
