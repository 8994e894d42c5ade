package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
)

// The picture in the documentation is the trace beside it.
func TestThePictureInTheDocumentationIsFresh(t *testing.T) {
	var got bytes.Buffer
	if err := run([]string{"../../docs/images/message.json"}, nil, &got); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("../../docs/images/message.svg")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Error("stale; run: go generate ./telemetry/draw")
	}
}

const doc = `{"result":{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"a<b"}}]},"scopeSpans":[{"spans":[
{"traceId":"0a","spanId":"01","name":"process \"<script>\"","kind":5,"startTimeUnixNano":"1000000000","endTimeUnixNano":"1250000000"},
{"traceId":"0a","spanId":"02","parentSpanId":"01","name":"deliver","kind":5,"startTimeUnixNano":"1100000000","endTimeUnixNano":"1100000500",
 "attributes":[{"key":"error.type","value":{"stringValue":"slow"}}],"status":{"code":2},"events":[{"name":"slow","timeUnixNano":"1100000100"}]}]}]}]}}`

func TestWhatIsDrawnIsXMLAndNothingOfATraceIsMarkup(t *testing.T) {
	var out bytes.Buffer
	if err := run(nil, strings.NewReader(doc), &out); err != nil {
		t.Fatal(err)
	}
	texts := ""
	for dec := xml.NewDecoder(&out); ; {
		tok, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch tok := tok.(type) {
		case xml.StartElement:
			if tok.Name.Local == "script" {
				t.Error("a span's name became markup")
			}
		case xml.CharData:
			texts += string(tok) + "\n"
		}
	}
	for _, want := range []string{`process "<script>"`, "a<b", "250 ms", "0.5 µs", "slow"} {
		if !strings.Contains(texts, want) {
			t.Errorf("%q is not in the picture", want)
		}
	}
}

const circle = `{"resourceSpans":[{"scopeSpans":[{"spans":[
{"traceId":"0a","spanId":"01","parentSpanId":"02","startTimeUnixNano":"1","endTimeUnixNano":"1"},
{"traceId":"0a","spanId":"02","parentSpanId":"01","startTimeUnixNano":"1","endTimeUnixNano":"1"}]}]}]}`

func TestMistakesAreSaid(t *testing.T) {
	for in, want := range map[string]string{"{": "OTLP JSON", "{}": "no spans", `{"resourceSpans":[{"scopeSpans":[{"spans":[{"kind":9}]}]}]}`: "unknown kind", circle: "no trace"} {
		if err := run(nil, strings.NewReader(in), io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", in, err, want)
		}
	}
	if err := run([]string{"a", "b"}, nil, io.Discard); err == nil {
		t.Error("took two files")
	}
}
