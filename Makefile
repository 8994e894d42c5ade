# make test is all a contributor and CI need: it installs what is missing, then
# checks and tests everything. It starts its own servers on free ports.
SHELL := /bin/bash
GO    ?= go
TOOL  := $(GO) tool -modfile=tools.mod

.PHONY: test setup lint unit build generate

test: setup lint unit

# Jaeger is built once, from its module; the tests of traces look into it.
setup:
	@bash testdata/setup.sh
	@mkdir -p .cache/jaeger; [ -x .cache/jaeger/jaeger ] || echo "building Jaeger: some minutes, once"
	@cd tools/jaeger && CGO_ENABLED=0 $(GO) build -trimpath -o ../../.cache/jaeger/jaeger github.com/jaegertracing/jaeger/cmd/jaeger

build:
	CGO_ENABLED=0 $(GO) build -trimpath -o relay .

generate:
	$(GO) generate ./...

lint:
	@out="$$($(TOOL) gofumpt -l $$(git ls-files '*.go' | grep -v '\.pb\.go$$'))"; if [ -n "$$out" ]; then echo "gofumpt would change:"; echo "$$out"; exit 1; fi
	$(GO) vet ./...
	$(TOOL) staticcheck ./...
	$(GO) mod tidy -diff

# Real Redis, Sentinel, Cluster, Jaeger, browsers and foreign clients are part of it.
unit:
	ulimit -n "$$(ulimit -Hn)"; $(TOOL) gotestsum --format pkgname -- -race -timeout 15m ./...

# Longer than make test: what docs/reliability.md reports. TLS=1 makes all clients
# connect over TLS, whose connections are another kind than those of plain TCP.
.PHONY: reliability reliability-more
reliability:
	ulimit -n "$$(ulimit -Hn)"; $(GO) test ./internal/verify -run TestFaults -v -timeout 6h -faults.repeat $(or $(RUNS),20) $(if $(TLS),-faults.tls)

reliability-more:
	ulimit -n "$$(ulimit -Hn)"; $(GO) test ./internal/verify -run 'TestTwoFaultsAtOnce|TestACrowd|TestReconnectStorm|TestTheLast|TestNoGhost' -v -timeout 1h \
		-faults.mix 10m -faults.seed 0 -crowd 2000 -storm 5000 $(if $(TLS),-faults.tls)
	ulimit -n "$$(ulimit -Hn)"; $(GO) test ./internal/bus/redisbus -run 'TestContract/Random|TestChaos' -parallel 1 -v -timeout 1h \
		-bustest.seed 0 -bustest.ops 10000 -chaos.seed 0 -chaos.for 2m

# What docs/performance.md reports: a relay, a Redis and the load share this machine, so leave it alone meanwhile.
.PHONY: bench profile
BENCH ?= latency,mid,big,many,cross,crosslat,idle,start
ROOMS ?= limit,plain
bench:
	ulimit -n "$$(ulimit -Hn)"; $(GO) test ./internal/bench -run TestTable -v -timeout 2h -table $(or $(RUNS),5) -table.scenarios $(BENCH) -table.rooms $(ROOMS)

# Two relays, Redis, Jaeger and a balancer on this machine, with some messages to look at.
.PHONY: demo
demo:
	@bash examples/observability/demo.sh

# The parts alone. BASE=FILE compares with the output of an earlier run.
.PHONY: microbench
microbench:
	@mkdir -p .cache
	$(GO) test -run '^$$' -bench '$(or $(ONLY),.)' -count $(or $(RUNS),10) ./internal/wire ./internal/room/... ./internal/gateway/... ./internal/bus/... ./plugins/builtin ./telemetry | tee .cache/bench.txt
	$(TOOL) benchstat $(BASE) .cache/bench.txt

# CPU, heap, block and mutex profiles of a relay under load, in ./profiles.
profile:
	$(GO) test ./internal/bench -run TestProfile -v -profile $(CURDIR)/profiles -profile.scenario $(or $(SCENARIO),many)
