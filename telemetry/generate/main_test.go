package main

import (
	"bytes"
	"os"
	"testing"
)

func TestTheDocumentationIsFresh(t *testing.T) {
	old, err := os.ReadFile("../" + page)
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := renew(old)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(old, fresh) {
		t.Error("stale; run: go generate ./telemetry")
	}
	if _, err := renew([]byte("a page without marks")); err == nil {
		t.Error("a page without marks is taken for one")
	}
}
