package filter

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"time"

	pb "github.com/wsrelay/relay/plugins/filter/filterpb"
)

// The adapters between these types and the wire. They lose nothing but what the
// wire cannot say: a span of time is cut to its unit there, and text that is no
// UTF-8 is mended, since protobuf would refuse the whole batch for it.

// Proto is m on the wire, to be answered under the given call number.
func (m *Message) Proto(call uint64) *pb.Message {
	p := &pb.Message{
		Call: call, Id: m.ID, Event: pb.Event(m.Event), Endpoint: valid(m.Endpoint), Room: valid(m.Room),
		User: m.User.proto(), Body: m.Body, ContentType: m.ContentType, BudgetUs: micros(m.Budget),
		Traceparent: valid(m.Traceparent), Labels: validMap(m.Labels), DryRun: m.DryRun,
	}
	if len(m.Texts) > 0 {
		texts := make([]pb.Text, len(m.Texts))
		p.Texts = make([]*pb.Text, len(m.Texts))
		for i, t := range m.Texts {
			texts[i].Pointer, texts[i].Text = valid(t.Pointer), valid(t.Text)
			p.Texts[i] = &texts[i]
		}
	}
	for _, r := range m.Recent {
		p.Recent = append(p.Recent, &pb.Recent{Id: valid(r.ID), UserId: valid(r.UserID), Body: r.Body, TimeUnixMs: r.Time.UnixMilli()})
	}
	return p
}

func (u *User) proto() *pb.User {
	p := &pb.User{Id: valid(u.ID), Name: valid(u.Name), Guest: u.Guest, Ip: valid(u.IP)}
	for _, r := range u.Roles {
		p.Roles = append(p.Roles, valid(r))
	}
	for k, v := range u.Claims {
		if p.ClaimsJson == nil {
			p.ClaimsJson = make(map[string]string, len(u.Claims))
		}
		p.ClaimsJson[valid(k)] = valid(string(v))
	}
	return p
}

// MessageFromProto is a message as the wire brought it.
func MessageFromProto(p *pb.Message) *Message {
	m := &Message{
		ID: p.GetId(), Event: Event(p.GetEvent()), Endpoint: p.GetEndpoint(), Room: p.GetRoom(),
		Body: p.GetBody(), ContentType: p.GetContentType(), Budget: time.Duration(p.GetBudgetUs()) * time.Microsecond,
		Traceparent: p.GetTraceparent(), Labels: p.GetLabels(), DryRun: p.GetDryRun(),
	}
	if u := p.GetUser(); u != nil {
		m.User = User{ID: u.GetId(), Name: u.GetName(), Roles: u.GetRoles(), Guest: u.GetGuest(), IP: u.GetIp()}
		for k, v := range u.GetClaimsJson() {
			if m.User.Claims == nil {
				m.User.Claims = make(map[string]json.RawMessage, len(u.GetClaimsJson()))
			}
			m.User.Claims[k] = json.RawMessage(v)
		}
	}
	if len(p.GetTexts()) > 0 {
		m.Texts = make([]Text, len(p.GetTexts()))
		for i, t := range p.GetTexts() {
			m.Texts[i] = Text{t.GetPointer(), t.GetText()}
		}
	}
	for _, r := range p.GetRecent() {
		m.Recent = append(m.Recent, Recent{r.GetId(), r.GetUserId(), r.GetBody(), time.UnixMilli(r.GetTimeUnixMs())})
	}
	return m
}

// Proto is v on the wire as the answer to call. An err says that there is no
// verdict, and why; the rest of v goes nowhere then.
func (v *Verdict) Proto(call uint64, err error) *pb.Verdict {
	if err != nil {
		return &pb.Verdict{Call: call, Error: nonempty(valid(err.Error())), ElapsedUs: micros(v.Elapsed)}
	}
	p := &pb.Verdict{
		Call: call, Action: pb.Action(v.Action), Body: v.Body, Code: valid(v.Code), Reason: valid(v.Reason),
		Labels: validMap(v.Labels), Stop: v.Final, ElapsedUs: micros(v.Elapsed),
		Flags: flagsProto(v.Flags), Sanctions: sanctionsProto(v.Sanctions),
	}
	for _, t := range v.Texts {
		p.Texts = append(p.Texts, valid(t))
	}
	return p
}

// VerdictFromProto is a verdict as the wire brought it; an error is the
// plugin's, who has no verdict. The action may be one that does not exist.
func VerdictFromProto(p *pb.Verdict) (Verdict, error) {
	v := Verdict{Elapsed: time.Duration(p.GetElapsedUs()) * time.Microsecond}
	if p.GetError() != "" {
		return v, errors.New(p.GetError())
	}
	v.Action, v.Body, v.Texts = Action(min(math.MaxUint8, uint32(p.GetAction()))), p.GetBody(), p.GetTexts()
	v.Code, v.Reason, v.Labels, v.Final = p.GetCode(), p.GetReason(), p.GetLabels(), p.GetStop()
	v.Flags, v.Sanctions = flagsFromProto(p.GetFlags()), sanctionsFromProto(p.GetSanctions())
	return v, nil
}

// LateProto is v on the wire as a later verdict on the message id.
func (v *Verdict) LateProto(id string) *pb.Late {
	return &pb.Late{
		Id: valid(id), Redact: v.Action == ActionReject || v.Action == ActionDrop, Code: valid(v.Code), Reason: valid(v.Reason),
		Flags: flagsProto(v.Flags), Sanctions: sanctionsProto(v.Sanctions),
	}
}

// LateFromProto is a later verdict as the wire brought it: Reject to take the
// message back, Allow to leave it.
func LateFromProto(p *pb.Late) (id string, v Verdict) {
	v = Verdict{Code: p.GetCode(), Reason: p.GetReason(), Flags: flagsFromProto(p.GetFlags()), Sanctions: sanctionsFromProto(p.GetSanctions())}
	if p.GetRedact() {
		v.Action = ActionReject
	}
	return p.GetId(), v
}

func flagsProto(flags []Flag) (out []*pb.Flag) {
	for _, f := range flags {
		out = append(out, &pb.Flag{Label: valid(f.Label), Score: f.Score})
	}
	return out
}

func flagsFromProto(flags []*pb.Flag) (out []Flag) {
	for _, f := range flags {
		out = append(out, Flag{f.GetLabel(), f.GetScore()})
	}
	return out
}

func sanctionsProto(list []Sanction) (out []*pb.Sanction) {
	for _, s := range list {
		p := &pb.Sanction{Kind: pb.Sanction_Kind(s.Kind), DurationMs: s.For.Milliseconds(), Reason: valid(s.Reason)}
		if s.Everywhere {
			p.Scope = pb.Sanction_SCOPE_EVERYWHERE
		}
		out = append(out, p)
	}
	return out
}

func sanctionsFromProto(list []*pb.Sanction) (out []Sanction) {
	for _, p := range list {
		out = append(out, Sanction{
			Kind:       SanctionKind(min(math.MaxUint8, uint32(p.GetKind()))),
			Everywhere: p.GetScope() == pb.Sanction_SCOPE_EVERYWHERE,
			For:        millis(p.GetDurationMs()), Reason: p.GetReason(),
		})
	}
	return out
}

// millis keeps a foreign number from overflowing. A negative one stays negative,
// for the host to refuse: 0 would make a mute endless.
func millis(ms int64) time.Duration {
	const most = math.MaxInt64 / int64(time.Millisecond)
	return time.Duration(min(max(ms, -1), most)) * time.Millisecond
}

func micros(d time.Duration) uint32 {
	return uint32(min(max(d.Microseconds(), 0), math.MaxUint32))
}

func valid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

func validMap(m map[string]string) map[string]string {
	if len(m) == 0 {
		return nil
	}
	out := make(map[string]string, len(m))
	for k, v := range m {
		out[valid(k)] = valid(v)
	}
	return out
}

func nonempty(s string) string {
	if s == "" {
		return "unknown error"
	}
	return s
}
