package filter

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Event is what a message is about.
type Event uint8

const (
	Chat   Event = 1 // a message for a room
	Signal Event = 2 // typing, cursors: not stored
	Join   Event = 3 // a user wants to join; no body, and Allow or Reject alone make sense
)

func (e Event) String() string {
	switch e {
	case Chat:
		return "chat"
	case Signal:
		return "signal"
	case Join:
		return "join"
	}
	return fmt.Sprintf("event(%d)", uint8(e))
}

// Message is one thing to judge. A judge may keep it; nobody writes to it after.
type Message struct {
	// ID is the message's for good, over instances and retries: 32 hex digits,
	// and the id of its trace. Empty for joins and signals.
	ID       string
	Event    Event
	Endpoint string
	Room     string
	User     User

	// Body is the message as JSON, as the sender wrote it or as the filter
	// before this one left it. Texts are the parts of it that people read, as
	// the room's policy (messages.text in relay.yaml) points them out.
	Body        json.RawMessage
	Texts       []Text
	ContentType string // "application/json"

	// Budget is the time until relay stops waiting for this verdict. The context
	// that a judge gets ends with it.
	Budget      time.Duration
	Traceparent string            // W3C trace context of the span that waits
	Labels      map[string]string // what earlier filters of the chain attached
	Recent      []Recent          // newest last, as many as Needs.Recent asked for
	DryRun      bool              // the verdict is recorded, not applied

	later func(Verdict) error
}

// User is who sent a message.
type User struct {
	ID    string
	Name  string
	Roles []string
	Guest bool
	// Claims holds those of Needs.Claims that the user has.
	Claims map[string]json.RawMessage
	IP     string // if Needs.IP asked for it
}

// HasRole reports whether the user has the role.
func (u *User) HasRole(role string) bool {
	for _, r := range u.Roles {
		if r == role {
			return true
		}
	}
	return false
}

// Text is a string inside a body.
type Text struct {
	Pointer string // JSON pointer, RFC 6901
	Text    string
}

// Recent is an earlier message of the room.
type Recent struct {
	ID     string
	UserID string
	Body   json.RawMessage
	Time   time.Time // to the millisecond
}

// Text is what people read of the message: its texts, a line each. Empty where
// the room's policy finds no text in the body.
func (m *Message) Text() string {
	switch len(m.Texts) {
	case 0:
		return ""
	case 1:
		return m.Texts[0].Text
	}
	var b strings.Builder
	for i, t := range m.Texts {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(t.Text)
	}
	return b.String()
}

// WithText is content for [Modify] in which people read s and nothing else: s
// takes the place of the first text, and the others become empty. The rest of
// the body stays as it is.
func (m *Message) WithText(s string) Content {
	texts := make([]string, max(1, len(m.Texts)))
	texts[0] = s
	return Content{texts: texts}
}

// MapText is content for [Modify] in which every text went through f.
func (m *Message) MapText(f func(string) string) Content {
	texts := make([]string, len(m.Texts))
	for i, t := range m.Texts {
		texts[i] = f(t.Text)
	}
	return Content{texts: texts}
}

// Content is what a message becomes.
type Content struct {
	body  json.RawMessage
	texts []string
}

// JSON is content that replaces the whole body, which must be valid JSON.
func JSON(body []byte) Content { return Content{body: body} }

// ErrNotLater is what [Message.Later] returns where relay would not listen.
var ErrNotLater = errors.New("filter: a later verdict is not possible here")

// Later gives a second verdict within 60 seconds after the first one, for
// filters in mode async: Reject and Drop take the message back, flags and
// sanctions are added. Relay does nothing of it unless relay.yaml allows the
// filter the action redact. An error says that it cannot even be sent.
func (m *Message) Later(v Verdict) error {
	if m.later == nil || m.ID == "" {
		return ErrNotLater
	}
	return m.later(v)
}

// OnLater says where later verdicts on m go. It is for hosts and test kits.
func (m *Message) OnLater(f func(Verdict) error) { m.later = f }
