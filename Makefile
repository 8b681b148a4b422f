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
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

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
	scripts/need gcc nodejs npm chromium redis-server postgresql pgbouncer nginx haproxy caddy prometheus
	$(GOTEST) -timeout=15m ./...
	$(MAKE) manifests
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
cluster: client npm ## clusters behind nginx and other balancers: kills, drains, rolling restarts, a storm of reconnects
	scripts/need gcc nodejs npm redis-server postgresql nginx haproxy caddy
	OPERATIONS_STRICT=1 $(GOTEST) -timeout=15m -count=1 -v ./test/operations

.PHONY: monitoring
monitoring: ## check the alert rules and the dashboard, and have a real Prometheus scrape real nodes
	scripts/need gcc redis-server prometheus
	$(GOTEST) -timeout=5m -count=1 ./test/monitoring

.PHONY: lint
lint: ## vet, linters, formatting, tidy modules, and what scripts/check knows
	go vet ./...
	cd test/k8s && go vet -tags live ./...
	$(TOOL) golangci-lint run --allow-parallel-runners
	cd test/k8s && go tool -modfile=../../tools/go.mod golangci-lint run --allow-parallel-runners --build-tags live
	go mod tidy -diff
	cd test/k8s && go mod tidy -diff
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

IMAGE     ?= patchbay/gateway
PLATFORMS ?= linux/amd64,linux/arm64
# To a registry: OUTPUT=type=registry,rewrite-timestamp=true, and IMAGE with its name.
OUTPUT    ?= type=oci,dest=bin/image.tar,rewrite-timestamp=true
image_args = --build-arg VERSION --build-arg COMMIT --build-arg SOURCE_DATE_EPOCH $(IMAGEFLAGS)

# What an image says of itself, and the time that its files have.
image image-multi up: export VERSION ?= $(shell git describe --tags --always --dirty)
image image-multi up: export COMMIT ?= $(shell git rev-parse HEAD)
image image-multi up: export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct)

.PHONY: image
image: ## build the image for this machine, or for ARCH=arm64 or amd64
	docker build $(if $(ARCH),--platform linux/$(ARCH)) $(image_args) -t $(IMAGE):dev -t $(IMAGE):$(VERSION) .

.PHONY: image-multi
image-multi: ## build the image for amd64 and arm64 with buildx, into bin/image.tar or what OUTPUT says
	mkdir -p bin
	docker buildx build --platform $(PLATFORMS) $(image_args) -t $(IMAGE):$(VERSION) --output $(OUTPUT) .

.PHONY: up
up: ## start the cluster of docker-compose.yml on port 8080
	docker compose up --build --detach --wait

.PHONY: down
down: ## stop it
	docker compose down

.PHONY: compose-test
compose-test: client npm ## run docker-compose.yml with stock clients and a browser, on Redis and on PostgreSQL
	scripts/need nodejs chromium
	scripts/compose-test

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
