#!/usr/bin/env bash
# Installs what the tests need and does not find: Debian packages through
# apt-get, the Node client through npm. Everything else is Go.
set -euo pipefail
cd "$(dirname "$0")/.."

need=()
want() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || need+=("$2"); }
want redis-server redis-server
want redis-sentinel redis-sentinel
want redis-cli redis-tools
want haproxy haproxy
want chromium chromium
want node nodejs
want npm npm
want protoc protobuf-compiler
[ -x /usr/bin/python3 ] && /usr/bin/python3 -c 'import websockets, grpc, google.protobuf' 2>/dev/null || need+=(python3 python3-websockets python3-grpcio python3-protobuf)

if [ ${#need[@]} -gt 0 ]; then
  echo "installing: ${need[*]}"
  sudo=
  [ "$(id -u)" = 0 ] || sudo=sudo
  command -v apt-get >/dev/null || { echo "please install: ${need[*]}" >&2; exit 1; }
  $sudo apt-get update -qq
  # A packaged Redis that starts by itself is not what the tests talk to.
  if [ ! -e /usr/sbin/policy-rc.d ]; then
    printf '#!/bin/sh\nexit 101\n' | $sudo tee /usr/sbin/policy-rc.d >/dev/null
    $sudo chmod +x /usr/sbin/policy-rc.d
    trap '$sudo rm -f /usr/sbin/policy-rc.d' EXIT
  fi
  DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "${need[@]}" >/dev/null
fi

[ -d testdata/clients/node/node_modules/ws ] || (cd testdata/clients/node && npm install --silent --no-audit --no-fund)
[ -d examples/filters/slowmode/node_modules/@grpc ] || (cd examples/filters/slowmode && npm install --silent --no-audit --no-fund --no-package-lock)
