// Package filters has example filters in Go, Python and Node, and holds them to
// the contract and to what they say they do.
package filters

import "embed"

// Support is what plugins in Python and Node need beside their judgement:
// `relay plugin new` puts it beside a new one.
//
//go:embed links/relay_filter.py links/filter_pb2.py slowmode/relay-filter.js slowmode/filter.proto
var Support embed.FS
