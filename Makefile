# Two commands matter: `make demo` and `make test`. Both make .venv first; nothing is installed twice.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
INSTALLED := .venv/.installed
PYTEST := $(BIN)/pytest
# Two processes, a module of tests at a time (tests/conftest.py).
TWO := --numprocesses 2 --dist loadscope

.DEFAULT_GOAL := help
.PHONY: help demo test test-all lint format test-fast test-slow test-cluster test-browser test-gpu faults fuzz bench curves audit clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

$(INSTALLED): pyproject.toml constraints.txt requirements-demo.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Fleetune needs Python 3.11 or newer; set PYTHON=…")'
	@echo "Installing into .venv (a few minutes, once) …"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-demo.txt
	@touch $(INSTALLED)

demo: $(INSTALLED) ## Run the demo sweep on real movie reviews, ending in a leaderboard
	@$(BIN)/fleetune demo

test: lint ## Lint, then run the fast tests and some of every other kind
	@$(PYTEST) -q --durations=5 $(TWO) -m "not faults and (quick or not slow and not cluster and not browser)"

test-all: lint ## Lint, then run all tests but the long fault suite; most of an hour
	@$(PYTEST) -q --durations=20 $(TWO)

test-fast: $(INSTALLED) ## Tests that take seconds
	@$(PYTEST) -q $(TWO) -m "not faults and not slow and not cluster and not browser"

test-slow: $(INSTALLED) ## Tests that run whole sweeps
	@$(PYTEST) -q -m "slow and not cluster"

test-cluster: $(INSTALLED) ## Tests that submit jobs to a real Ray head
	@$(PYTEST) -q -m cluster

test-browser: $(INSTALLED) ## Tests that look at pages in a real headless Chromium
	@$(PYTEST) -q -m browser

test-gpu: $(INSTALLED) ## Tests of kernels, graphs and memory on a GPU, where there is one
	@$(PYTEST) -q -m gpu

# FAULT_KILLS: how often the driver is killed in a row (3); FAULT_DAMAGES: how many files are damaged, one by one (1000);
# FAULT_CONTINUE=1: only rounds that tests/faults/results.json does not know as passed.
faults: $(INSTALLED) ## Kill, starve and cut off sweeps, ten times each; hours (FAULT_ROUNDS=1 FAULT_DAMAGES=40: less)
	@FAULT_RESULTS=tests/faults $(PYTEST) -q -m faults

# FUZZ_EXAMPLES: how many of each kind.
fuzz: $(INSTALLED) ## Feed thousands of odd sweep files and tables; minutes (FUZZ_EXAMPLES=500: less)
	@FUZZ_EXAMPLES=$(or $(FUZZ_EXAMPLES),2000) $(PYTEST) -q --timeout=0 tests/bad_input/test_any_input.py

bench: $(INSTALLED) ## Time Fleetune against the plain loop and HF Trainer + Ray Tune (BENCH="--rows 500 --rounds 1")
	@$(BIN)/python -m jobs.bench $(BENCH)

curves: $(INSTALLED) ## Time sweeps as trials, texts or their length grow (CURVES="--curve trials")
	@$(BIN)/python -m jobs.curves $(CURVES)

lint: $(INSTALLED) ## ruff, mypy, import-linter
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

# PyPI's own feed would do too, but where an index stands in for PyPI, pip-audit finds nothing there and calls that clean.
audit: $(INSTALLED) ## Look up known vulnerabilities of everything installed (needs the network)
	@$(BIN)/pip-audit --local --skip-editable --vulnerability-service osv

format: $(INSTALLED) ## Let ruff format and fix what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean: ## Remove .venv and caches; sweeps in runs/ stay
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
