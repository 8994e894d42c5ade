// Command generate writes what is made from the configuration's structs. It is
// run by go generate in the folder config.
package main

import (
	"fmt"
	"os"

	"github.com/wsrelay/relay/config"
)

func main() { os.Exit(run()) }

func run() int {
	for name, data := range map[string][]byte{"../docs/config.md": config.Reference(), "../docs/relay.schema.json": config.Schema()} {
		if err := os.WriteFile(name, data, 0o644); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return 0
}
