package telemetry

import (
	"crypto/rand"
	mrand "math/rand/v2"
	"net/http"
	"time"
)

// Handshake is a WebSocket handshake that is over.
type Handshake struct {
	Path       string // of the endpoint; never a query
	Start, End time.Time
	Status     int    // 101, or what refused it
	Error      string // error.type of a refusal: origin, host, full, rate, ..., or unauthenticated at 101; otherwise empty
	Connection string // id; empty when refused
	Debug      bool   // it came with a good debug token
	Header     http.Header
}

// handshake is a Handshake on its way to be exported. It keeps nothing of the
// header.
type handshake struct {
	h        Handshake
	context  Context
	parent   Context
	link     Context
	promoted Reason
}

// Handshake tells of a handshake where the endpoint's share of them becomes
// traces, and of refused ones as far as a bucket of theirs allows. The
// Context is what messages of the connection link to; zero when there is no
// trace of the handshake. Of h.Header only traceparent is read.
func (t *Traces) Handshake(e *Entrance, h Handshake) Context {
	if t == nil {
		return Context{}
	}
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails since Go 1.24
	o := e.Origin([]byte(h.Header.Get("Traceparent")), h.Start)
	o.Debug = h.Debug
	c := t.Decide(id, &o, 0)
	s := &handshake{h: h, parent: o.Parent, link: o.Link, context: c.Of(id)}
	s.h.Header = nil
	if !c.Sampled() {
		if h.Error == "" || !t.grant(&t.refused, h.End) {
			return Context{}
		}
		s.promoted = Rejected
	}
	s.context.Flags = FlagSampled
	t.queue.put(s, 1)
	return s.context
}

// randomSpanID draws the id of a span that nobody was told of yet.
func randomSpanID() [8]byte { return spanID(mrand.Uint64()) }
