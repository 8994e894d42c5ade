package telemetry

import (
	"fmt"
	"strings"

	"github.com/prometheus/otlptranslator"
)

// Attribute is something that a span says.
type Attribute struct {
	Name  string
	Spans string // where it stands: first words of the spans' names
	Help  string
}

// Attributes lists all attributes of relay's spans.
func Attributes() []Attribute {
	const all = "all"
	return []Attribute{
		{"messaging.system", "process, publish, deliver", "relay; of publish, redis or memory."},
		{"messaging.destination.template", "process, publish, deliver", "The match of the room's policy in relay.yaml."},
		{"messaging.destination.name", "process, publish, deliver", "The room."},
		{"messaging.message.id", "process, publish, deliver", "The message's id, as acks and events carry it. It is the trace id too, unless a trusted client brought one."},
		{"messaging.message.body.size", "process", "Bytes of the message, as JSON."},
		{"messaging.operation.name", "process, publish, deliver", "process, publish or deliver."},
		{"messaging.operation.type", "process, publish, deliver", "process or send."},
		{"relay.endpoint", "GET, process", "Path of the endpoint."},
		{"relay.connection.id", "GET, process, write; events", "The connection: of the sender, or of the receiver that an event or a write is about."},
		{"relay.seq", "process, publish, deliver", "The message's number in its room, in rooms with history."},
		{"relay.duplicate", "process", "true: the message was a repeat under the same key, and was acked like the first."},
		{"relay.action", "process", "What filters made of it: modify, drop, shadow."},
		{"relay.promoted", "GET, process, deliver", "The message was not sampled, and is told because it was rejected, failed, slow or dropped."},
		{"user.id", "process", "The sender, with identify: id."},
		{"user.hash", "process", "The sender, with identify: hash; see below."},
		{"relay.guest", "process", "true: the sender is a guest."},
		{"error.type", all, "What went wrong: the code that the client got (rejected, rate_limited, unavailable, ...), slow, dropped, or a filter's failure (timeout, crash, error, overload)."},
		{"relay.policy.rule", "policy", "The rule in relay.yaml: a keyword or an expression."},
		{"relay.policy.result", "policy", "allowed, or the code of the refusal."},
		{"relay.filter.name", "filter, plugin", "The filter, as relay.yaml calls it."},
		{"relay.filter.mode", "filter", "enforce, observe or async."},
		{"relay.filter.verdict", "filter", "allow, modify, reject, drop or shadow."},
		{"relay.filter.code", "filter", "The filter's word for why."},
		{"relay.filter.batch", "filter", "Messages in the batch that went to the plugin."},
		{"relay.filter.queue_us", "filter", "Microseconds before it was sent to the plugin."},
		{"relay.filter.generation", "filter", "Which process of the plugin judged, counted from its start."},
		{"relay.drawn", "plugin", "true: the plugin does not trace; relay drew its part from the time that it says it took."},
		{"db.system.name", "publish", "redis."},
		{"db.operation.name", "publish", "EVALSHA with history; PUBLISH or SPUBLISH without."},
		{"relay.publish.pipeline", "publish", "Messages that shared the round trip, this one included, where known: not on the embedded bus, and not where a message of a room with history came by before Redis had answered."},
		{"relay.fanout.members", "deliver", "Sockets in the room on this instance, the sender's own included."},
		{"relay.fanout.enqueued", "deliver", "Sockets that it was queued for."},
		{"relay.fanout.written", "deliver", "Sockets that have taken it."},
		{"relay.fanout.dropped", "deliver", "Sockets that do not get it: each of the first 16 slow or dropped ones is an event."},
		{"relay.fanout.slow", "deliver", "Sockets that took longer than traces.slow, or had not taken it after 5 s."},
		{"relay.fanout.first_write_us", "deliver", "Microseconds from the bus handing it over to the first socket having it."},
		{"relay.fanout.last_write_us", "deliver", "The same for the last socket."},
		{"relay.reason", "events", "Why a receiver is slow or does not get it."},
		{"http.request.method", "GET", "GET."},
		{"http.route", "GET", "Path of the endpoint."},
		{"http.response.status_code", "GET", "101, or what refused the handshake."},
		{"url.path", "GET", "The path, never a query."},
		{"network.protocol.name", "GET", "websocket."},
	}
}

// AttributesReference is the table of docs/observability.md.
func AttributesReference() []byte {
	var b strings.Builder
	b.WriteString("| attribute | spans | what it says |\n|---|---|---|\n")
	for _, a := range Attributes() {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", a.Name, a.Spans, a.Help)
	}
	return []byte(b.String())
}

// Prometheus is the name that Prometheus sees; histograms have _bucket, _sum and
// _count behind it.
func (d Definition) Prometheus() string {
	namer := otlptranslator.NewMetricNamer("", otlptranslator.UnderscoreEscapingWithSuffixes)
	name, err := namer.Build(otlptranslator.Metric{Name: d.Name, Unit: d.Unit, Type: map[Kind]otlptranslator.MetricType{
		Counter: otlptranslator.MetricTypeMonotonicCounter, Gauge: otlptranslator.MetricTypeGauge, Distribution: otlptranslator.MetricTypeHistogram,
	}[d.Kind]})
	if err != nil {
		return d.Name // only an empty name is an error, and the catalog has none
	}
	return name
}

// MetricsReference is the table of docs/observability.md.
func MetricsReference() []byte {
	var b strings.Builder
	b.WriteString("| in Prometheus | in OTLP | kind | labels | what it says |\n|---|---|---|---|---|\n")
	for _, d := range Catalog() {
		var labels []string
		for _, l := range d.Labels {
			labels = append(labels, "`"+strings.ReplaceAll(l, ".", "_")+"`")
		}
		kind := map[Kind]string{Counter: "counter", Gauge: "gauge", Distribution: "histogram"}[d.Kind]
		fmt.Fprintf(&b, "| `%s` | `%s` | %s | %s | %s |\n", d.Prometheus(), d.Name, kind, strings.Join(labels, " "), d.Help)
	}
	return []byte(b.String())
}
