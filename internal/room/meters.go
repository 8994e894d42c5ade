package room

import (
	"sync"
	"time"

	"github.com/wsrelay/relay/internal/wire"
	"github.com/wsrelay/relay/plugins/filter"
	"github.com/wsrelay/relay/telemetry"
)

// Meters are what a policy's rooms count, bound once. A nil *Meters counts
// nothing.
type Meters struct {
	accepted, rejected, dropped, shadowed, refused, failed *telemetry.Count

	process, delivery *telemetry.Histogram
	fanout            *telemetry.Histogram
}

// NewMeters binds the meters of the policy with this match.
func NewMeters(m *telemetry.Metrics, match string) *Meters {
	result := func(name string) *telemetry.Count { return m.Count(telemetry.Messages, match, name) }
	return &Meters{
		accepted: result("accepted"), rejected: result("rejected"), dropped: result("dropped"), shadowed: result("shadowed"),
		refused: result("refused"), failed: result("failed"),
		process: m.Histogram(telemetry.MessageDuration, match), delivery: m.Histogram(telemetry.DeliveryDuration, match),
		fanout: m.Histogram(telemetry.FanoutSize, match),
	}
}

// ended counts a message that had its answer.
func (m *Meters) ended(took time.Duration, action filter.Action, e *wire.Error, c telemetry.Context) {
	if m == nil {
		return
	}
	m.process.ObserveTraced(int64(took), c)
	switch {
	case e == nil && action == filter.ActionDrop:
		m.dropped.Add(1)
	case e == nil && action == filter.ActionShadow:
		m.shadowed.Add(1)
	case e == nil:
		m.accepted.Add(1)
	case e.Code == wire.Rejected:
		m.rejected.Add(1)
	case failure(e):
		m.failed.Add(1)
	default:
		m.refused.Add(1)
	}
}

// failure tells what went wrong from what is not allowed.
func failure(e *wire.Error) bool {
	return e.Code == wire.Unavailable || e.Code == wire.FilterUnavailable || e.Code == wire.Internal
}

// delivered counts a message that is queued to n receivers here.
func (m *Meters) delivered(n int64, sent int64, c telemetry.Context) {
	if m == nil {
		return
	}
	m.fanout.Observe(n)
	m.delivery.ObserveTraced(max(0, time.Since(time.UnixMilli(sent)).Nanoseconds()), c)
}

// times are distributions that are not of a policy.
type times struct {
	metrics *telemetry.Metrics
	filters *sync.Map // filterLabels → *telemetry.Histogram
	bus     map[wire.Code]*telemetry.Histogram
	busElse *telemetry.Histogram
}

type filterLabels struct{ name, verdict string }

// newTimes binds what is known by now; system is the bus.
func newTimes(m *telemetry.Metrics, system string) times {
	t := times{metrics: m, filters: new(sync.Map)}
	if m == nil {
		return t
	}
	t.bus = map[wire.Code]*telemetry.Histogram{
		"":               m.Histogram(telemetry.BusDuration, system, ""),
		wire.Unavailable: m.Histogram(telemetry.BusDuration, system, string(wire.Unavailable)),
	}
	t.busElse = m.Histogram(telemetry.BusDuration, system, "_OTHER") // OTel semantic conventions, error.type
	return t
}

// filter times one filter's step. The names are those of the configuration, the
// verdicts a handful: the map stays small.
func (t *times) filter(s *Step, c telemetry.Context) {
	if t.metrics == nil {
		return
	}
	l := filterLabels{s.Filter, s.Failure}
	if l.verdict == "" {
		l.verdict = s.Action.String()
	}
	h, ok := t.filters.Load(l)
	if !ok {
		h, _ = t.filters.LoadOrStore(l, t.metrics.Histogram(telemetry.FilterDuration, l.name, l.verdict))
	}
	h.(*telemetry.Histogram).ObserveTraced(int64(s.End.Sub(s.Start)), c)
}

// published times the way to the bus and back.
func (t *times) published(took time.Duration, e *wire.Error, c telemetry.Context) {
	if t.metrics == nil {
		return
	}
	var code wire.Code
	if e != nil {
		code = e.Code
	}
	h := t.bus[code]
	if h == nil {
		h = t.busElse
	}
	h.ObserveTraced(int64(took), c)
}
