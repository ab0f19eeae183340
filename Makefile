# One command for each thing a person may want of this folder. Needs Python >= 3.11, make and git; everything else is fetched once, by hash.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test check bench fuzz lock clean

VENV := .venv
PYTHON := $(VENV)/bin/python
READY := $(VENV)/ready
PROCESSES ?= 2
COMPILE := $(VENV)/bin/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-config \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" $(UPGRADE)

help:
	@echo 'make demo    the main job on a sample store, in a temporary folder'
	@echo 'make test    all tests (make test ARGS="-k restore" for some)'
	@echo 'make check   style, types, imports'
	@echo 'make bench   measures speed and memory'
	@echo 'make fuzz    feeds every reader of foreign bytes wrong ones, five minutes each (make fuzz ARGS="audio --seconds 60")'
	@echo 'make lock    writes the lock files again (UPGRADE=--upgrade for newer versions)'
	@echo 'make clean   removes what the others made'

demo: $(READY)
	@$(PYTHON) -m backup_tool demo

test: $(READY)
	@$(PYTHON) -m pytest -q -n $(PROCESSES) --dist worksteal $(ARGS)

check: $(READY)
	@$(VENV)/bin/ruff check --quiet backup_tool tests
	@$(VENV)/bin/ruff format --quiet --check backup_tool tests
	@$(VENV)/bin/mypy --no-error-summary
	@$(VENV)/bin/lint-imports > $(VENV)/imports.log || { cat $(VENV)/imports.log; exit 1; }
	@echo 'style, types and imports are fine'

bench: $(READY)
	@$(PYTHON) -m tests.benchmarks $(ARGS)

fuzz: $(READY)
	@$(PYTHON) -m tests.fuzz $(ARGS)

lock: $(READY)
	@$(COMPILE) pyproject.toml --output-file requirements.lock
	@$(COMPILE) pyproject.toml --group dev --output-file requirements-dev.lock

clean:
	@rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .fuzz
	@find backup_tool tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment is made anew whenever the lock is newer than it. Wheels only, each checked against its hash; the package itself is
# linked in with the builder from the lock, so nothing is fetched unchecked and later runs need no network.
$(READY): requirements-dev.lock pyproject.toml
	@python=; for candidate in $(PYTHON_BASE) python3.13 python3.12 python3.11 python3.14 python3 python; do \
		if "$$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' > /dev/null 2>&1; then python="$$candidate"; break; fi; \
	done; \
	if [ -z "$$python" ]; then echo 'error: no Python 3.11 or newer with venv on PATH' >&2; \
		echo "hint: install one (Debian: apt-get install python3-venv), or name it: make PYTHON_BASE=/path/to/python3 ..." >&2; exit 2; fi; \
	echo "making $(VENV) with $$("$$python" -V) (once)" >&2; \
	rm -rf $(VENV); "$$python" -m venv $(VENV)
	@$(PYTHON) -m pip install -qq --disable-pip-version-check --require-hashes --only-binary :all: -r requirements-dev.lock
	@$(PYTHON) -m pip install -qq --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@touch $@
