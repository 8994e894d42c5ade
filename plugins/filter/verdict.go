package filter

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Action is what happens to a message.
type Action uint8

const (
	ActionAllow  Action = 0
	ActionModify Action = 1
	ActionReject Action = 2
	ActionDrop   Action = 3
	ActionShadow Action = 4
)

var actionNames = [...]string{"allow", "modify", "reject", "drop", "shadow"}

func (a Action) String() string {
	if int(a) < len(actionNames) {
		return actionNames[a]
	}
	return fmt.Sprintf("action(%d)", uint8(a))
}

// ParseAction reads an action's name.
func ParseAction(s string) (Action, bool) {
	i := slices.Index(actionNames[:], s)
	return Action(max(0, i)), i >= 0
}

// SanctionKind is what befalls the author of a message.
type SanctionKind uint8

const (
	Warn SanctionKind = 1 // tell them
	Mute SanctionKind = 2 // they may not publish
	Kick SanctionKind = 3 // they leave, and may come back
	Ban  SanctionKind = 4 // they leave, and may not come back
)

var sanctionNames = [...]string{"", "warn", "mute", "kick", "ban"}

func (k SanctionKind) String() string {
	if k > 0 && int(k) < len(sanctionNames) {
		return sanctionNames[k]
	}
	return fmt.Sprintf("sanction(%d)", uint8(k))
}

// ParseSanction reads a sanction's name.
func ParseSanction(s string) (SanctionKind, bool) {
	i := slices.Index(sanctionNames[:], s)
	return SanctionKind(max(0, i)), i > 0
}

// Sanction is against the author of a message.
type Sanction struct {
	Kind       SanctionKind
	Everywhere bool          // in all rooms, not only in the message's
	For        time.Duration // of Mute and Ban, in whole milliseconds; 0 means until it is lifted
	Reason     string
}

// Flag marks a message for people to look at.
type Flag struct {
	Label string
	Score float32 // 0 to 1
}

// Verdict is what a filter says of a message. Make it with Allow, Modify,
// Reject, Drop or Shadow, and add to it: the methods return a copy.
type Verdict struct {
	Action Action

	// Body or Texts say what a modified message becomes: the whole, or one
	// string for each of the message's texts.
	Body  json.RawMessage
	Texts []string

	Code      string // a word for programs: [a-z0-9_.-], at most 64 bytes
	Reason    string // a sentence for the user, at most 512 bytes
	Flags     []Flag
	Sanctions []Sanction
	Labels    map[string]string // for the filters that follow
	Final     bool              // skip the rest of the chain
	Elapsed   time.Duration     // what the judging took; the SDK fills it in
}

// Allow lets the message pass as it is.
func Allow() Verdict { return Verdict{} }

// Modify lets the message pass as c says; see [Message.WithText],
// [Message.MapText] and [JSON].
func Modify(c Content) Verdict {
	return Verdict{Action: ActionModify, Body: c.body, Texts: c.texts}
}

// Reject refuses the message. The sender is told code (a word for programs) and
// reason (a sentence for people).
func Reject(code, reason string) Verdict {
	return Verdict{Action: ActionReject, Code: code, Reason: reason}
}

// Drop lets the message vanish while its sender sees it acknowledged. The code
// goes to logs and traces alone.
func Drop(code string) Verdict { return Verdict{Action: ActionDrop, Code: code} }

// Shadow shows the message to its sender's own sockets alone. The code goes to
// logs and traces alone.
func Shadow(code string) Verdict { return Verdict{Action: ActionShadow, Code: code} }

// Flag marks the message for people to look at. Score is from 0 to 1.
func (v Verdict) Flag(label string, score float32) Verdict {
	v.Flags = append(slices.Clip(v.Flags), Flag{label, score})
	return v
}

// Warn tells the author that this was not all right.
func (v Verdict) Warn(reason string) Verdict { return v.sanction(Warn, 0, reason) }

// Mute keeps the author from publishing in the room for d, or until it is lifted
// where d is 0.
func (v Verdict) Mute(d time.Duration, reason string) Verdict { return v.sanction(Mute, d, reason) }

// Kick removes the author from the room.
func (v Verdict) Kick(reason string) Verdict { return v.sanction(Kick, 0, reason) }

// Ban removes the author from the room and keeps them out for d, or until it is
// lifted where d is 0.
func (v Verdict) Ban(d time.Duration, reason string) Verdict { return v.sanction(Ban, d, reason) }

func (v Verdict) sanction(k SanctionKind, d time.Duration, reason string) Verdict {
	v.Sanctions = append(slices.Clip(v.Sanctions), Sanction{Kind: k, For: d, Reason: reason})
	return v
}

// Everywhere makes the sanctions so far hold in all rooms.
func (v Verdict) Everywhere() Verdict {
	v.Sanctions = slices.Clone(v.Sanctions)
	for i := range v.Sanctions {
		v.Sanctions[i].Everywhere = true
	}
	return v
}

// Label tells the filters that follow something about the message.
func (v Verdict) Label(name, value string) Verdict {
	v.Labels = maps.Clone(v.Labels)
	if v.Labels == nil {
		v.Labels = map[string]string{}
	}
	v.Labels[name] = value
	return v
}

// Stop skips the filters that follow.
func (v Verdict) Stop() Verdict {
	v.Final = true
	return v
}
