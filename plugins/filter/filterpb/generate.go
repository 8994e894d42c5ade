// Package filterpb is relay.filter.v1 in Go, generated from filter.proto, which
// is the contract and documents it. Authors of plugins in Go use package filter
// instead.
package filterpb

//go:generate sh generate.sh .
