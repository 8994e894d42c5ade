package telemetry

import "time"

// Kind tells how a metric's values add up.
type Kind uint8

// The kinds of metrics.
const (
	Counter      Kind = iota // only grows
	Gauge                    // as it is now
	Distribution             // how often which value
)

// Metric is one of the metrics below. Rooms and users are labels of none.
type Metric uint8

// All metrics; catalog says what each is. Values are whole numbers, of
// nanoseconds where the unit is s.
const (
	Connections Metric = iota
	ConnectionsOpened
	ConnectionsRefused
	ConnectionsClosed
	QueueBytes
	BytesIn
	BytesOut
	SocketWrites
	FramesShed
	SlowConsumers

	Rooms
	Members
	Messages
	MessageDuration
	Refusals
	Deliveries
	DeliveryDuration
	FanoutSize
	JoinOverflows
	PolicyErrors

	FilterDuration
	FilterVerdicts
	FilterRestarts
	FilterBreaker
	FilterUp
	Flags
	Audits
	AuditsLost

	BusUp
	BusSent
	BusReceived
	BusDuration
	BusRoundTrip
	BusPipelines
	BusErrors
	BusReconnects
	BusResent
	BusUnknown
	BusHealed
	BusLost
	BusGaps
	BusEpochs
	BusRepeated
	BusForeign
	BusHeldDropped
	BusSignalsDropped
	BusReaped
	BusReborn
	BusMissing
	BusLeftovers

	Reloads
	ReloadOK
	ReloadTime
	ConfigInfo
	BuildInfo

	SpansExported
	SpansDropped
	SpansWaiting
	Promotions
	LogsSuppressed

	metrics int = iota
)

// Definition is what a Metric means.
type Definition struct {
	Name   string // OTel's; Prometheus' is made of it
	Kind   Kind
	Unit   string // UCUM: s, By, {message}, ...; empty: a plain number
	Help   string
	Labels []string // whose values are given when an instrument is bound
	Fixed  []string // keys and values that never change
	Bounds []int64  // of a histogram's buckets, as values are given
}

// Definition looks the metric up.
func (m Metric) Definition() Definition { return catalog()[m] }

// Catalog lists all metrics in the order of the constants.
func Catalog() []Definition {
	c := catalog()
	return c[:]
}

func catalog() [metrics]Definition {
	const us, ms, s = int64(time.Microsecond), int64(time.Millisecond), int64(time.Second)
	waits := []int64{100 * us, 250 * us, 500 * us, ms, 2500 * us, 5 * ms, 10 * ms, 25 * ms, 50 * ms, 100 * ms, 250 * ms, 500 * ms, s, 2500 * ms, 5 * s, 10 * s}
	sizes := []int64{0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 50_000}
	policy := []string{"messaging.destination.template"}
	relay := []string{"messaging.system", "relay"}
	return [metrics]Definition{
		Connections:        {"relay.connections", Gauge, "{connection}", "Open connections.", []string{"relay.endpoint"}, nil, nil},
		ConnectionsOpened:  {"relay.connections.opened", Counter, "{connection}", "Handshakes that became connections.", []string{"relay.endpoint"}, nil, nil},
		ConnectionsRefused: {"relay.connections.refused", Counter, "{connection}", "Handshakes that were refused before the upgrade: host, origin, full, per_ip, rate.", []string{"relay.endpoint", "reason"}, nil, nil},
		ConnectionsClosed:  {"relay.connections.closed", Counter, "{connection}", "Connections that ended, by close code (none: without one; other: a client's own) and what it means.", []string{"code", "reason"}, nil, nil},
		QueueBytes:         {"relay.queue.size", Gauge, "By", "Bytes that wait to be written to clients.", nil, nil, nil},
		BytesIn:            {"relay.network.in", Counter, "By", "Bytes of messages from clients, inflated.", nil, nil, nil},
		BytesOut:           {"relay.network.out", Counter, "By", "Bytes of frames written to clients.", nil, nil, nil},
		SocketWrites:       {"relay.socket.writes", Counter, "{call}", "Write calls that carried them.", nil, nil, nil},
		FramesShed:         {"relay.frames.shed", Counter, "{frame}", "Frames that slow clients did without: signal, member, chat.", []string{"class"}, nil, nil},
		SlowConsumers:      {"relay.connections.slow", Counter, "{connection}", "Connections closed with 4429 because they did not keep up.", nil, nil, nil},

		Rooms:            {"relay.rooms", Gauge, "{room}", "Rooms with members on this instance.", nil, nil, nil},
		Members:          {"relay.members", Gauge, "{member}", "Seats in rooms on this instance: a user on two sockets counts twice.", nil, nil, nil},
		Messages:         {"relay.messages", Counter, "{message}", "Messages from clients by what became of them: accepted, rejected, dropped, shadowed, refused, failed.", append(policy, "result"), nil, nil},
		MessageDuration:  {"messaging.process.duration", Distribution, "s", "From a message's request being read to its answer.", policy, append(relay, "messaging.operation.name", "process"), waits},
		Refusals:         {"relay.refusals", Counter, "{request}", "Requests that a policy, limit, rate, sanction or filter refused.", nil, nil, nil},
		Deliveries:       {"relay.deliveries", Counter, "{frame}", "Messages for one receiver each: queued; of those, shed, or cut (lost with its connection, which was closed for being slow).", []string{"result"}, nil, nil},
		DeliveryDuration: {"relay.delivery.duration", Distribution, "s", "From a message's acceptance, by the clock of that instance, to its being queued for all receivers here.", policy, nil, waits},
		FanoutSize:       {"relay.fanout.size", Distribution, "{receiver}", "Receivers of one message on this instance.", policy, nil, sizes},
		JoinOverflows:    {"relay.joins.overflow", Counter, "{request}", "Joins that failed because the room was too busy meanwhile.", nil, nil, nil},
		PolicyErrors:     {"relay.policy.errors", Counter, "{evaluation}", "Expressions that failed or cost too much, and so denied.", nil, nil, nil},

		FilterDuration: {"relay.filter.duration", Distribution, "s", "From a message being handed to a filter to its verdict, or to its time being over.", []string{"relay.filter.name", "relay.filter.verdict"}, nil, waits},
		FilterVerdicts: {"relay.filter.verdicts", Counter, "{message}", "Verdicts of filters: allow, modify, reject, drop, shadow, or the failure (timeout, crash, error, overload) where there was none.", []string{"relay.filter.name", "relay.filter.mode", "relay.filter.verdict"}, nil, nil},
		FilterRestarts: {"relay.filter.restarts", Counter, "{process}", "Processes of plugins that ended unasked, or did not start.", []string{"relay.filter.name"}, nil, nil},
		FilterBreaker:  {"relay.filter.breaker", Gauge, "", "Breaker of a filter: 0 closed, 1 tried again, 2 open.", []string{"relay.filter.name"}, nil, nil},
		FilterUp:       {"relay.filter.up", Gauge, "", "1 where a filter is ready to judge.", []string{"relay.filter.name"}, nil, nil},
		Flags:          {"relay.flags", Counter, "{flag}", "Flags that filters put on messages.", nil, nil, nil},
		Audits:         {"relay.audits", Counter, "{line}", "Audit lines: sanctions, kicks, redactions.", []string{"action"}, nil, nil},
		AuditsLost:     {"relay.asides.lost", Counter, "{action}", "Sanctions and late redactions that could not be carried out.", nil, nil, nil},

		BusUp:             {"relay.bus.up", Gauge, "", "1 while the bus works in both directions.", nil, nil, nil},
		BusSent:           {"messaging.client.sent.messages", Counter, "{message}", "Messages handed to the bus; error.type is empty for those it took.", []string{"messaging.system", "error.type"}, []string{"messaging.operation.name", "publish"}, nil},
		BusReceived:       {"messaging.client.consumed.messages", Counter, "{message}", "Messages that came over the bus.", []string{"messaging.system"}, []string{"messaging.operation.name", "receive"}, nil},
		BusDuration:       {"messaging.client.operation.duration", Distribution, "s", "From a message being handed to the bus to its answer.", []string{"messaging.system", "error.type"}, []string{"messaging.operation.name", "publish"}, waits},
		BusRoundTrip:      {"relay.bus.round_trip", Gauge, "s", "How long the last probe took through Redis and back over pub/sub.", nil, nil, nil},
		BusPipelines:      {"relay.bus.pipelines", Counter, "{call}", "Round trips that carried messages to Redis.", nil, nil, nil},
		BusErrors:         {"relay.bus.errors", Counter, "{error}", "Commands that failed for another reason than the caller's.", nil, nil, nil},
		BusReconnects:     {"relay.bus.reconnects", Counter, "{connection}", "Connections to Redis that were replaced after a failure.", nil, nil, nil},
		BusResent:         {"relay.bus.resent", Counter, "{message}", "Messages sent to Redis again, under their number.", nil, nil, nil},
		BusUnknown:        {"relay.bus.unknown", Counter, "{message}", "Messages that were given up with their outcome unknown.", nil, nil, nil},
		BusHealed:         {"relay.bus.healed", Counter, "{event}", "Events that pub/sub lost and the stream gave back.", nil, nil, nil},
		BusLost:           {"relay.bus.lost", Counter, "{event}", "Events told to members as lost.", nil, nil, nil},
		BusGaps:           {"relay.bus.gaps", Counter, "{gap}", "Gaps told to members of rooms without history.", nil, nil, nil},
		BusEpochs:         {"relay.bus.epochs", Counter, "{epoch}", "New epochs told to members.", nil, nil, nil},
		BusRepeated:       {"relay.bus.repeated", Counter, "{event}", "Events that came a second time, and were left out.", nil, nil, nil},
		BusForeign:        {"relay.bus.foreign", Counter, "{event}", "What came over pub/sub and could not be read.", nil, nil, nil},
		BusHeldDropped:    {"relay.bus.held.dropped", Counter, "{event}", "Events let go because too many waited for a gap to close; they are read again.", nil, nil, nil},
		BusSignalsDropped: {"relay.bus.signals.dropped", Counter, "{signal}", "Signals replaced by newer ones, or dropped.", nil, nil, nil},
		BusReaped:         {"relay.bus.reaped", Counter, "{instance}", "Other instances found dead, whose members were taken out.", nil, nil, nil},
		BusReborn:         {"relay.bus.reborn", Counter, "{event}", "Times this instance found its lease gone.", nil, nil, nil},
		BusMissing:        {"relay.bus.members.missing", Counter, "{member}", "Members of this instance that Redis had lost, and that were put back.", nil, nil, nil},
		BusLeftovers:      {"relay.bus.members.leftover", Counter, "{member}", "Members who had left this instance and were in Redis still, and were taken out.", nil, nil, nil},

		Reloads:    {"relay.config.reloads", Counter, "{reload}", "Reloads by result: ok, error.", []string{"result"}, nil, nil},
		ReloadOK:   {"relay.config.last_reload.ok", Gauge, "", "1 where the last reload, or the start, was good.", nil, nil, nil},
		ReloadTime: {"relay.config.loaded", Gauge, "s", "When the configuration in force was loaded, in seconds since 1970.", nil, nil, nil},
		ConfigInfo: {"relay.config.info", Gauge, "", "1, with the hash of the configuration in force.", []string{"hash"}, nil, nil},
		BuildInfo:  {"relay.build.info", Gauge, "", "1, with the version.", []string{"version", "go"}, nil, nil},

		SpansExported:  {"relay.traces.spans.exported", Counter, "{span}", "Spans that the collector took.", nil, nil, nil},
		SpansDropped:   {"relay.traces.spans.dropped", Counter, "{span}", "Spans that the queue had no place for, or the collector did not take.", nil, nil, nil},
		SpansWaiting:   {"relay.traces.spans.waiting", Gauge, "{span}", "Spans that wait for the collector.", nil, nil, nil},
		Promotions:     {"relay.traces.promotions", Counter, "{message}", "Messages and handshakes that were not sampled and became traces afterwards: granted, or denied because there were too many.", []string{"result"}, nil, nil},
		LogsSuppressed: {"relay.logs.suppressed", Counter, "{line}", "Log lines that were left out because they repeated too often.", nil, nil, nil},
	}
}
