package door

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"
)

// Front serves what clients connect to. It is a Server, which on Linux does not
// get to see most handshakes over plain TCP: they take a shortcut to the handler.
type Front struct {
	http *http.Server
	work sync.WaitGroup // shortcuts, and the handshakes on them

	ctx    context.Context // of those
	cancel context.CancelFunc
}

// NewFront makes a Front; Serve begins.
func NewFront(h http.Handler, l *slog.Logger) *Front {
	f := &Front{http: Server(h, l)}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	return f
}

// Serve serves a listener, and closes it in the end. It returns
// http.ErrServerClosed after Shutdown and Close.
func (f *Front) Serve(ln net.Listener) error { return f.http.Serve(f.shorten(ln)) }

// Shutdown takes no more connections, and waits for the requests and handshakes
// that are under way.
func (f *Front) Shutdown(ctx context.Context) error {
	if err := f.http.Shutdown(ctx); err != nil {
		return err
	}
	done := make(chan struct{})
	go func() { f.work.Wait(); close(done) }()
	select {
	case <-done:
		f.cancel()
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close gives up what is under way.
func (f *Front) Close() error {
	f.cancel()
	return f.http.Close()
}
