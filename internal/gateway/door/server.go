package door

import (
	"bytes"
	"context"
	"log"
	"log/slog"
	"net/http"
	"time"
)

// Bounds of a handshake.
const (
	headerTimeout  = 10 * time.Second
	maxHeaderBytes = 32 << 10 // tokens travel in headers
)

// Server makes an http.Server that does not wait for slow handshakes, nor for
// bodies that never come; an upgrade lifts both bounds. Errors of single
// connections go to log at level debug: anybody can cause them. Those of the
// listener, such as file descriptors that ran out, go at level error.
func Server(h http.Handler, l *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       2 * headerTimeout,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          log.New(serverLog{l}, "", 0),
	}
}

// serverLog sorts what net/http has to say by who can cause it.
type serverLog struct{ log *slog.Logger }

// Write implements io.Writer.
func (s serverLog) Write(line []byte) (int, error) {
	level := slog.LevelDebug
	if bytes.HasPrefix(line, []byte("http: Accept error")) {
		level = slog.LevelError // net/http itself waits up to 1 s between two of them
	}
	s.log.Log(context.Background(), level, string(bytes.TrimSpace(line)))
	return len(line), nil
}
