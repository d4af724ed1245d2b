# Each target sets itself up from nothing: an environment in .venv with the pinned packages. A later call reuses it.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready

DEMO_STORE ?= nbkit-demo-store
TESTS ?=
BENCH ?=

.PHONY: help setup demo test lint bench clean
.DEFAULT_GOAL := help

help:  ## show this list
	@echo "make TARGET, where TARGET is one of"
	@awk -F ':.*## *' '/^[a-z]+:.*##/ { printf "  %-6s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "Needs Python 3.11 or newer (PYTHON=... names another than python3) and about 7 GB of disk."

setup: $(READY)  ## make the environment in .venv, once

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "make: '$(PYTHON)' is not Python 3.11 or newer ($$($(PYTHON) --version 2>&1 | head -1))."; \
	  echo "Nothing was installed. Install a newer one, or name it: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "make: '$(PYTHON)' has no venv module. On Debian and Ubuntu: apt-get install python3-venv"; exit 2; }
	@test -x $(RUN) && $(RUN) -c '' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	@echo "Installing the pinned packages into $(VENV) (once; several minutes, mostly torch) ..."
	@$(RUN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(READY)  ## the main job: a real recording, several sessions, some of them killed; then the rollout figure
	$(RUN) -m nbkit rehearse notebooks/10_eeg_windows.ipynb notebooks/40_bandvar_train.ipynb \
	  notebooks/41_bandvar_rollout.ipynb --store $(DEMO_STORE) --session 20s --kill mixed --seed 1

test: $(READY)  ## the tests (TESTS="tests/runtime -x" narrows them)
	$(RUN) -m ruff check nbkit tests
	$(RUN) -m pytest $(TESTS)

bench: $(READY)  ## the measurements (BENCH="--quick --only ledger --json bench-results.json")
	$(RUN) -m tests.bench $(BENCH)

clean:  ## remove the environment, caches and the demo's store
	rm -rf $(VENV) $(DEMO_STORE) build dist .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
