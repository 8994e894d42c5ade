package client_test

import (
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	client "github.com/wsrelay/relay/client/go"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// secured serves one word over TLS, and tells how many bytes came after it until
// the connection ended.
func secured(t *testing.T) (url string, trust *tls.Config, came chan int64) {
	t.Helper()
	came = make(chan int64, 1)
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer ws.Close()
		_ = ws.WriteMessage(websocket.TextMessage, []byte(`{"type":"welcome"}`))
		n, _ := io.Copy(io.Discard, ws.NetConn().(*tls.Conn).NetConn()) // however it ends
		came <- n
	}))
	t.Cleanup(srv.Close)
	trust = srv.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	trust.NextProtos = nil // not HTTP/2
	return "wss" + strings.TrimPrefix(srv.URL, "https"), trust, came
}

func TestAPrivateAuthorityIsTrustedOnlyByWhoSaysSo(t *testing.T) {
	url, trust, _ := secured(t)
	if _, err := client.Dial(t.Context(), url, client.Options{}); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("without TLSConfig: %v", err)
	}
	c, err := client.Dial(t.Context(), url, client.Options{TLSConfig: trust})
	if err != nil {
		t.Fatal(err)
	}
	c.Abort()
}

func TestAbortSaysNothingOverTLSEither(t *testing.T) {
	url, trust, came := secured(t)
	c, err := client.Dial(t.Context(), url, client.Options{TLSConfig: trust})
	if err != nil {
		t.Fatal(err)
	}
	c.Abort()
	if n := <-came; n != 0 {
		t.Errorf("%d bytes came, which are a goodbye", n)
	}
}
