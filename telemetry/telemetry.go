package telemetry

import (
	"context"
	"errors"
	"fmt"
)

// Telemetry is traces and metrics of one instance.
type Telemetry struct {
	Traces  *Traces  // nil where Options.Traces was
	Metrics *Metrics // never nil
}

// New checks the options and makes everything, without touching the network.
func New(opt Options) (*Telemetry, error) {
	if opt.Log == nil {
		return nil, errors.New("telemetry: a logger is required")
	}
	if err := checkHeaders(); err != nil {
		return nil, fmt.Errorf("telemetry: %w", err)
	}
	quietSDK(opt.Log)
	opt.obey()
	res, err := newResource(opt)
	if err != nil {
		return nil, fmt.Errorf("telemetry: %w", err)
	}
	t := &Telemetry{}
	if t.Metrics, err = newMetrics(opt, res); err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	if opt.Traces != nil {
		if t.Traces, err = newTraces(opt, res); err != nil {
			return nil, errors.Join(fmt.Errorf("traces: %w", err), t.Metrics.stop(context.Background()))
		}
		t.Traces.bind(t.Metrics)
	}
	return t, nil
}

// Start begins to export. Until then, what is recorded waits in the queue.
func (t *Telemetry) Start() {
	if t.Traces != nil {
		t.Traces.start()
	}
}

// Stop exports what is waiting and joins what Start began, bounded by ctx: what
// is left then is counted as dropped. Idempotent, safe before Start. Whoever
// still records afterwards records for nothing.
func (t *Telemetry) Stop(ctx context.Context) error {
	var errs []error
	if t.Traces != nil {
		errs = append(errs, t.Traces.stop(ctx))
	}
	errs = append(errs, t.Metrics.stop(ctx))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("telemetry: %w", err)
	}
	return nil
}
