package telemetry_test

import (
	"encoding/hex"
	"testing"
	"time"

	"github.com/wsrelay/relay/telemetry"
	"github.com/wsrelay/relay/telemetry/telemetrytest"
	"github.com/wsrelay/relay/telemetry/tracetree"
)

// What Jaeger makes of it, over both protocols.
func TestJaegerShowsAMessageAsOneTrace(t *testing.T) {
	j := telemetrytest.StartJaeger(t)
	for i, o := range []telemetry.TracesOptions{to(j.GRPC, telemetry.GRPC), to(j.HTTP, telemetry.HTTP)} {
		o.UI = j.Query + "/trace/{traceId}"
		a, b := start(t, "a", o).Traces, start(t, "b", o).Traces
		id := [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, byte(16 + i)}
		e := telemetry.NewEntrance(telemetry.EntranceOptions{Sample: telemetry.Share(1), Client: telemetry.Link})
		origin := e.Origin([]byte("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), time.Now())
		c := a.Decide(id, &origin, 0)
		tell(a, b, id, c, &origin, time.Now())

		roots := j.Trace(t, id, 8)
		want := "process support-{team}  CONSUMER  relay  links=1" + tree[len("process support-{team}  CONSUMER  relay"):]
		if got := tracetree.Shape(roots); got != want {
			t.Errorf("Jaeger has\n%s\nwant\n%s", got, want)
		}
		if got, want := a.URL(c.Of(id)), j.Query+"/trace/"+hex.EncodeToString(id[:]); got != want {
			t.Errorf("people are sent to %s, want %s", got, want)
		}
	}
	if found := j.Find(t, "relay", "relay.connection.id", "conn-1", 2); len(found) != 2 {
		t.Errorf("searching for a connection finds %d traces, want 2", len(found))
	}
}

// While the collector is slow, refuses or is away, what it misses is counted, and
// when it is back it gets what comes then. That nobody waits meanwhile is what
// TestNothingWaitsForACollectorThatIsStuck shows, in virtual time.
func TestTheCollectorGoesAwayAndComesBack(t *testing.T) {
	for _, p := range []telemetry.Protocol{telemetry.GRPC, telemetry.HTTP} {
		t.Run(string(p), func(t *testing.T) {
			col := telemetrytest.NewCollector(t)
			endpoint := map[telemetry.Protocol]string{telemetry.GRPC: col.GRPC, telemetry.HTTP: col.HTTP}[p]
			o := to(endpoint, p)
			o.Timeout = 300 * time.Millisecond
			tel, logged := startRinging(t, "a", o)
			say := func() [16]byte {
				id := [16]byte{}
				copy(id[:], time.Now().AppendFormat(nil, "150405.000000000"))
				all := telemetry.Origin{Sample: telemetry.Share(1)}
				tel.Traces.Message(tel.Traces.Decide(id, &all, 0), &all, telemetry.Facts{ID: id, Start: time.Now(), Policy: "*"}).End(telemetry.Outcome{})
				return id
			}
			has := func(c *telemetrytest.Collector, id [16]byte) {
				t.Helper()
				c.Wait(t, func(list []*tracetree.Span) bool {
					for _, s := range list {
						if s.TraceID == hex.EncodeToString(id[:]) {
							return true
						}
					}
					return false
				})
			}
			has(col, say())

			release := col.Hold() // slow: the request is held until it is given up
			say()
			waitDropped(t, tel, logged, 1)
			release()

			col.Refuse(true)
			say()
			waitDropped(t, tel, logged, 2)
			col.Refuse(false)

			col.Stop()
			say()
			waitDropped(t, tel, logged, 3)
			again := telemetrytest.NewCollectorAt(t, col)
			deadline := time.After(20 * time.Second)
			for came := again.Changed(); len(again.Spans()) == 0; {
				say() // once more: gRPC waits a moment before it tries to connect again
				select {
				case <-came:
				case <-logged:
				case <-deadline:
					t.Fatal("nothing came after the collector was back")
				}
			}
			has(again, say())
		})
	}
}
