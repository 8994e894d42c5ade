package redisbus

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/wsrelay/relay/internal/bus"
)

func sample() *bus.Event {
	return &bus.Event{
		Kind: bus.Chat, ID: bus.MessageID{1, 2, 3}, Time: 1_700_000_000_123, Key: "key",
		Sender: bus.Sender{Member: "m", User: []byte(`{"id":"m"}`), Conn: "c"}, Body: []byte(`{"text":"hi"}`),
		Trace: bus.Trace{TraceID: [16]byte{4}, SpanID: [8]byte{5}, Flags: 1}, Reason: "r", Target: bus.MessageID{6}, TargetSeq: 7,
	}
}

// FuzzEnvelopeRoundTrip: decode(encode(e)) == e for every event that travels.
// Fuzz by a count (-fuzztime 200000x): up to Go 1.26, one that ends by the clock
// may fail with "context deadline exceeded" and nothing wrong (go.dev/issue/75804).
func FuzzEnvelopeRoundTrip(f *testing.F) {
	f.Add(byte(1), "id", int64(5), "member", []byte("user"), "conn", "key", "reason", []byte("body"), []byte("trace"), uint64(3))
	f.Add(byte(4), "", int64(-1), "", []byte{}, "", "", "", []byte{}, []byte{}, uint64(0))
	f.Fuzz(func(t *testing.T, kind byte, id string, at int64, member string, user []byte, conn, key, reason string, body, trace []byte, target uint64) {
		kinds := []bus.Kind{bus.Chat, bus.Signal, bus.Redacted, bus.Closed, bus.Shadow}
		e := &bus.Event{
			Kind: kinds[int(kind)%len(kinds)], Time: at, Key: key, Body: body, Reason: reason, TargetSeq: target,
			Sender: bus.Sender{Member: member, User: user, Conn: conn},
		}
		copy(e.ID[:], id)
		copy(e.Target[:], reason)
		copy(e.Trace.TraceID[:], trace)
		copy(e.Trace.SpanID[:], id)
		e.Trace.Flags = kind
		got, err := decodeEnvelope(appendEnvelope(nil, e))
		if err != nil {
			t.Fatalf("%+v: %v", e, err)
		}
		if len(e.Body) == 0 {
			e.Body = nil
		}
		if len(e.Sender.User) == 0 {
			e.Sender.User = nil
		}
		if !reflect.DeepEqual(got, e) {
			t.Fatalf("got %+v, want %+v", got, e)
		}
	})
}

// FuzzFrame: whatever comes over a channel is an event of this room, or
// foreign; what is an event says the same when encoded again.
func FuzzFrame(f *testing.F) {
	envelope := string(appendEnvelope(nil, sample()))
	for _, s := range []string{
		"", "u", "e", "u" + envelope, "eabc 12 " + envelope, "e- 0 " + envelope, "j- 0 1 2 3 1 0 m{}", "labc 7 500 2 3 2 6 mmkicked{}",
		"j- 0 1 2 3 18446744073709551615 1 x", "e" + strings.Repeat("9", 40) + " " + strings.Repeat("9", 40) + " ", "u" + envelope[:40],
		"u\x02" + envelope[1:], "j- 0 1 2 3 9223372036854775807 9223372036854775807 x",
		"v1700000000001", "v", "v-1", "v18446744073709551615",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		fr, err := decodeFrame("room", []byte(s))
		if err != nil {
			if !errors.Is(err, errForeign) {
				t.Fatal(err)
			}
			return
		}
		if s[0] == 'v' {
			if fr.event != nil || fr.version > 1<<63-1 {
				t.Fatalf("decoded %+v", fr)
			}
			return
		}
		if fr.event == nil || fr.event.Room != "room" || fr.sequenced != (s[0] == 'e') {
			t.Fatalf("decoded %+v", fr)
		}
		if fr.sequenced && (fr.event.Position != fr.at || fr.at.Seq == 0 || fr.at.Epoch == "") {
			t.Fatalf("a sequenced event without a position: %+v", fr)
		}
		if s[0] == 'u' || s[0] == 'e' {
			e := *fr.event
			e.Room, e.Position = "", bus.Position{}
			again, err := decodeEnvelope(appendEnvelope(nil, &e))
			if err != nil || !reflect.DeepEqual(again, &e) {
				t.Fatalf("%+v became %+v, %v", e, again, err)
			}
		}
	})
}

// TestEnvelopeOfTheFirstVersion holds the bytes that stored streams are made of.
// They must stay readable: change this test only by adding to it.
func TestEnvelopeOfTheFirstVersion(t *testing.T) {
	text := "\x01\x01\x00\x00\x00\x0d\x01\x02\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x8b\xcf\xe5\x68\x7b" +
		"\x01\x01m\x02\x0a{\"id\":\"m\"}\x03\x01c\x04\x03key\x05\x01r" +
		"\x06\x19\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00\x01" +
		"\x07\x18\x06\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07" +
		"{\"text\":\"hi\"}"
	got, err := decodeEnvelope([]byte(text))
	if err != nil || !reflect.DeepEqual(got, sample()) {
		t.Fatalf("got %+v, %v", got, err)
	}
	if now := string(appendEnvelope(nil, sample())); now != text {
		t.Errorf("encoded as\n%q, was\n%q", now, text)
	}
}

func TestEnvelopeOfALaterRelay(t *testing.T) {
	e := sample()
	e.Body = nil
	b := appendEnvelope(nil, e)
	b = appendField(b, 99, "a field that is not known yet")
	if got, err := decodeEnvelope(b); err != nil || !reflect.DeepEqual(got, e) {
		t.Errorf("an unknown field was not skipped: %+v, %v", got, err)
	}
	b[0] = 2
	if got, err := decodeEnvelope(b); err == nil {
		t.Errorf("another version was read: %+v", got)
	}
}

func TestChannelsNameTheirRooms(t *testing.T) {
	for _, prefix := range []string{"relay", "a:b", "é"} {
		k := newKeys(prefix)
		seen := make(map[int]bool)
		for i := range 2000 {
			room := fmt.Sprint("c:room{p99}:", i)
			part, name, ok := k.parse([]byte(k.channel(room)))
			if !ok || string(name) != room || part != partitionOf(room) {
				t.Fatalf("%q parsed as %d, %q, %v", k.channel(room), part, name, ok)
			}
			seen[part] = true
		}
		if len(seen) != partitions {
			t.Errorf("rooms fill %d of %d partitions", len(seen), partitions)
		}
		for _, other := range []string{"", k.partition[3] + "probe:x", k.sanctions + "changes", k.sanctions + "probe:x", "x" + k.channel("r"), prefix, k.partition[0], strings.Replace(k.channel("r"), "{p", "{q", 1)} {
			if part, room, ok := k.parse([]byte(other)); ok {
				t.Errorf("%q taken for room %q of %d", other, room, part)
			}
		}
	}
	// Part of the layout: it must never change.
	for room, want := range map[string]int{"": 1, "lobby": 5, "support-42": 12} {
		if got := partitionOf(room); got != want {
			t.Errorf("room %q is in partition %d, was in %d", room, got, want)
		}
	}
}
