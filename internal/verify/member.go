package verify

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	client "github.com/wsrelay/relay/client/go"
)

// Member is a client that stays in one room whatever happens: it reconnects to
// the next instance, resumes, pages history where a resume is not possible, and
// sends its messages again under their keys until they are acked. Its Record
// says what it saw.
type Member struct {
	Room, Name string
	URLs       []string      // instances, tried in turn; Go changes them
	Every      time.Duration // between two messages; 0: only listens
	Buffer     int           // events that may wait to be looked at; default 10,000
	TLS        *tls.Config   // for wss; nil: the system's authorities

	mu      sync.Mutex
	rec     Record // guarded by mu
	pending *outgo // guarded by mu
	count   int    // messages made; guarded by mu
	quiet   bool   // makes no new messages; guarded by mu
	live    bool   // joined, and up to date; guarded by mu
	joins   int    // how often it was let into the room; guarded by mu
	epoch   string // guarded by mu
	last    uint64 // seq up to which the room was seen; guarded by mu
	drop    func() // cuts the connection in use; guarded by mu
}

// outgo is the message on its way; a member has one at a time, so that its own
// order is never in its own hands.
type outgo struct {
	text  string
	since time.Time
}

// Run keeps the member going until ctx ends.
func (m *Member) Run(ctx context.Context) {
	m.mu.Lock()
	m.rec = Record{Room: m.Room, Client: m.Name, Acked: map[string]uint64{}, Sent: map[string]bool{}}
	m.mu.Unlock()
	at := rand.IntN(1 << 16)
	for ctx.Err() == nil {
		m.mu.Lock()
		url := m.URLs[at%len(m.URLs)]
		m.mu.Unlock()
		m.connect(ctx, url)
		at++
		pause(ctx, 20*time.Millisecond+rand.N(100*time.Millisecond))
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// connect lives through one connection.
func (m *Member) connect(ctx context.Context, url string) {
	events := make(chan *client.Event, cmp.Or(m.Buffer, 10_000))
	over := make(chan struct{}) // closed before Abort, which waits for the reader
	dialling, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	c, err := client.Dial(dialling, url, client.Options{TLSConfig: m.TLS, Handler: func(e *client.Event) {
		select {
		case events <- e:
		case <-over:
		}
	}})
	var refused *client.RefusedError
	if errors.As(err, &refused) {
		pause(ctx, refused.RetryAfter)
	}
	if err != nil {
		return
	}
	defer c.Abort()
	defer close(over)
	m.mu.Lock()
	m.live, m.drop = false, c.Abort
	m.mu.Unlock()
	s := &sitting{m: m, c: c}
	if s.join() != nil {
		return
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case e := <-events:
			if !s.event(e) {
				return
			}
		case <-tick.C:
			s.send()
		case <-c.Done():
			for len(events) > 0 { // what came before the end counts
				if !s.event(<-events) {
					return
				}
			}
			return
		case <-ctx.Done():
			for len(events) > 0 {
				if !s.event(<-events) {
					return
				}
			}
			return
		}
	}
}

// sitting is a member on one connection.
type sitting struct {
	m      *Member
	c      *client.Conn
	joined bool
	paging bool            // fetching history that a resume could not bring
	upto   uint64          // paging: the position of joined
	held   []*client.Event // came live while paging
	trying string          // text that was sent on this connection and not answered
	next   time.Time       // of the next message
	began  time.Time
}

func (s *sitting) join() error {
	m := s.m
	m.mu.Lock()
	defer m.mu.Unlock()
	s.began = time.Now()
	r := &client.Request{Type: "join", ID: "join", RoomID: m.Room, User: &client.User{ID: m.Name, Name: m.Name}}
	if m.epoch != "" {
		r.Resume = &client.Position{Epoch: m.epoch, Seq: m.last}
	}
	return s.c.Send(r)
}

// event handles what the server says; false ends the connection.
func (s *sitting) event(e *client.Event) bool {
	m := s.m
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case e.Type == "joined":
		return s.onJoined(e)
	case e.Type == "history":
		return s.onHistory(e)
	case e.Type == "error":
		return s.onError(e)
	case e.Type == "members", e.Type == "member_joined", e.Type == "member_left":
		m.roster(e)
		return true
	case s.paging:
		s.held = append(s.held, e)
		return true
	default:
		s.live(e)
		return true
	}
}

func (s *sitting) onJoined(e *client.Event) bool {
	m := s.m
	first := m.epoch == ""
	s.joined = true
	m.joins++
	m.roster(e)
	switch {
	case first:
		m.rec.Entries = append(m.rec.Entries, Entry{Kind: Entered, Seq: e.Seq})
		m.epoch, m.last, m.live = e.Epoch, e.Seq, true
	case e.Recovered:
		for i := range e.Messages {
			m.saw(&e.Messages[i])
		}
		m.epoch, m.last, m.live = e.Epoch, e.Seq, true
	default: // told that a resume is not possible: read what history still holds
		m.rec.Entries = append(m.rec.Entries, Entry{Kind: Told})
		if m.epoch != e.Epoch || m.last > e.Seq {
			// Ahead of a fork, or of a stream that began anew: what it has seen
			// counts for nothing, and all that is stored is read.
			m.rec.Entries = append(m.rec.Entries, Entry{Kind: Forked})
			m.epoch, m.last = e.Epoch, 0
		}
		s.paging, s.upto = true, e.Seq
		return s.page()
	}
	return true
}

func (s *sitting) page() bool {
	after := s.m.last
	return s.c.Send(&client.Request{Type: "history", ID: "history", RoomID: s.m.Room, After: &after, Limit: 1000}) == nil
}

func (s *sitting) onHistory(e *client.Event) bool {
	m := s.m
	for i := range e.Messages {
		if e.Messages[i].Seq <= s.upto { // history goes on; what is beyond joined comes live
			m.saw(&e.Messages[i])
		}
	}
	if len(e.Messages) > 0 && m.last < s.upto && e.Messages[0].Seq <= s.upto {
		return s.page()
	}
	m.last, s.paging, m.live = max(m.last, s.upto), false, true
	held := s.held
	s.held = nil
	for _, h := range held {
		s.live(h)
	}
	return true
}

func (s *sitting) onError(e *client.Event) bool {
	switch e.ID {
	case "join", "history":
		return false // try again on the next connection
	case s.trying:
		s.trying, s.next = "", time.Now().Add(100*time.Millisecond)
	}
	return true
}

// live handles what has a place in the stream.
func (s *sitting) live(e *client.Event) {
	m := s.m
	switch e.Type {
	case "chat", "redacted":
		m.saw(e)
	case "ack":
		s.onAck(e)
	case "notice":
		m.rec.Entries = append(m.rec.Entries, Entry{Kind: Told})
		if e.Kind == "epoch" {
			m.rec.Entries = append(m.rec.Entries, Entry{Kind: Forked, Seq: e.To})
			m.epoch, m.last = e.Epoch, e.To
		} else if e.To > m.last {
			m.last = e.To
		}
	}
}

func (s *sitting) onAck(e *client.Event) {
	m := s.m
	if m.pending == nil || e.ID != m.pending.text {
		return
	}
	text := m.pending.text
	m.rec.Acked[text] = e.Seq
	m.rec.Slowest = max(m.rec.Slowest, time.Since(m.pending.since))
	if !m.has(text) {
		// An ack in its place is how a sender sees its own message. A duplicate
		// one is out of place: it tells of a message that went by before.
		m.rec.Entries = append(m.rec.Entries, Entry{Kind: Delivered, Seq: e.Seq, Text: text})
		if !e.Duplicate {
			m.last = e.Seq
		}
	}
	m.pending, s.trying = nil, ""
}

// has reports whether a message was seen, and not made void since.
func (m *Member) has(text string) bool {
	holds := uint64(math.MaxUint64)
	for i := len(m.rec.Entries) - 1; i >= 0; i-- {
		switch e := m.rec.Entries[i]; {
		case e.Kind == Forked:
			holds = min(holds, e.Seq)
		case e.Kind == Delivered && e.Text == text && e.Seq <= holds:
			return true
		}
	}
	return false
}

// saw notes a message of the room. mu is held.
func (m *Member) saw(e *client.Event) {
	if e.Type == "chat" {
		m.rec.Entries = append(m.rec.Entries, Entry{Kind: Delivered, Seq: e.Seq, Text: e.Text()})
	}
	m.last = e.Seq // in a new epoch numbers may begin anew
}

// roster keeps the list of members as a client shows it. mu is held.
func (m *Member) roster(e *client.Event) {
	switch e.Type {
	case "joined", "members":
		m.rec.members = m.rec.members[:0]
		for _, u := range e.Members {
			m.rec.members = append(m.rec.members, u.ID)
		}
	case "member_joined":
		// Where all was lost, and that was told, somebody may come who never went.
		if !toldIn(m.rec.Entries) || !slices.Contains(m.rec.members, e.User.ID) {
			m.rec.members = append(m.rec.members, e.User.ID)
		}
	case "member_left":
		for i, id := range m.rec.members {
			if id == e.User.ID {
				m.rec.members = append(m.rec.members[:i:i], m.rec.members[i+1:]...)
				break
			}
		}
	}
}

// send sends what is due: the pending message, again if it has no ack, or a new
// one. A join that is not answered ends the connection.
func (s *sitting) send() {
	m := s.m
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if !s.joined || s.paging {
		if now.Sub(s.began) > 8*time.Second {
			go s.c.Abort()
		}
		return
	}
	if s.trying != "" || m.Every == 0 || now.Before(s.next) {
		return
	}
	if m.pending == nil {
		if m.quiet {
			return
		}
		m.count++
		m.pending = &outgo{text: fmt.Sprintf("%s.%d", m.Name, m.count), since: now}
		m.rec.Sent[m.pending.text] = true
	}
	text := m.pending.text
	body, err := json.Marshal(text)
	if err != nil {
		return
	}
	if s.c.Send(&client.Request{Type: "chat", ID: text, RoomID: m.Room, Message: body, Key: text}) == nil {
		s.trying = text
		s.next = now.Add(m.Every/2 + rand.N(m.Every))
	}
}

// Go sends the member to other instances from its next connection on.
func (m *Member) Go(urls ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.URLs = urls
}

// Joins is how often the member was let into its room so far.
func (m *Member) Joins() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.joins
}

// Quiet ends new messages; the one on its way is still brought home.
func (m *Member) Quiet() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.quiet = true
}

// Drop cuts the member's connection, as a lost network does.
func (m *Member) Drop() {
	m.mu.Lock()
	drop := m.drop
	m.mu.Unlock()
	if drop != nil {
		drop()
	}
}

// Settled is nil when nothing of the member's is on its way and it has seen the
// room up to last.
func (m *Member) Settled(last uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case !m.live:
		return fmt.Errorf("%s is not connected", m.Name)
	case m.pending != nil:
		return fmt.Errorf("%s waits for the ack of %s", m.Name, m.pending.text)
	case m.last < last:
		return fmt.Errorf("%s has seen %s up to %d of %d", m.Name, m.Room, m.last, last)
	}
	return nil
}

// Members is who is in the room, as this client would show it.
func (m *Member) Members() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string(nil), m.rec.members...)
}

// Record is what the member saw. It is to be read when Run has returned.
func (m *Member) Record() *Record { return &m.rec }

// History reads all that is stored of a room, through an instance. secure is for
// wss, as Member.TLS.
func History(ctx context.Context, url, room string, secure *tls.Config) ([]Stored, error) {
	c, err := client.Dial(ctx, url, client.Options{TLSConfig: secure})
	if err != nil {
		return nil, err
	}
	defer c.Abort()
	if _, err := c.Join(ctx, room, &client.User{ID: "auditor"}, nil); err != nil {
		return nil, fmt.Errorf("joining %s: %w", room, err)
	}
	var list []Stored
	for after := uint64(0); ; {
		e, err := c.Do(ctx, &client.Request{Type: "history", RoomID: room, After: &after, Limit: 1000})
		if err != nil {
			return nil, fmt.Errorf("history of %s: %w", room, err)
		}
		if len(e.Messages) == 0 {
			break
		}
		for i := range e.Messages {
			list = append(list, Stored{e.Messages[i].Seq, e.Messages[i].Text()})
		}
		after = list[len(list)-1].Seq
	}
	if err := c.Exit(ctx, room); err != nil {
		return nil, err
	}
	return list, nil
}
