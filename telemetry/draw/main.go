// Command draw makes a picture of a trace: an SVG with the tree on the left and
// time on the right.
//
//	curl -s http://localhost:16686/api/v3/traces/MESSAGE_ID | go run ./telemetry/draw > trace.svg
//	go run ./telemetry/draw -o trace.svg trace.json
//
// It reads OTLP JSON, which is what Jaeger's API answers. The picture in
// docs/observability.md is made of docs/images/message.json, which
// telemetry/endtoend writes where RELAY_TRACE_JSON says.
package main

//go:generate go run . -o ../../docs/images/message.svg ../../docs/images/message.json

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/wsrelay/relay/telemetry/tracetree"
)

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "draw:", err)
		os.Exit(1)
	}
}

func run(args []string, in io.Reader, out io.Writer) error {
	flags := flag.NewFlagSet("draw", flag.ContinueOnError)
	to := flags.String("o", "", "file to write; default: standard output")
	if err := flags.Parse(args); err != nil {
		return err
	}
	data, err := read(flags.Args(), in)
	if err != nil {
		return err
	}
	spans, err := tracetree.Parse(data)
	if err != nil {
		return err
	}
	if len(spans) == 0 {
		return errors.New("there are no spans in it")
	}
	roots := tracetree.Trees(spans)
	if len(roots) == 0 {
		return errors.New("every span in it is the child of another: that is no trace")
	}
	svg := Draw(roots)
	if *to != "" {
		if err := os.WriteFile(*to, svg, 0o644); err != nil {
			return fmt.Errorf("writing the picture: %w", err)
		}
		return nil
	}
	_, err = out.Write(svg)
	return err
}

func read(files []string, in io.Reader) ([]byte, error) {
	switch len(files) {
	case 0:
		return io.ReadAll(in)
	case 1:
		return os.ReadFile(files[0])
	}
	return nil, errors.New("one trace at a time")
}
