package door

import (
	"log/slog"
	"net/http"
	"time"
)

// Bounds of a handshake.
const (
	headerTimeout  = 10 * time.Second
	maxHeaderBytes = 32 << 10 // tokens travel in headers
)

// Server makes an http.Server that does not wait for slow handshakes. Errors
// of single connections go to log at level debug: anybody can cause them.
func Server(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}
