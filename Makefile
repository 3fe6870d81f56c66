# Two commands matter: `make demo` runs the main job, `make test` passes the tests.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# One profile and one feature set for everything `make test` builds. Asked by each recipe's shell, after need.sh has
# installed what is missing.
TEST_FEATURES := "$$(scripts/test-features.sh)"
SECONDS ?= 30
EXAMPLES ?= 100
MINUTES ?= 1

.PHONY: help
help: ## What there is to make
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 14

.PHONY: build
build: ## Build all programs (debug) into target/debug
	cargo build --locked

.PHONY: demo
demo: ## Sign a real Windows executable end to end, on real parts (KEEP=1 leaves it running)
	@scripts/need.sh demo
	cargo build --locked --features "$$(scripts/test-features.sh demo)"
	@KEEP=$(KEEP) scripts/demo.sh target/debug

.PHONY: demo-clean
demo-clean: ## Stop what `make demo KEEP=1` left running and remove its folder
	@scripts/demo.sh --clean

.PHONY: test
test: ## Everything CI runs: style, lints, bans, unit, property and end-to-end tests, the demo
	@scripts/need.sh test
	@scripts/step-ca.sh install >/dev/null
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets --features $(TEST_FEATURES) -- -D warnings
	scripts/cargo-deny.sh --log-level warn check bans licenses sources
	cargo build --locked --workspace --bins --examples --features $(TEST_FEATURES)
	cargo test --locked --workspace --no-fail-fast --features $(TEST_FEATURES)
	scripts/demo.sh target/debug

.PHONY: contract
contract: ## schemathesis against a running service, longer than in `make test` (SEED=n repeats a run, EXAMPLES=100)
	@scripts/need.sh test
	cargo build --locked --workspace --bins --examples --features $(TEST_FEATURES)
	SEED=$(or $(SEED),$(shell echo $$RANDOM)) EXAMPLES=$(EXAMPLES) \
		cargo test --locked --workspace --features $(TEST_FEATURES) --test it -- contract:: --nocapture

.PHONY: bench
bench: ## Signatures a second of the whole service beside raw C_Sign loops; verifications a second per format (release build)
	@scripts/need.sh run
	cargo build --locked --release --workspace --bins --examples
	scripts/bench.sh target/release
	target/release/examples/verify_speed

.PHONY: dist
dist: ## Release binaries with checksums and a bill of materials, into dist/
	scripts/dist.sh

.PHONY: fuzz
fuzz: ## Fuzz each parser of foreign bytes for SECONDS=30
	scripts/fuzz.sh $(SECONDS)

.PHONY: mutation
mutation: ## Flip every single bit of every accepted piece of evidence (release build, ONLY=name picks)
	COUNTERSIGN_MUTATION_ONLY="$(ONLY)" cargo test --locked --release -p countersign-attestation --test mutation -- \
		--ignored --nocapture

.PHONY: torture
torture: ## Every fault over every deployment, MINUTES=1 each (SEED= repeats an order, ONLY="two nodes" picks)
	@scripts/need.sh test
	cargo build --locked --workspace --bins --examples --features $(TEST_FEATURES)
	COUNTERSIGN_TORTURE_MINUTES=$(MINUTES) COUNTERSIGN_TORTURE_SEED=$(SEED) COUNTERSIGN_TORTURE_ONLY="$(ONLY)" \
		cargo test --locked --workspace --features $(TEST_FEATURES) --test it -- \
		--ignored --exact --nocapture torture::every_fault_over_every_deployment

.PHONY: openapi
openapi: ## Write openapi/openapi.json anew from the handlers
	UPDATE_OPENAPI=1 cargo test --locked --workspace --features $(TEST_FEATURES) --lib the_description_on_disk

.PHONY: fmt
fmt: ## Format
	cargo fmt --all
