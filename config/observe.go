package config

// Traces says where traces go and which messages become one.
type Traces struct {
	OTLP     string            `key:"otlp" doc:"Where a collector or Jaeger takes OTLP. Default: what OTEL_EXPORTER_OTLP_ENDPOINT says, or http://localhost:4317." example:"http://localhost:4317"`
	Protocol string            `key:"protocol" enum:"grpc,http" doc:"OTLP over gRPC (port 4317) or HTTP (port 4318). Default: what OTEL_EXPORTER_OTLP_TRACES_PROTOCOL or OTEL_EXPORTER_OTLP_PROTOCOL says, or grpc."`
	Headers  map[string]Secret `key:"headers" doc:"Headers to send along, such as a key of the collector." example:"{x-api-key: \"${OTLP_KEY}\"}"`
	CA       string            `key:"ca" doc:"PEM file with the authorities of the collector, for https. Default: the system's."`
	Sample   Percent           `key:"sample" doc:"Share of messages that become traces. Default: what OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG say, or 1%." example:"1%"`
	Promote  Rate              `key:"promote" default:"10/s" doc:"Messages that were refused, failed, slow or dropped become traces afterwards, up to so many; so do as many handshakes that were refused."`
	Slow     Duration          `key:"slow" default:"250ms" doc:"Above this a message counts as slow: from its arrival to its sender's answer, and on each instance from the bus handing it over to a receiver's socket having it."`
	Identify string            `key:"identify" default:"id" enum:"id,hash,off" doc:"How users stand in traces: by id, by a hash of it, or not at all."`
	UI       string            `key:"ui" doc:"URL of a trace for people, with {traceId} in it. It is shown in logs and in relay chat." example:"http://localhost:16686/trace/{traceId}"`
}

// Metrics says where numbers are.
type Metrics struct {
	Path     string `key:"path" default:"/metrics" doc:"Path for Prometheus; empty: none."`
	Listen   string `key:"listen" doc:"Listener of its own for it. Default: the admin listener." example:"127.0.0.1:9100"`
	OTLP     string `key:"otlp" doc:"Where to push metrics too, as OTLP. Absent: nowhere." example:"http://localhost:4317"`
	Protocol string `key:"protocol" enum:"grpc,http" doc:"OTLP over gRPC (port 4317) or HTTP (port 4318). Default: telemetry.traces.protocol, else what OTEL_EXPORTER_OTLP_METRICS_PROTOCOL or OTEL_EXPORTER_OTLP_PROTOCOL says, or grpc."`
}

// Trace is an endpoint's say in which messages become traces.
type Trace struct {
	Sample Percent `key:"sample" doc:"Share of messages that become traces. Default: telemetry.traces.sample." example:"1%"`
	Client string  `key:"client" default:"ignore" enum:"trust,link,ignore" doc:"A client's traceparent: trust continues its trace and its decision, link makes a trace of its own that links there, ignore does neither."`
}

// RoomTrace is a room's say in it.
type RoomTrace struct {
	Sample Percent `key:"sample" doc:"Share of messages that become traces. Default: as the endpoint says." example:"10%"`
}
