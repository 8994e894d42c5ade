package room

import (
	"github.com/wsrelay/relay/internal/bus"
	"github.com/wsrelay/relay/internal/wire"
	"github.com/wsrelay/relay/telemetry"
)

// encode makes the frame that members get for an event, nil for kinds that mean
// nothing to them. own adds what only the sender's own sockets see.
func encode(e *bus.Event, own bool) *wire.Frame {
	switch e.Kind {
	case bus.Chat, bus.Shadow:
		c := chatOf(e)
		if own {
			c.Key = e.Key
		}
		return c.Frame()
	case bus.Signal:
		return (&wire.Signal{RoomID: e.Room, UserID: e.Sender.Member, User: e.Sender.User, Data: e.Body}).Frame()
	case bus.Joined:
		return (&wire.MemberJoined{RoomID: e.Room, User: e.Sender.User, Count: e.Count}).Frame()
	case bus.Left:
		return (&wire.MemberLeft{RoomID: e.Room, User: e.Sender.User, Count: e.Count, Reason: e.Reason}).Frame()
	case bus.Redacted:
		return redactedOf(e).Frame()
	case bus.Notice:
		return (&wire.Notice{RoomID: e.Room, Kind: noticeKind(e.Notice), Epoch: e.Epoch, From: e.From, To: e.To}).Frame()
	case bus.Resync:
		return (&wire.Members{RoomID: e.Room, Members: e.Members, Count: e.Count}).Frame()
	}
	return nil
}

func noticeKind(k bus.NoticeKind) wire.NoticeKind {
	switch k {
	case bus.NoticeEpoch:
		return wire.NoticeEpoch
	case bus.NoticeLost:
		return wire.NoticeLost
	default:
		return wire.NoticeGap
	}
}

func chatOf(e *bus.Event) *wire.Chat {
	return &wire.Chat{
		RoomID: e.Room, Seq: e.Seq, MessageID: e.ID, Time: e.Time,
		User: e.Sender.User, Message: e.Body, Traceparent: traceparent(e),
	}
}

func redactedOf(e *bus.Event) *wire.Redacted {
	return &wire.Redacted{RoomID: e.Room, Seq: e.Seq, MessageID: e.ID, Target: e.Target, Reason: e.Reason}
}

// traceparent is the context of a sampled message, empty for all others.
func traceparent(e *bus.Event) string {
	c := traceOf(e)
	if !c.Sampled() {
		return ""
	}
	return c.Traceparent()
}

// traceOf is the trace context that an event carries.
func traceOf(e *bus.Event) telemetry.Context { return telemetry.Context(e.Trace).Of(e.ID) }

// WireEvents turns stored events into what joined and history list, in exactly
// the shape that they had live.
func WireEvents(events []*bus.Event) []wire.Event {
	list := make([]wire.Event, 0, len(events))
	for _, e := range events {
		switch e.Kind {
		case bus.Chat:
			list = append(list, chatOf(e))
		case bus.Redacted:
			list = append(list, redactedOf(e))
		}
	}
	return list
}
