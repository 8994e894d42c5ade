package bustest

import (
	"fmt"
	"slices"
	"time"

	"github.com/wsrelay/relay/internal/bus"
)

// kept is the retention of rooms whose bounds a test is not about; plain that
// of rooms without history.
var (
	kept  = bus.Retention{Keep: 10_000, For: time.Hour}
	plain = bus.Retention{}
)

// chat makes a message with every field set that travels.
func chat(room, member, body string, keep bus.Retention) *bus.Message {
	return &bus.Message{Retention: keep, Event: bus.Event{
		Kind: bus.Chat, Room: room, ID: bus.NewMessageID(), Time: time.Now().UnixMilli(),
		Sender: bus.Sender{Member: member, User: user(member), Conn: "conn-" + member},
		Body:   []byte(body),
		Trace:  bus.Trace{TraceID: [16]byte{1, 2}, SpanID: [8]byte{3}, Flags: 1},
	}}
}

func keyed(m *bus.Message, key string, digest byte) *bus.Message {
	m.Key, m.Digest = key, [16]byte{digest}
	return m
}

func user(member string) []byte { return fmt.Appendf(nil, `{"id":%q}`, member) }

// entry is a plain wish to be a member, announced and listed.
func entry(room, member string, keep bus.Retention) *bus.Entry {
	return &bus.Entry{
		Room: room, Member: member, User: user(member), Presence: true, Announce: true,
		Retention: keep, Idle: time.Hour,
	}
}

// of picks the events of some kinds.
func of(events []*bus.Event, kinds ...bus.Kind) []*bus.Event {
	var picked []*bus.Event
	for _, e := range events {
		if slices.Contains(kinds, e.Kind) {
			picked = append(picked, e)
		}
	}
	return picked
}

// about picks the comings and goings of a member.
func about(events []*bus.Event, member string) []*bus.Event {
	var picked []*bus.Event
	for _, e := range of(events, bus.Joined, bus.Left) {
		if e.Sender.Member == member {
			picked = append(picked, e)
		}
	}
	return picked
}

func index(events []*bus.Event, id bus.MessageID) int {
	return slices.IndexFunc(events, func(e *bus.Event) bool { return e.ID == id && e.Kind == bus.Chat })
}

// atLeast is the condition that n chats came.
func atLeast(n int) func([]*bus.Event) bool {
	return func(events []*bus.Event) bool { return len(of(events, bus.Chat)) >= n }
}

func seqs(events []*bus.Event) []uint64 {
	list := make([]uint64, 0, len(events))
	for _, e := range events {
		list = append(list, e.Seq)
	}
	return list
}

// span lists from to to, inclusive.
func span(from, to uint64) []uint64 {
	list := []uint64{}
	for ; from <= to; from++ {
		list = append(list, from)
	}
	return list
}

func sorted(users [][]byte) []string {
	list := make([]string, 0, len(users))
	for _, u := range users {
		list = append(list, string(u))
	}
	slices.Sort(list)
	return list
}
