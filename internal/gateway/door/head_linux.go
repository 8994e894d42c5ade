package door

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strings"
)

// headSize is the longest request that takes the shortcut: that of a browser with
// some cookies. Longer ones are net/http's.
const headSize = 4 << 10

// head is what it takes to read a request. It is not pooled, which would cost memory
// and save next to no time: whatever else a connect leaves behind is small and lies
// among what stays, so the less often the collector comes, the more pages hold a
// little of both (Memory in docs/performance.md).
type head struct {
	buf [headSize]byte
	src bytes.Reader
	rw  bufio.ReadWriter
}

func newHead() *head {
	h := new(head)
	h.rw.Reader = bufio.NewReaderSize(&h.src, headSize)
	h.rw.Writer = bufio.NewWriterSize(io.Discard, 512) // gorilla writes its answer into its buffer
	return h
}

var (
	get      = []byte("GET /")
	emptyEnd = []byte("\r\n\r\n")
)

// request reads the first n bytes of buf as a request for a WebSocket that
// net/http would hand to its handler too. Nil where there is any doubt.
func (h *head) request(n int) *http.Request {
	b := h.buf[:n]
	if !bytes.HasPrefix(b, get) || !bytes.HasSuffix(b, emptyEnd) {
		return nil
	}
	h.src.Reset(b)
	h.rw.Reader.Reset(&h.src)
	r, err := http.ReadRequest(h.rw.Reader)
	switch {
	case err != nil, h.rw.Reader.Buffered() > 0: // or there is more behind it
		return nil
	case r.ProtoMajor != 1, r.ProtoMinor != 1, r.Body != http.NoBody, !plainHost(r.Host):
		return nil
	case !strings.EqualFold(r.Header.Get("Upgrade"), "websocket"), r.Header.Get("Expect") != "":
		return nil
	}
	for name := range r.Header {
		if strings.Contains(name, " ") { // package textproto lets it pass, net/http does not
			return nil
		}
	}
	return r
}

// plainHost is stricter than net/http.
func plainHost(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.Contains("-._:[]", s[i:i+1]) {
			return false
		}
	}
	return s != ""
}
