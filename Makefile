# make demo    compile a small real model for this machine and for Arm, run both, show accuracy and sizes
# make test    every test (installs emulators and cmake from apt where it may)
# make test-full   and the long conformance sweeps; make lint   formatting, lint rules, types

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Workers of pytest; each of them also runs kernel builds.
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

.PHONY: demo test test-full lint format train tools clean help

help:
	@sed -n 's/^# //p' $(MAKEFILE_LIST) | head -n 3

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "edgeq needs Python 3.10 or newer: make PYTHON=python3.12"; exit 2; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "No venv module. On Debian and Ubuntu: apt-get install python3-venv"; exit 2; }

$(VENV)/.runtime: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/.runtime

$(VENV)/.train: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[train]'
	@touch $@

demo: $(VENV)/.runtime tools
	@PATH="$(abspath $(BIN)):$$PATH" sh examples/digits/demo.sh

train: $(VENV)/.train
	$(BIN)/python examples/digits/train.py

# Installs what apt has and this machine lacks; where it may not, says so, and the tests that need it are skipped.
tools:
	@sh tests/install-tools.sh

test: $(VENV)/.dev tools
	$(PYTEST)

test-full: $(VENV)/.dev tools
	$(PYTEST) -m ""

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@files=$$(git ls-files '*.c' '*.h' '*.cpp' '*.hpp'); [ -z "$$files" ] || $(BIN)/clang-format --dry-run --Werror $$files

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
