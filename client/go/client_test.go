package client_test

import (
	"crypto/tls"
	"errors"
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

// Who is sent away at once is told why all the same: the connection was welcomed, and
// has ended.
func TestWhoIsSentAwayAtOnceIsToldWhy(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer ws.Close()
		_ = ws.WriteMessage(websocket.TextMessage, []byte(`{"type":"welcome"}`))
		_ = ws.WriteMessage(websocket.TextMessage, []byte(`{"type":"error","code":"banned"}`))
		_ = ws.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(4403, "banned"))
		_, _, _ = ws.ReadMessage()
	}))
	t.Cleanup(srv.Close)
	for range 100 {
		var heard []string
		c, err := client.Dial(t.Context(), "ws"+strings.TrimPrefix(srv.URL, "http"), client.Options{Handler: func(e *client.Event) { heard = append(heard, e.Type+e.Code) }})
		if err != nil {
			t.Fatal(err)
		}
		<-c.Done()
		if got := strings.Join(heard, " "); got != "welcome errorbanned" || c.Welcome().Type != "welcome" {
			t.Fatalf("heard %s", got)
		}
		var closed *client.CloseError
		for _, err := range []error{c.Err(), c.Exit(t.Context(), "r")} {
			if !errors.As(err, &closed) || closed.Code != 4403 {
				t.Fatalf("ended with %v", err)
			}
		}
	}
}
