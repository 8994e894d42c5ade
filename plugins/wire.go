package plugins

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // the codec that wire falls back on
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/wsrelay/relay/plugins/filter"
	pb "github.com/wsrelay/relay/plugins/filter/filterpb"
)

// Batches and verdicts are the bulk of what goes over a session, so they are
// written and read here without the structs and the reflection of the generated
// code, at a third of its cost. Everything else, and a verdict with more in it
// than most have, goes the generated way. A test holds both against each other.

// wire is the codec of a session.
type wire struct{}

var _ encoding.CodecV2 = wire{}

// Name implements encoding.CodecV2: on the wire it is plain protobuf.
func (wire) Name() string { return "proto" }

// batchFrame is a HostFrame with a batch.
type batchFrame struct {
	batch []parcel
	now   time.Time // which the budgets count from
}

// replyFrame is a FilterFrame: verdicts, or one of the others.
type replyFrame struct {
	verdicts []verdict
	other    *pb.FilterFrame // without verdicts; nil when there are
}

// verdict is one answer. err says that there is no verdict, and why.
type verdict struct {
	call uint64
	filter.Verdict
	err error
}

// Marshal implements encoding.CodecV2.
func (wire) Marshal(v any) (mem.BufferSlice, error) {
	f, ok := v.(*batchFrame)
	if !ok {
		return encoding.GetCodecV2("proto").Marshal(v)
	}
	size := 16
	for _, p := range f.batch {
		size += 512 + 2*len(p.msg.Body)
	}
	pool := mem.DefaultBufferPool()
	buf := pool.Get(size)
	*buf = f.append((*buf)[:0])
	return mem.BufferSlice{mem.NewBuffer(buf, pool)}, nil
}

// Unmarshal implements encoding.CodecV2.
func (wire) Unmarshal(data mem.BufferSlice, v any) error {
	f, ok := v.(*replyFrame)
	if !ok {
		return encoding.GetCodecV2("proto").Unmarshal(data, v)
	}
	buf := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer buf.Free()
	return f.read(buf.ReadOnlyData())
}

// append writes the frame: HostFrame{batch: Batch{messages: …}}.
func (f *batchFrame) append(b []byte) []byte {
	b, frame := open(b, 1)
	for _, p := range f.batch {
		var message int
		b, message = open(b, 1)
		b = appendMessage(b, p.msg, p.n, p.until.Sub(f.now))
		b = shut(b, message)
	}
	return shut(b, frame)
}

// appendMessage writes a Message's fields.
func appendMessage(b []byte, m *filter.Message, call uint64, budget time.Duration) []byte {
	b = appendUint(b, 1, call)
	b = appendText(b, 2, m.ID)
	b = appendUint(b, 3, uint64(m.Event))
	b = appendText(b, 4, m.Endpoint)
	b = appendText(b, 5, m.Room)
	b, at := open(b, 6)
	b = shut(appendUser(b, &m.User), at)
	b = appendBytes(b, 7, m.Body)
	for _, t := range m.Texts {
		b, at = open(b, 8)
		b = shut(appendText(appendText(b, 1, t.Pointer), 2, t.Text), at)
	}
	b = appendText(b, 9, m.ContentType)
	b = appendUint(b, 10, uint64(min(max(budget.Microseconds(), 0), math.MaxUint32)))
	b = appendText(b, 11, m.Traceparent)
	for k, v := range m.Labels {
		b = appendEntry(b, 12, k, v)
	}
	for _, r := range m.Recent {
		b, at = open(b, 13)
		b = appendText(appendText(b, 1, r.ID), 2, r.UserID)
		b = shut(appendUint(appendBytes(b, 3, r.Body), 4, uint64(r.Time.UnixMilli())), at)
	}
	return appendBool(b, 14, m.DryRun)
}

func appendUser(b []byte, u *filter.User) []byte {
	b = appendText(b, 1, u.ID)
	b = appendText(b, 2, u.Name)
	for _, r := range u.Roles {
		b = protowire.AppendTag(b, 3, protowire.BytesType) // an empty one counts, too
		b = protowire.AppendString(b, strings.ToValidUTF8(r, "\uFFFD"))
	}
	b = appendBool(b, 4, u.Guest)
	for k, v := range u.Claims {
		b = appendEntry(b, 5, k, string(v))
	}
	return appendText(b, 6, u.IP)
}

// open begins a nested message, and shut puts its length in front of it.
func open(b []byte, field protowire.Number) ([]byte, int) {
	b = protowire.AppendTag(b, field, protowire.BytesType)
	return append(b, 0), len(b) + 1
}

func shut(b []byte, start int) []byte {
	n := len(b) - start
	if n < 1<<7 { // one byte was left for it
		b[start-1] = byte(n)
		return b
	}
	more := protowire.SizeVarint(uint64(n)) - 1
	b = append(b, make([]byte, more)...)
	copy(b[start+more:], b[start:start+n])
	protowire.AppendVarint(b[:start-1], uint64(n))
	return b
}

func appendUint(b []byte, field protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), v)
}

func appendBool(b []byte, field protowire.Number, v bool) []byte {
	if !v {
		return b
	}
	return appendUint(b, field, 1)
}

func appendText(b []byte, field protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), strings.ToValidUTF8(s, "\uFFFD"))
}

func appendBytes(b []byte, field protowire.Number, s []byte) []byte {
	if len(s) == 0 {
		return b
	}
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), s)
}

func appendEntry(b []byte, field protowire.Number, k, v string) []byte {
	b, at := open(b, field)
	return shut(appendText(appendText(b, 1, k), 2, v), at)
}

// errWire: what came is not protobuf.
var errWire = errors.New("a frame of the plugin is malformed")

// read takes a FilterFrame apart.
func (f *replyFrame) read(b []byte) error {
	*f = replyFrame{}
	num, typ, n := protowire.ConsumeTag(b)
	if n < 0 || num != 1 || typ != protowire.BytesType {
		f.other = &pb.FilterFrame{}
		return proto.Unmarshal(b, f.other)
	}
	list, m := protowire.ConsumeBytes(b[n:])
	if m < 0 || n+m != len(b) { // of a oneof that is there twice the last counts
		f.other = &pb.FilterFrame{}
		if err := proto.Unmarshal(b, f.other); err != nil {
			return err
		}
		return f.generated()
	}
	f.verdicts = make([]verdict, 0, fields(list))
	for len(list) > 0 {
		num, typ, n := protowire.ConsumeTag(list)
		if n < 0 {
			return errWire
		}
		if num != 1 || typ != protowire.BytesType { // of a version to come
			if m = protowire.ConsumeFieldValue(num, typ, list[n:]); m < 0 {
				return errWire
			}
			list = list[n+m:]
			continue
		}
		one, m := protowire.ConsumeBytes(list[n:])
		if m < 0 {
			return errWire
		}
		v, err := readVerdict(one)
		if err != nil {
			return err
		}
		f.verdicts = append(f.verdicts, v)
		list = list[n+m:]
	}
	return nil
}

// fields counts the fields of a message, as far as it is one.
func fields(b []byte) (count int) {
	for len(b) > 0 {
		_, _, n := protowire.ConsumeField(b)
		if n < 0 {
			break
		}
		b = b[n:]
		count++
	}
	return count
}

// generated turns verdicts that came the generated way into ours.
func (f *replyFrame) generated() error {
	if f.other.GetVerdicts() == nil {
		return nil
	}
	for _, p := range f.other.GetVerdicts().GetVerdicts() {
		f.verdicts = append(f.verdicts, verdictOf(p))
	}
	f.other = nil
	return nil
}

func verdictOf(p *pb.Verdict) verdict {
	v := verdict{call: p.GetCall()}
	v.Verdict, v.err = filter.VerdictFromProto(p)
	return v
}

// readVerdict reads a verdict of numbers, a code and a reason, and leaves others
// to the generated code.
func readVerdict(b []byte) (v verdict, err error) {
	for rest := b; len(rest) > 0; {
		num, typ, n := protowire.ConsumeTag(rest)
		if n < 0 {
			return v, errWire
		}
		rest = rest[n:]
		switch {
		case typ == protowire.VarintType:
			x, n := protowire.ConsumeVarint(rest)
			if n < 0 {
				return v, errWire
			}
			rest = rest[n:]
			switch num {
			case 1:
				v.call = x
			case 2:
				v.Action = filter.Action(min(math.MaxUint8, uint32(x)))
			case 10:
				v.Final = x != 0
			case 11:
				v.Elapsed = time.Duration(uint32(x)) * time.Microsecond
			}
		case typ == protowire.BytesType && (num == 5 || num == 6):
			s, n := protowire.ConsumeBytes(rest)
			if n < 0 {
				return v, errWire
			}
			rest = rest[n:]
			if num == 5 {
				v.Code = string(s)
			} else {
				v.Reason = string(s)
			}
		default:
			p := &pb.Verdict{}
			if err := proto.Unmarshal(b, p); err != nil {
				return v, fmt.Errorf("%w: %w", errWire, err)
			}
			return verdictOf(p), nil
		}
	}
	return v, nil
}
