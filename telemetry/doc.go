// Package telemetry is what relay tells about itself: logs, metrics, and every
// message as a trace. It imports nothing of ours: whoever has something to tell
// hands it over in plain values. The OTel SDK is used here and nowhere else.
//
// # A message as a trace
//
//	GET {path}             SERVER    the handshake, a trace of its own
//	process {policy}       CONSUMER  root; from the sender's request to its answer
//	├─ policy {action}     INTERNAL  may the sender publish
//	├─ filter {name}       CLIENT    one per filter asked
//	│  └─ {name}           SERVER    in the plugin; drawn here when it does not trace
//	└─ publish {policy}    PRODUCER  to the bus and back
//	   └─ deliver {policy} CONSUMER  one per instance, until the last socket has it
//	      └─ write         INTERNAL  one per receiver, in debug only
//
// The trace id is the message id, unless a trusted client brought a trace of its
// own. The ids of the process and publish spans are the two halves of the
// message id: nobody needs to remember them, and a span can be made long after
// its id was sent.
//
// That is what makes it cheap. Traces.Decide says, from the message id alone,
// whether a message becomes a trace; for the others nothing is recorded and
// the SDK is not touched. When one of those turns out to be worth telling
// (refused, failed, slow, dropped), Promote lets it become a trace afterwards,
// under a token bucket, with the ids that are in everybody's hands already.
//
// What is recorded goes into a bounded queue as plain times. One goroutine makes
// spans of it and exports them. Nothing on a message's way waits for it: when
// the collector is away the queue fills and what does not fit is counted.
package telemetry

//go:generate go run ./generate
