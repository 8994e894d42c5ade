package telemetry

import (
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
)

// The standard variables of OpenTelemetry's SDKs that nobody else here reads
// (https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/).

// DefaultShare is the share of messages that OTEL_TRACES_SAMPLER asks for; 1 %
// where it is not set, or names a sampler that is not one of the standard's.
// Whether a parent counts is an endpoint's to say, so parentbased_ makes no
// difference.
func DefaultShare() Sampler {
	switch strings.TrimPrefix(os.Getenv("OTEL_TRACES_SAMPLER"), "parentbased_") {
	case "always_on":
		return Share(1)
	case "always_off":
		return Share(0)
	case "traceidratio":
		if p, err := strconv.ParseFloat(os.Getenv("OTEL_TRACES_SAMPLER_ARG"), 64); err == nil && p >= 0 && p <= 1 {
			return Share(p)
		}
		return Share(1)
	}
	return Share(0.01)
}

// obey leaves out what the environment switches off.
func (o *Options) obey() {
	disabled := strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true")
	if disabled || os.Getenv("OTEL_TRACES_EXPORTER") == "none" {
		o.Traces = nil
	}
	if disabled || os.Getenv("OTEL_METRICS_EXPORTER") == "none" {
		o.Metrics.OTLP = nil
	}
}

// checkHeaders refuses header variables that the SDK could not read: it would
// leave a part of them out, and print all of it.
func checkHeaders() error {
	for _, name := range []string{"OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_METRICS_HEADERS"} {
		if os.Getenv(name) == "" {
			continue
		}
		for pair := range strings.SplitSeq(os.Getenv(name), ",") {
			key, value, ok := strings.Cut(pair, "=")
			if _, err := url.PathUnescape(value); !ok || err != nil || strings.TrimSpace(key) == "" {
				return fmt.Errorf("%s: must be like name=value,other=value, percent-encoded (its value is not shown: it may hold a key)", name)
			}
		}
	}
	return nil
}

var sdkOnce sync.Once

// quietSDK keeps the SDK from writing to standard error on its own, which it
// does without regard to level, format and secrets. What matters comes back as
// errors of exporters; what else it has to say goes to the log of the first
// instance in the process, since the SDK knows only one place.
func quietSDK(log *slog.Logger) {
	sdkOnce.Do(func() {
		otel.SetLogger(logr.Discard())
		otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("telemetry", "error", err) }))
	})
}
