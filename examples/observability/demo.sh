#!/usr/bin/env bash
# examples/compose.yaml without containers: two relays behind a balancer, Redis,
# Jaeger, and Prometheus and Grafana where they are installed. Sends a few
# messages, prints where to look, and runs until Ctrl-C (with --once: ends then).
# Everything listens on the loopback; ports can be set by the variables below.
set -euo pipefail
cd "$(dirname "$0")/../.."

: "${BALANCER_PORT:=8080}" "${RELAY_PORT:=5000}" "${RELAY2_PORT:=5002}" "${ADMIN_PORT:=5001}" "${ADMIN2_PORT:=5003}"
: "${REDIS_PORT:=6390}" "${JAEGER_PORT:=16686}" "${JAEGER_GRPC_PORT:=16685}" "${OTLP_PORT:=4317}" "${HEALTH_PORT:=13133}"
: "${PROMETHEUS_PORT:=9090}" "${GRAFANA_PORT:=3000}"
export RELAY_KEY="${RELAY_KEY:-only-for-this-demo-0123456789abcdef}"

here=$PWD/examples/observability
dir=$(mktemp -d)
pids=()
finish() {
  for ((i = ${#pids[@]} - 1; i >= 0; i--)); do kill "${pids[i]}" 2>/dev/null || true; done
  # The first is Jaeger, which keeps nothing and takes 20 s to say goodbye.
  [ ${#pids[@]} = 0 ] || kill -KILL "${pids[0]}" 2>/dev/null || true
  wait 2>/dev/null || true
  rm -rf "$dir"
}
trap finish EXIT
trap 'exit 0' INT TERM

# run NAME COMMAND... starts something and keeps what it says.
run() {
  local name=$1
  shift
  "$@" >"$dir/$name.log" 2>&1 &
  pids+=($!)
}

# await NAME PORT waits until something listens.
await() {
  for _ in $(seq 300); do
    if (exec 3<>"/dev/tcp/127.0.0.1/$2") 2>/dev/null; then return; fi
    sleep 0.1
  done
  echo "$1 does not listen on port $2; it said:" >&2
  tail -n 20 "$dir/$1.log" >&2
  exit 1
}

# tool NAME finds a program, or says that it is not there.
tool() {
  command -v "$1" || { [ -x "/usr/sbin/$1" ] && echo "/usr/sbin/$1"; } || { echo "not installed: $1" >&2; return 1; }
}

echo "building relay and Jaeger (the first time takes some minutes)"
CGO_ENABLED=0 go build -o "$dir/relay" .
mkdir -p .cache/jaeger
[ -x .cache/jaeger/jaeger ] || (cd tools/jaeger && CGO_ENABLED=0 go build -trimpath -o ../../.cache/jaeger/jaeger github.com/jaegertracing/jaeger/cmd/jaeger)

cat >"$dir/jaeger.yaml" <<END
service:
  extensions: [jaeger_storage, jaeger_query, healthcheckv2]
  pipelines:
    traces: {receivers: [otlp], exporters: [jaeger_storage_exporter]}
  telemetry: {metrics: {level: none}, logs: {level: error}}
extensions:
  jaeger_query:
    storage: {traces: memory}
    http: {endpoint: "127.0.0.1:$JAEGER_PORT"}
    grpc: {endpoint: "127.0.0.1:$JAEGER_GRPC_PORT"}
  jaeger_storage: {backends: {memory: {memory: {max_traces: 100000}}}}
  healthcheckv2: {use_v2: true, http: {endpoint: "127.0.0.1:$HEALTH_PORT"}}
receivers: {otlp: {protocols: {grpc: {endpoint: "127.0.0.1:$OTLP_PORT"}}}}
exporters: {jaeger_storage_exporter: {trace_storage: memory}}
END
run jaeger .cache/jaeger/jaeger --config "$dir/jaeger.yaml"
await jaeger "$JAEGER_PORT"
await jaeger "$OTLP_PORT"

redis=
if bin=$(tool redis-server); then
  run redis "$bin" --port "$REDIS_PORT" --bind 127.0.0.1 --save "" --dir "$dir"
  await redis "$REDIS_PORT"
  redis="redis://127.0.0.1:$REDIS_PORT/0"
else
  echo "so there is one relay only, with the bus inside it" >&2
fi

# configuration PORT ADMIN_PORT is that of the containers, on this machine.
configuration() {
  sed -e "s|listen: \":5000\"|listen: \"127.0.0.1:$1\"|" -e "s|listen: \":5001\"|listen: \"127.0.0.1:$2\"|" \
    -e "s|redis://redis:6379/0|$redis|" -e "s|http://jaeger:4317|http://127.0.0.1:$OTLP_PORT|" \
    -e "s|localhost:16686|localhost:$JAEGER_PORT|" -e "s|localhost:8080|localhost:$BALANCER_PORT|" \
    "$here/relay.yaml" | if [ -n "$redis" ]; then cat; else grep -v '^redis:'; fi
}
configuration "$RELAY_PORT" "$ADMIN_PORT" >"$dir/one.yaml"
run one "$dir/relay" serve -c "$dir/one.yaml"
await one "$RELAY_PORT"
url=ws://localhost:$RELAY_PORT/ws
if [ -n "$redis" ]; then
  configuration "$RELAY2_PORT" "$ADMIN2_PORT" >"$dir/two.yaml"
  run two "$dir/relay" serve -c "$dir/two.yaml"
  await two "$RELAY2_PORT"
  if bin=$(tool haproxy); then
    sed -e "s|bind :8080|bind 127.0.0.1:$BALANCER_PORT|" -e "s|maxconn .*|maxconn 2000|" -e '/^resolvers/,/^$/d' -e '/server-template/d' "$here/haproxy.cfg" >"$dir/haproxy.cfg"
    echo "  server one 127.0.0.1:$RELAY_PORT check port $ADMIN_PORT inter 1s
  server two 127.0.0.1:$RELAY2_PORT check port $ADMIN2_PORT inter 1s" >>"$dir/haproxy.cfg"
    run haproxy "$bin" -f "$dir/haproxy.cfg"
    await haproxy "$BALANCER_PORT"
    url=ws://localhost:$BALANCER_PORT/ws
  fi
fi

if bin=$(tool prometheus); then
  cat >"$dir/prometheus.yaml" <<END
global: {scrape_interval: 5s}
rule_files: ["$here/alerts.yaml"]
scrape_configs: [{job_name: relay, static_configs: [{targets: ["127.0.0.1:$ADMIN_PORT", "127.0.0.1:$ADMIN2_PORT"]}]}]
END
  run prometheus "$bin" --config.file="$dir/prometheus.yaml" --enable-feature=exemplar-storage --storage.tsdb.path="$dir/tsdb" --web.listen-address="127.0.0.1:$PROMETHEUS_PORT"
  await prometheus "$PROMETHEUS_PORT"
  echo "Prometheus    http://localhost:$PROMETHEUS_PORT"
fi
if bin=$(tool grafana); then
  mkdir -p "$dir/grafana"
  cp -r "$here/grafana/provisioning" "$dir/grafana/"
  sed -i -e "s|prometheus:9090|localhost:$PROMETHEUS_PORT|" -e "s|jaeger:16686|localhost:$JAEGER_PORT|" "$dir/grafana/provisioning/datasources/relay.yaml"
  sed -i "s|/etc/grafana/dashboards|$here|" "$dir/grafana/provisioning/dashboards/relay.yaml"
  run grafana env GF_SERVER_HTTP_ADDR=127.0.0.1 GF_SERVER_HTTP_PORT="$GRAFANA_PORT" GF_PATHS_DATA="$dir/grafana" GF_PATHS_PROVISIONING="$dir/grafana/provisioning" \
    GF_AUTH_ANONYMOUS_ENABLED=true "$bin" server --homepath "${GRAFANA_HOME:-/usr/share/grafana}"
  await grafana "$GRAFANA_PORT"
  echo "Grafana       http://localhost:$GRAFANA_PORT/d/relay"
fi

# Bob listens at one instance, Carol at the other, while Ann talks through the
# balancer.
instances=1
[ -z "$redis" ] || instances=2
mkfifo "$dir/quiet"
exec 4<>"$dir/quiet" # a pipe that never ends: they stay, and say nothing
listen() {
  "$dir/relay" chat "ws://localhost:$2/ws" --id "$1" --name "$1" >"$dir/$1.log" 2>&1 <&4 &
  pids+=($!)
  for _ in $(seq 100); do
    if grep -q 'you are in' "$dir/$1.log"; then return; fi
    sleep 0.1
  done
  echo "$1 did not get into the room" >&2
  exit 1
}
listen Bob "$RELAY_PORT"
[ "$instances" = 1 ] || listen Carol "$RELAY2_PORT"
ann() { printf '%s\n' "$@" "/trace" "/quit" | "$dir/relay" chat "$url" --id ann --name Ann --traces "{traceId}"; }
said=$(ann "hello from Ann" "a darn word" "goodbye")
trace=$(grep -oE '[0-9a-f]{32}' <<<"$said" | tail -n 1)
echo "$said"

# Jaeger built from its module has an API and no page: the picture is ours.
for _ in $(seq 100); do
  if curl -sf "http://127.0.0.1:$JAEGER_PORT/api/v3/traces/$trace" >"$dir/trace.json" && [ "$(grep -o '"name":"deliver' "$dir/trace.json" | wc -l)" -ge "$instances" ]; then break; fi
  sleep 0.1
done
picture=${DEMO_PICTURE:-$PWD/.cache/trace.svg}
go run ./telemetry/draw -o "$picture" "$dir/trace.json"

echo "relay         $url"
echo "  talk:       relay chat $url --room lobby"
echo "  numbers:    http://localhost:$ADMIN_PORT/metrics"
echo "Jaeger        http://localhost:$JAEGER_PORT/api/v3/traces/$trace"
echo "  drawn:      $picture"
[ "${1:-}" = --once ] && exit 0
echo "Ctrl-C ends it"
wait
