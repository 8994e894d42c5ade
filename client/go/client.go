// Package client speaks relay.v1 for Go programs: one connection, requests with
// their replies, and everything the server says in its order.
//
// It does not reconnect on its own: what to do about a gap is for the program
// to decide, and Event and CloseError carry all it takes (epoch, seq, the close
// code and whether to come back).
package client

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// User is what a client says of itself.
type User struct {
	ID    string          `json:"id,omitempty"`
	Name  string          `json:"name,omitempty"`
	Data  json.RawMessage `json:"data,omitempty"`
	Guest bool            `json:"guest,omitempty"` // from the server only
}

// Request is a message to the server; which fields count depends on Type.
type Request struct {
	Type      string          `json:"type"`
	ID        string          `json:"id,omitempty"`
	RoomID    string          `json:"roomId,omitempty"`
	User      *User           `json:"user,omitempty"`
	Message   json.RawMessage `json:"message,omitempty"`
	Data      json.RawMessage `json:"data,omitempty"`
	Key       string          `json:"key,omitempty"`
	Parent    string          `json:"traceparent,omitempty"` // W3C Trace Context
	Debug     string          `json:"debug,omitempty"`       // a debug token
	Resume    *Position       `json:"resume,omitempty"`
	Cursor    string          `json:"cursor,omitempty"`
	Before    uint64          `json:"before,omitempty"`
	After     *uint64         `json:"after,omitempty"` // 0 is the beginning
	Limit     int             `json:"limit,omitempty"`
	MessageID string          `json:"messageId,omitempty"`
	Seq       uint64          `json:"seq,omitempty"`
	Reason    string          `json:"reason,omitempty"`
	Token     string          `json:"token,omitempty"`
}

// Position is a place in a room's stream.
type Position struct {
	Epoch string `json:"epoch"`
	Seq   uint64 `json:"seq"`
}

// Event is anything the server says.
type Event struct {
	Type             string          `json:"type"`
	ID               string          `json:"id"`
	RoomID           string          `json:"roomId"`
	User             *User           `json:"user"`
	Epoch            string          `json:"epoch"`
	Seq              uint64          `json:"seq"`
	MessageID        string          `json:"messageId"`
	Time             int64           `json:"time"` // milliseconds since the Unix epoch
	Message          json.RawMessage `json:"message"`
	Data             json.RawMessage `json:"data"`
	Key              string          `json:"key"`
	Traceparent      string          `json:"traceparent"`
	Duplicate        bool            `json:"duplicate"`
	Members          []User          `json:"members"`
	MemberCount      int             `json:"memberCount"`
	Recovered        bool            `json:"recovered"`
	Messages         []Event         `json:"messages"`
	Cursor           string          `json:"cursor"`
	Target           string          `json:"target"`
	Kind             string          `json:"kind"`
	From             uint64          `json:"from"`
	To               uint64          `json:"to"`
	Code             string          `json:"code"`
	Retry            bool            `json:"retry"`
	RetryAfterMs     int64           `json:"retryAfterMs"`
	Outcome          string          `json:"outcome"`
	Reason           string          `json:"reason"`
	Hint             string          `json:"hint"`
	ConnectionID     string          `json:"connectionId"`
	Instance         string          `json:"instance"`
	HeartbeatMs      int64           `json:"heartbeatMs"`
	ReconnectAfterMs int64           `json:"reconnectAfterMs"`
	InMs             int64           `json:"inMs"`
	ExpiresAt        int64           `json:"expiresAt"`

	Raw []byte `json:"-"` // the frame as it came
}

// Text is the message as a string where it is one, else its JSON.
func (e *Event) Text() string {
	var s string
	if json.Unmarshal(e.Message, &s) == nil {
		return s
	}
	return string(e.Message)
}

// TraceID names the trace of a message: its own id, unless its sender brought a
// trace along.
func (e *Event) TraceID() string {
	if p := strings.Split(e.Traceparent, "-"); len(p) >= 4 && len(p[1]) == 32 { // W3C Trace Context
		return p[1]
	}
	return e.MessageID
}

// Error is a reply of type error.
type Error struct{ Event }

func (e *Error) Error() string {
	var s string
	_ = json.Unmarshal(e.Message, &s) // an error's message is a string; empty if not
	if e.Reason != "" {
		return e.Code + ": " + s + ": " + e.Reason
	}
	return e.Code + ": " + s
}

// CloseError says how the connection ended.
type CloseError struct {
	Code   int // 0: the network ended it
	Reason string
	Err    error
}

func (e *CloseError) Error() string {
	if e.Code == 0 {
		return fmt.Sprintf("connection lost: %v", e.Err)
	}
	return fmt.Sprintf("closed by the server: %d %s", e.Code, e.Reason)
}

func (e *CloseError) Unwrap() error { return e.Err }

// RefusedError is a handshake that was answered with something else than an
// upgrade.
type RefusedError struct {
	Status     int
	RetryAfter time.Duration // 0: the server did not say
	Body       string        // what it said, at most 1 KiB of it
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("connecting: %d %s: %s", e.Status, http.StatusText(e.Status), e.Body)
}

func refusedError(res *http.Response) *RefusedError {
	defer res.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(res.Body, 1<<10)) // gorilla has read it already
	seconds, _ := strconv.Atoi(res.Header.Get("Retry-After"))
	return &RefusedError{Status: res.StatusCode, RetryAfter: time.Duration(seconds) * time.Second, Body: strings.TrimSpace(string(body))}
}

// Options of a connection.
type Options struct {
	Token  string // sent as a Bearer header
	Header http.Header
	// Handler is called for every event in order, replies included, from the
	// reading goroutine: it must not wait for a reply.
	Handler func(*Event)
	Dialer  *websocket.Dialer // nil: websocket.DefaultDialer
	// TLSConfig is for wss addresses: whom to trust where a private authority has
	// signed the server's certificate (RootCAs), and a certificate of the client's
	// own where a proxy asks for one. nil: what the Dialer has, and without that
	// the system's authorities. It is not changed, and may be shared.
	TLSConfig *tls.Config
}

// Conn is one connection.
type Conn struct {
	ws      *websocket.Conn
	opt     Options
	welcome *Event
	done    chan struct{}

	writing sync.Mutex // one writer at a time

	mu      sync.Mutex
	next    int                    // guarded by mu
	waiting map[string]chan *Event // requests without reply; guarded by mu
	err     error                  // why done is closed; guarded by mu
}

// Dial connects and waits for the welcome.
func Dial(ctx context.Context, url string, opt Options) (*Conn, error) {
	d := opt.Dialer
	if d == nil {
		d = websocket.DefaultDialer
	}
	d2 := *d
	d2.Subprotocols = []string{"relay.v1"}
	if opt.TLSConfig != nil {
		d2.TLSClientConfig = opt.TLSConfig
	}
	h := opt.Header.Clone()
	if h == nil {
		h = http.Header{}
	}
	if opt.Token != "" {
		h.Set("Authorization", "Bearer "+opt.Token)
	}
	ws, res, err := d2.DialContext(ctx, url, h)
	if err != nil {
		if res != nil && res.StatusCode != http.StatusSwitchingProtocols {
			return nil, refusedError(res)
		}
		return nil, fmt.Errorf("connecting: %w", err)
	}
	c := &Conn{ws: ws, opt: opt, done: make(chan struct{}), waiting: make(map[string]chan *Event)}
	first := make(chan *Event, 1)
	go c.read(first)
	select {
	case c.welcome = <-first:
		return c, nil
	case <-c.done:
		select { // it may have been the last thing but one that was said
		case c.welcome = <-first:
			return c, nil
		default:
			return nil, c.Err()
		}
	case <-ctx.Done():
		_ = c.ws.Close()
		<-c.done
		return nil, ctx.Err()
	}
}

// Welcome is the first event of the connection.
func (c *Conn) Welcome() *Event { return c.welcome }

// Done is closed when the connection has ended; Err says why.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err is nil while the connection lives, then a *CloseError.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

func (c *Conn) read(first chan<- *Event) {
	defer close(c.done)
	for {
		_, b, err := c.ws.ReadMessage()
		if err != nil {
			c.ended(err)
			return
		}
		e := &Event{Raw: b}
		if err := json.Unmarshal(b, e); err != nil {
			c.ended(fmt.Errorf("reading a frame: %w", err))
			_ = c.ws.Close()
			return
		}
		if first != nil {
			first <- e
			first = nil
		}
		if c.opt.Handler != nil {
			c.opt.Handler(e)
		}
		if e.ID != "" {
			c.mu.Lock()
			ch := c.waiting[e.ID]
			delete(c.waiting, e.ID)
			c.mu.Unlock()
			if ch != nil {
				ch <- e
			}
		}
	}
}

func (c *Conn) ended(err error) {
	out := &CloseError{Err: err}
	var ce *websocket.CloseError
	if errors.As(err, &ce) && ce.Code != websocket.CloseAbnormalClosure {
		out.Code, out.Reason = ce.Code, ce.Text
	}
	_ = c.ws.Close()
	c.mu.Lock()
	c.err = out
	c.mu.Unlock()
}

// Send writes a request and does not wait for a reply.
func (c *Conn) Send(r *Request) error {
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encoding %s: %w", r.Type, err)
	}
	return c.SendRaw(b)
}

// SendRaw writes a text frame as it is.
func (c *Conn) SendRaw(b []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.ws.WriteMessage(websocket.TextMessage, b)
}

// Do writes a request and waits for its reply. A reply of type error is
// returned as *Error. r.ID is chosen if it is empty.
func (c *Conn) Do(ctx context.Context, r *Request) (*Event, error) {
	ch := make(chan *Event, 1)
	c.mu.Lock()
	if r.ID == "" {
		c.next++
		r.ID = strconv.Itoa(c.next)
	}
	c.waiting[r.ID] = ch
	c.mu.Unlock()
	if err := c.Send(r); err != nil {
		c.forget(r.ID)
		if ended := c.Err(); ended != nil { // which says more
			return nil, ended
		}
		return nil, err
	}
	select {
	case e := <-ch:
		return reply(e)
	case <-ctx.Done():
		c.forget(r.ID)
		return nil, ctx.Err()
	case <-c.done:
		select { // the reply may have been the last thing said
		case e := <-ch:
			return reply(e)
		default:
			return nil, c.Err()
		}
	}
}

func reply(e *Event) (*Event, error) {
	if e.Type == "error" {
		return nil, &Error{*e}
	}
	return e, nil
}

func (c *Conn) forget(id string) {
	c.mu.Lock()
	delete(c.waiting, id)
	c.mu.Unlock()
}

// Create makes a room; an empty roomID leaves its name to the server.
func (c *Conn) Create(ctx context.Context, roomID string, u *User) (*Event, error) {
	return c.Do(ctx, &Request{Type: "create", RoomID: roomID, User: u})
}

// Join enters a room; resume, if not nil, asks for what came after it.
func (c *Conn) Join(ctx context.Context, roomID string, u *User, resume *Position) (*Event, error) {
	return c.Do(ctx, &Request{Type: "join", RoomID: roomID, User: u, Resume: resume})
}

// Chat publishes a text and waits for its ack.
func (c *Conn) Chat(ctx context.Context, roomID, text string) (*Event, error) {
	b, err := json.Marshal(text)
	if err != nil {
		return nil, err
	}
	return c.Do(ctx, &Request{Type: "chat", RoomID: roomID, Message: b})
}

// Exit leaves a room.
func (c *Conn) Exit(ctx context.Context, roomID string) error {
	_, err := c.Do(ctx, &Request{Type: "exit", RoomID: roomID})
	return err
}

// Close says goodbye and waits for the server to answer, at most a second.
func (c *Conn) Close() error {
	err := c.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(time.Second))
	select {
	case <-c.done:
	case <-time.After(time.Second):
	}
	_ = c.ws.Close()
	<-c.done
	if errors.Is(err, websocket.ErrCloseSent) {
		return nil
	}
	return err
}

// Abort cuts the connection without a word, as a lost network does.
func (c *Conn) Abort() {
	nc := c.ws.NetConn()
	if t, ok := nc.(*tls.Conn); ok {
		nc = t.NetConn() // TLS says goodbye, and waits 5 s for who does not read
	}
	_ = nc.Close()
	<-c.done
}
