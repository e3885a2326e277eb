# The same commands by hand and in CI. `make test` and `make lab` work from a fresh clone.
SHELL := /bin/sh
VENV ?= .venv
BIN := $(abspath $(VENV))/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# Extra arguments: make test ARGS="-k arena -x", make lab ARGS="--port 9999", make bench ARGS="--json"
ARGS ?=
# A virtual environment that is active in the caller's shell is not the one in use here.
unexport VIRTUAL_ENV
SEEDS ?= 1

.DEFAULT_GOAL := help
.PHONY: help lab test lint bench parity chaos format clean

help:
	@echo "make lab      JupyterLab on the first lesson"
	@echo "make test     ruff, mypy, import-linter, pytest; one summary"
	@echo "make lint     the linters alone"
	@echo "make bench    the microbenchmark; against peers: make bench ARGS='--against ray --python ray=/path/to/python'"
	@echo "make parity   the parity tests, on real Ray too: make parity RAY_PYTHON=/path/to/python"
	@echo "make chaos    storms of deaths and interrupts: make chaos SEEDS=20; one again: make chaos ARGS='--first 17'"
	@echo "make format   let ruff rewrite what it can"
	@echo "make clean    remove the environment and the caches"

$(BIN)/python:
	@python=$$(sh .ci/python) && echo "creating $(VENV) with $$($$python --version)" && $$python -m venv $(VENV)

# A stamp per set of extras, older than pyproject.toml when something is to be installed again.
$(VENV)/.lab-installed: pyproject.toml | $(BIN)/python
	@echo "installing minray with its lessons into $(VENV) (the first time takes a minute or two)"
	@$(PIP) install -qq -e ".[lab]"
	@touch $@

# torch first and by its exact version: on a machine that keeps a CPU build, this takes that file; a
# range would fetch the newest build with gigabytes of CUDA.
$(VENV)/.test-installed: pyproject.toml | $(BIN)/python
	@echo "installing minray with everything that its tests use into $(VENV) (the first time takes minutes)"
	@$(PIP) install -qq "torch==2.13.0"
	@$(PIP) install -qq -e ".[dev,all]"
	@touch $@ $(VENV)/.lab-installed

lab: $(VENV)/.lab-installed
	@$(BIN)/minray lab $(ARGS)

test: $(VENV)/.test-installed
	@sh .ci/check $(BIN) $(ARGS)

lint: $(VENV)/.test-installed
	@$(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/lint-imports

format: $(VENV)/.test-installed
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format --quiet .

bench: $(VENV)/.test-installed
	@$(BIN)/minray microbenchmark $(ARGS)

parity: $(VENV)/.test-installed
	@MINRAY_RAY_PYTHON="$(RAY_PYTHON)" $(BIN)/python -m pytest -m parity $(ARGS)

chaos: $(VENV)/.test-installed
	@$(BIN)/python -m tests.chaos --seeds $(SEEDS) $(ARGS)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
