# Every command of the project. `make help` lists them. Build output and tools stay outside the checkout.

CACHE ?= $(HOME)/.cache/esker
export CARGO_TARGET_DIR ?= $(CACHE)/target
PINS := e2e/tools/install e2e/tools/requirements.txt e2e/tools/kafka/pom.xml e2e/tools/minio/go.mod e2e/tools/minio/go.sum \
  $(wildcard e2e/tools/java/*.java e2e/tools/kafka-go/*.go e2e/tools/kafka-go/go.* e2e/tools/kafkajs/package*.json)
TOOLS ?= $(CACHE)/tools-$(shell cat $(PINS) | sha256sum | cut -c1-12)
CARGO ?= cargo
FULL ?=

# The linker is a matter of this machine, so it is chosen here and not in .cargo/config.toml.
ifneq ($(shell command -v mold),)
export RUSTFLAGS ?= -C link-arg=-fuse-ld=mold
endif

ESKER := $(CARGO_TARGET_DIR)/release/esker
# The clients of the benchmarks of groups.
LOAD := $(CARGO_TARGET_DIR)/release/esker-load
# The assignors as a program, to be asked what Kafka's own are asked.
ASSIGN := $(CARGO_TARGET_DIR)/debug/examples/assign
# The same broker with known bugs that an option wakes: the crash checker must catch each of them.
PLANTED := $(CACHE)/planted/esker

export FULL
export ESKER_BIN := $(ESKER)
export ESKER_PLANTED_BIN := $(PLANTED)
export ESKER_ASSIGN_BIN := $(ASSIGN)
export ESKER_LOAD_BIN := $(LOAD)
export ESKER_TOOLS := $(TOOLS)
export PYTHONDONTWRITEBYTECODE := 1
PYTEST = $(TOOLS)/venv/bin/python -m pytest -q -p no:cacheprovider -c e2e/pytest.ini

FUZZ_ITERATIONS ?= $(if $(FULL),2000000,50000)
SEEDS ?= $(if $(FULL),2000,200)

.DEFAULT_GOAL := help
.PHONY: help demo check unit build load planted assign tools crash assignors clients groups differential e2e fuzz bench bench-groups bench-smoke sim test

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## (.*)/\1\t\2/' | expand -t 14

demo: build ## run the clickstream example end to end: stream, seal, offload, read back
	@$(ESKER) demo

check: ## formatting, lints, quick tests, licences; no network
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) test --workspace --lib --bins --locked --quiet
	@if [ -x $(TOOLS)/cargo-deny/bin/cargo-deny ]; then \
	  $(TOOLS)/cargo-deny/bin/cargo-deny --locked check bans licenses sources; \
	else echo "check: cargo-deny is not installed (make tools), licences were not checked"; fi

unit: ## every Rust test of the workspace, simulation included
	$(CARGO) test --workspace --locked --quiet

build: ## the release binary
	$(CARGO) build --release --locked --bin esker

# Both in one call: with the features of one alone, what they share would be compiled anew.
load:
	$(CARGO) build --release --locked --bin esker --bin esker-load

planted: ## a binary with bugs planted on purpose, for the crash checker; unoptimised, as the tests are
	$(CARGO) build --locked --bin esker --features planted-bugs
	@mkdir -p $(dir $(PLANTED)) && cp -f $(CARGO_TARGET_DIR)/debug/esker $(PLANTED)

assign:
	$(CARGO) build --locked --package esker-coordinator --example assign

tools: $(TOOLS)/.complete ## Kafka's jars, clients of every language, MinIO, cargo-deny, outside the checkout

$(TOOLS)/.complete: $(PINS)
	e2e/tools/install $(TOOLS)

crash: tools ## kill -9 under load; the checker compares content and must catch planted bugs
	@$(MAKE) --no-print-directory planted
	@$(MAKE) --no-print-directory build
	$(PYTEST) e2e/crash

assignors: tools assign ## random consumer groups: the assignors answer what Kafka's own answer
	$(PYTEST) e2e/assignors

clients: tools build assign ## real clients, real S3, bad input, the demo, the assignors
	$(PYTEST) e2e/assignors e2e/clients e2e/tier e2e/hostile e2e/demo

groups: tools build ## groups of every client, Kafka's tools beside Apache Kafka, Kafka Connect
	$(PYTEST) e2e/groups e2e/parity e2e/connect

differential: tools build ## the same requests to Apache Kafka and to Esker, every field compared
	$(PYTEST) e2e/differential

e2e: tools build assign ## chosen tests with real clients: ARGS="e2e/clients -k gzip"
	$(PYTEST) $(ARGS)

# The whole workspace is named where one crate would do: with the features that `make unit` compiled, nothing is
# compiled again.
fuzz: ## mutated requests, responses and batches against the decoders
	FUZZ_ITERATIONS=$(FUZZ_ITERATIONS) $(CARGO) test --workspace --locked --quiet --test 'fuzz*'

sim: ## whole brokers on simulated disks, networks and stores, many seeds
	SIM_SEEDS=$(SEEDS) $(CARGO) test --workspace --locked --quiet --test seeds

bench: tools build ## figures beside Apache Kafka on this machine, one table
	$(TOOLS)/venv/bin/python bench/run.py

bench-groups: tools load ## groups, commits and compaction beside Apache Kafka, one table
	$(TOOLS)/venv/bin/python bench/groups.py

bench-smoke: tools load ## the benchmarks at toy size: they run, and assert nothing about speed
	$(TOOLS)/venv/bin/python bench/run.py --smoke
	$(TOOLS)/venv/bin/python bench/groups.py --smoke

test: ## all that CI runs, stage by stage
	@MAKE="$(MAKE)" .ci/stages tools:25 check:30 unit:20 sim:15 build:20 crash:20,clients:30,groups:30,differential:20,bench-smoke:15 fuzz:8
