// Command generate writes the tables of docs/observability.md. It is run by
// go generate in the folder telemetry.
package main

import (
	"bytes"
	"fmt"
	"os"

	"github.com/wsrelay/relay/telemetry"
)

const page = "../docs/observability.md"

func main() { os.Exit(run()) }

func run() int {
	old, err := os.ReadFile(page)
	if err == nil {
		var fresh []byte
		if fresh, err = renew(old); err == nil {
			err = os.WriteFile(page, fresh, 0o644)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		return 1
	}
	return 0
}

// renew puts the tables between their marks.
func renew(text []byte) ([]byte, error) {
	for name, table := range map[string][]byte{"metrics": telemetry.MetricsReference(), "attributes": telemetry.AttributesReference()} {
		begin, end := []byte("<!-- generated: "+name+" -->\n"), []byte("<!-- end: "+name+" -->")
		i, j := bytes.Index(text, begin), bytes.Index(text, end)
		if i < 0 || j < i {
			return nil, fmt.Errorf("%s has no marks for the table of %s", page, name)
		}
		i += len(begin)
		text = bytes.Join([][]byte{text[:i], table, text[j:]}, nil)
	}
	return text, nil
}
