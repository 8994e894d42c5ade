#!/bin/sh
# Writes the Go code for filter.proto into the folder $1, with the generators
# that tools.mod names. Needs protoc (Debian: protobuf-compiler).
set -eu
root=$(cd ../../.. && pwd)
bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
for name in protoc-gen-go protoc-gen-go-grpc; do
	cp "$(go tool -modfile="$root/tools.mod" -n $name)" "$bin/$name"
done
PATH=$bin:$PATH protoc --go_out="$1" --go_opt=paths=source_relative \
	--go-grpc_out="$1" --go-grpc_opt=paths=source_relative filter.proto
