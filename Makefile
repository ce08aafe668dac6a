# Everything that is done with this repository. `make help` lists it.
# Needed on the machine: Rust (rustup), Python 3 with pip, make. The targets fetch the rest.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# Options of `make run`.
UPSTREAM ?=
LISTEN ?= 127.0.0.1:8080
ADMIN ?= 127.0.0.1:9090
ARGS ?=

.PHONY: help
help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

.PHONY: assets
assets: ## Fetch the embedding model and ONNX Runtime into assets/ (once)
	@scripts/fetch-assets

.PHONY: build
build: assets ## target/release/reprise, ready to start from here
	cargo build --release --locked --bin reprise

.PHONY: run
run: build ## Start the proxy; UPSTREAM=http://host:port, else in front of the simulated server
	@UPSTREAM="$(UPSTREAM)" LISTEN="$(LISTEN)" ADMIN="$(ADMIN)" scripts/run $(ARGS)

.PHONY: check
check: ## The inner loop: types, lints and unit tests of what changed, about a minute
	cargo clippy --locked --all-targets
	cargo test --locked --lib

.PHONY: test
test: assets ## Everything: unit, integration, real clients, real servers
	cargo test --locked
	scripts/test-milvus
	scripts/test-sdk
	scripts/test-deploy --quick
	scripts/test-watch --if-possible

.PHONY: watch
watch: assets ## The dashboard in a real Chromium, the metrics in a real Prometheus (Debian packages)
	scripts/test-watch

.PHONY: deploy-files
deploy-files: ## Compose, Dockerfile, systemd, Kubernetes: as far as it goes without a container engine
	scripts/test-deploy

.PHONY: counts
counts: ## Instructions of the hot path against the accepted figures (needs valgrind)
	scripts/counts

.PHONY: bench
bench: build ## Side by side in one run: direct, nginx, hyper alone, Reprise; half load
	scripts/bench

.PHONY: bench-peers
bench-peers: build ## Also haproxy, varnish, LiteLLM, Portkey, GPTCache; the tax of a miss; streams; memory
	scripts/bench --peers --out target/bench-peers

.PHONY: bench-store
bench-store: ## The vector tier; ARGS="--entries 1000000 --int8", --milvus URL, --qdrant URL
	cargo bench --locked --bench store -- $(ARGS)

.PHONY: fmt
fmt: ## Format
	cargo fmt

.PHONY: lint
lint: ## Format, lints and dependency policy, as CI checks them
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	# The fuzz targets are a workspace of their own: a dependency that a room takes on is theirs too.
	CUSTOM_LIBFUZZER_PATH=/not/built/libFuzzer.a cargo check --locked --quiet --manifest-path fuzz/Cargo.toml --bins
	scripts/deny

.PHONY: clean
clean: ## Remove what was built (assets/ and .tools/ stay)
	cargo clean
