# Every target builds what it needs; `make help` lists them.
# The distribution's Python first: it is built with measured branches (PGO), which makes a click a third cheaper.
PYTHON ?= $(shell for python in /usr/bin/python3.11 python3.11 python3; do \
	$$python -c 'import ensurepip, venv' 2>/dev/null && command -v $$python && break; done || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Tests wait as much as they compute. A file's tests run in one process, in their order: they may share a system.
AT_ONCE := -n 3 --dist loadfile --no-loadscope-reorder

OF_COMPILED := tests/tracker tests/fuzz tests/schemas/test_keys.py tests/schemas/test_compiled.py \
	tests/end_to_end/test_hostile_edge.py tests/end_to_end/test_conversions.py tests/end_to_end/test_sales.py \
	tests/end_to_end/test_edge.py

.DEFAULT_GOAL := help
.PHONY: help install compile run demo test test-compiled fuzz check audit e2e bench bench-attribute bench-replay bench-credits bench-scale load chaos mutants lock clean

help:    ## this list
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */  make \1\t/' | expand -t 24

$(READY): requirements.lock pyproject.toml
	@base='import sys; print(sys.base_prefix, sys.version)'; \
	test "$$($(BIN)/python -c "$$base" 2>/dev/null)" = "$$($(PYTHON) -c "$$base")" || rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV) || { echo "python3-venv is missing: installing it"; apt-get update -qq && apt-get install -y -qq python3-venv && $(PYTHON) -m venv $(VENV); }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(READY)

install: $(READY) ## build .venv from requirements.lock: gives .venv/bin/lastcookie

compile: $(READY) ## machine code of what a click goes through. Needs gcc and python3-dev
	@LASTCOOKIE_COMPILED=no $(BIN)/python -m deploy.compile

run: $(READY) ## start everything on embedded stores with the demo program; Ctrl-C drains and stops
	@exec $(BIN)/lastcookie up

demo: $(READY) ## three readers, two affiliates, one shop, over real HTTP against the running system
	@$(BIN)/lastcookie demo

test: $(READY) ## every test, on real Valkey, Redis 7, ClickHouse's engine and Chromium
	@$(BIN)/python -m tests.needs
	LASTCOOKIE_COMPILED=no $(BIN)/python -m pytest $(AT_ONCE)
	@if [ -n "$$CI" ] || $(BIN)/python -m deploy.compile --check; then $(MAKE) --no-print-directory test-compiled; \
	else echo "not tested compiled: there is no C compiler, or no header of Python's"; fi

test-compiled: compile ## the tests of what is compiled, compiled
	LASTCOOKIE_COMPILED=must $(BIN)/python -m pytest $(AT_ONCE) $(OF_COMPILED)

fuzz: $(READY) ## new input for [TARGET=url] for [SECONDS=300]; short runs of all targets are in `make test`
	@$(BIN)/python -m tests.fuzz $(or $(SECONDS),300) $(TARGET)

check: $(READY) ## format, lint, types, known vulnerabilities, then the tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	@$(MAKE) --no-print-directory audit
	@$(MAKE) --no-print-directory test

audit: $(READY) ## known vulnerabilities of what requirements.lock pins; without network it says so and passes
	@$(BIN)/python -m tests.audit

e2e: $(READY) ## the end-to-end tests alone
	@$(BIN)/python -m tests.needs
	$(BIN)/python -m pytest $(AT_ONCE) tests/end_to_end

bench: $(READY) ## clicks a second beside nginx in the same run; Redis bytes per live visitor
	@$(MAKE) --no-print-directory compile || echo "measured as interpreted"
	$(BIN)/python -m loadtests.bench

bench-attribute: $(READY) ## `lastcookie attribute` on 10 million clicks and a million sales, beside DuckDB
	$(BIN)/python -m loadtests.attribute

bench-replay: $(READY) ## how long a replay of 100,000 sales takes, as it was and with other terms
	$(BIN)/python -m loadtests.replay

bench-credits: $(READY) ## sales a second that the live worker decides on one core, with and without ClickHouse
	$(BIN)/python -m loadtests.credit_rate

bench-scale: $(READY) ## start and click rate with 1 million links, 10 million visitors, 100 million clicks (needs 25 GB)
	$(BIN)/python -m loadtests.scale

load: $(READY) ## a Locust journey that ends by comparing what it did with what the tables say
	$(BIN)/python -m loadtests.load

chaos: $(READY) ## kill, freeze, fill and restore everything under load; nothing may be lost. An hour; SIZE=small: minutes
	$(BIN)/python -m tests.chaos --size $(or $(SIZE),full)

mutants: $(READY) ## take away what the promises rest on, one at a time: a test must fail each time
	$(BIN)/python -m tests.mutants

lock: $(READY) ## write requirements.lock anew
	$(BIN)/pip-compile --quiet --generate-hashes --strip-extras --allow-unsafe --extra dev --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --output-file requirements.lock pyproject.toml

clean:   ## remove the environment and all state
	rm -rf $(VENV) var lastcookie_compiled*
