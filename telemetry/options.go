package telemetry

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"
)

// Options say what is told, and where to.
type Options struct {
	Service  string // service.name; empty: OTEL_SERVICE_NAME, else relay
	Instance string // service.instance.id
	Version  string // service.version

	Traces  *TracesOptions // nil: messages are no traces
	Metrics MetricsOptions

	// Log hears of exports that fail, at most one line of a kind in a while.
	Log *slog.Logger
}

// Protocol is how OTLP travels.
type Protocol string

// The protocols. Empty is what OTEL_EXPORTER_OTLP_TRACES_PROTOCOL or
// OTEL_EXPORTER_OTLP_METRICS_PROTOCOL says, else OTEL_EXPORTER_OTLP_PROTOCOL, else
// gRPC.
const (
	GRPC Protocol = "grpc"
	HTTP Protocol = "http"
)

// OTLP is where a collector takes OTLP. What is left out is taken from the
// OTEL_EXPORTER_OTLP_* variables.
type OTLP struct {
	Endpoint string // http://host:4317, https://..., for HTTP without /v1/...; empty: the environment's, else localhost
	Protocol Protocol
	Headers  map[string]string // credentials, as often as not: never printed
	TLS      *tls.Config       // for https; nil: the system's authorities
}

// String tells where to, without credentials.
func (o OTLP) String() string {
	if o.Endpoint == "" {
		return "OTLP endpoint of the environment"
	}
	u, err := url.Parse(o.Endpoint)
	if err != nil {
		return "OTLP endpoint"
	}
	return u.Scheme + "://" + u.Host
}

func (o OTLP) check() error {
	switch o.Protocol {
	case "", GRPC, HTTP:
	default:
		return fmt.Errorf("OTLP protocol %q: must be grpc or http", o.Protocol)
	}
	if o.Endpoint == "" {
		return nil
	}
	u, err := url.Parse(o.Endpoint)
	switch {
	case err != nil:
		return errors.New("OTLP endpoint: not a URL")
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return errors.New("OTLP endpoint: must be http://host:port or https://host:port")
	case u.User != nil:
		return errors.New("OTLP endpoint: put credentials into headers, not into the URL")
	}
	return nil
}

// TracesOptions say which messages become traces and what they tell.
type TracesOptions struct {
	OTLP
	Tuning

	// Queue bounds the spans that wait for the collector, Batch those in one
	// request. Defaults: OTEL_BSP_MAX_QUEUE_SIZE, else 65,536, and
	// OTEL_BSP_MAX_EXPORT_BATCH_SIZE, else 4,096.
	Queue, Batch int
	// Delay is how long a span waits for a batch to fill. Default:
	// OTEL_BSP_SCHEDULE_DELAY, else 1 s.
	Delay time.Duration
	// Timeout bounds one request. Default: OTEL_BSP_EXPORT_TIMEOUT, else 10 s.
	Timeout time.Duration
}

// Tuning is what can change while messages are on their way.
type Tuning struct {
	Promote  float64       // promotions of messages a second, and as many of handshakes; 0: none
	Slow     time.Duration // from a message's arrival on; 0: nothing is slow
	Identify Identify
	UI       string // URL of a trace for people, with {traceId}; empty: none
}

// Identify says how users stand in traces.
type Identify string

// The ways to stand in a trace. Empty is ByID.
const (
	ByID      Identify = "id"   // user.id
	ByHash    Identify = "hash" // user.hash: the same user is recognised, and can be guessed by who knows all ids
	Anonymous Identify = "off"
)

func (t Tuning) check() error {
	switch t.Identify {
	case "", ByID, ByHash, Anonymous:
	default:
		return fmt.Errorf("identify %q: must be id, hash or off", t.Identify)
	}
	if t.UI != "" && !strings.Contains(t.UI, uiPlaceholder) {
		return fmt.Errorf("ui: %s is missing, where the trace id is to stand", uiPlaceholder)
	}
	return nil
}

const uiPlaceholder = "{traceId}"

// MetricsOptions say where numbers go besides Handler.
type MetricsOptions struct {
	OTLP *OTLP // nil: they are not pushed
	// Every is how often they are pushed. Default: OTEL_METRIC_EXPORT_INTERVAL,
	// else 60 s.
	Every time.Duration
}
