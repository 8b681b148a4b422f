# Targets with a "##" are listed by make alone.

CLIENT   := internal/gateway/client
CONFORM  := test/conformance
TOOL     := go tool -modfile=tools/go.mod
GOTEST   := SIO_TEST_REQUIRE=1 go test -race -shuffle=on
FUZZTIME ?= 20s
FUZZPROC ?= 2
BENCH    ?= .
COUNT    ?= 1

GATEWAY_ADDR       ?= :3000
GATEWAY_ADMIN_ADDR ?= :9090
url = http://$(patsubst :%,localhost:%,$(1))

.PHONY: help
help:
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

.PHONY: run
run: bin/gateway ## start the gateway with the relay and the playground
	@echo "playground $(call url,$(GATEWAY_ADDR))/   metrics $(call url,$(GATEWAY_ADMIN_ADDR))/metrics"
	@GATEWAY_ADDR=$(GATEWAY_ADDR) GATEWAY_ADMIN_ADDR=$(GATEWAY_ADMIN_ADDR) \
	GATEWAY_RELAY=true GATEWAY_PLAYGROUND=true GATEWAY_RECOVERY=true GATEWAY_LOG_FORMAT=text GATEWAY_DRAIN_WINDOW=0s \
	bin/gateway

.PHONY: build
build: bin/gateway ## build bin/gateway

.PHONY: test
test: client npm ## run everything: Go tests with -race, stock clients, a browser
	scripts/need gcc nodejs npm chromium redis-server postgresql pgbouncer nginx
	$(GOTEST) -timeout=15m ./...
	PROTOCOL_TARGET=official go test -count=1 -timeout=5m ./test/protocol # the control: the rules hold for the official server

.PHONY: conformance
conformance: client $(CONFORM)/node_modules/.package-lock.json ## run the stock JavaScript clients against the server
	scripts/need gcc nodejs npm chromium redis-server
	$(GOTEST) -timeout=10m -count=1 ./$(CONFORM)/...

.PHONY: manifests
manifests: ## read deploy/k8s: build each overlay, decode it strictly, check what belongs together
	scripts/need nginx
	cd test/k8s && go test -shuffle=on -count=1 -timeout=5m ./...

.PHONY: k8s-test
k8s-test: npm ## run deploy/k8s on the cluster of KUBECONFIG with stock clients: scripts/k8s-test says what it needs
	scripts/k8s-test

.PHONY: cluster
cluster: client npm ## a cluster behind nginx: kills, drains, rolling restarts, a storm of reconnects
	scripts/need gcc nodejs npm redis-server postgresql nginx
	OPERATIONS_STRICT=1 $(GOTEST) -timeout=15m -count=1 -v -run 'TestCluster|TestStorm' ./test/operations

.PHONY: monitoring
monitoring: ## check the alert rules and the dashboard, and have a real Prometheus scrape real nodes
	scripts/need gcc redis-server prometheus
	$(GOTEST) -timeout=5m -count=1 ./test/monitoring

.PHONY: lint
lint: ## vet, linters, formatting, tidy modules, and what scripts/check knows
	go vet ./...
	$(TOOL) golangci-lint run
	go mod tidy -diff
	scripts/check

.PHONY: fmt
fmt: ## format the Go code
	$(TOOL) golangci-lint fmt

.PHONY: fuzz
fuzz: ## run every fuzz target for FUZZTIME (20s) each
	FUZZTIME=$(FUZZTIME) FUZZPROC=$(FUZZPROC) scripts/fuzz

.PHONY: bench
bench: bench/node/node_modules/.package-lock.json ## measure our server beside Node's into bench/RESULTS.md, or what BENCHFLAGS say
	scripts/need nodejs redis-server postgresql
	CGO_ENABLED=0 go build -trimpath -o bin/bench-server ./bench/server
	go build -o bin/bench ./bench
	bin/bench $(or $(BENCHFLAGS),-out bench/RESULTS.md)

.PHONY: microbench
microbench: ## run the benchmarks beside the code: BENCH is a pattern, COUNT repeats them
	go test -run='^$$' -bench='$(BENCH)' -benchmem -count=$(COUNT) ./...

.PHONY: clean
clean: ## remove what the other targets made
	rm -rf bin test/*/node_modules test/*/*/node_modules bench/node/node_modules
	find $(CLIENT)/dist -type f ! -name .gitignore -delete

# Always asks the go command, which knows better than make what changed.
.PHONY: bin/gateway
bin/gateway: client
	CGO_ENABLED=0 go build -trimpath -o $@ ./cmd/gateway

# The stock browser client, embedded in the gateway.
.PHONY: client
client: $(CLIENT)/dist/socket.io.js
$(CLIENT)/dist/socket.io.js: $(CLIENT)/package-lock.json
	scripts/client

# What tests and benchmark run with node, each folder by its own lock file.
.PHONY: npm
npm: $(patsubst %/package-lock.json,%/node_modules/.package-lock.json,$(wildcard test/*/package-lock.json test/*/*/package-lock.json bench/node/package-lock.json))
%/node_modules/.package-lock.json: %/package-lock.json
	scripts/need nodejs npm
	cd $(<D) && npm ci --ignore-scripts --no-audit --no-fund
	touch $@
