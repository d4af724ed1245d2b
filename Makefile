# Each target sets itself up from nothing: an environment in .venv with the pinned packages. A later call reuses it.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready
CORE := $(VENV)/.core

DEMO_STORE ?= nbkit-demo-store
SESSION ?= 15s
# sessions run in folders of their own, where a relative path would lead nowhere
EEGBCI := $(if $(MNE_DATASETS_EEGBCI_PATH),MNE_DATASETS_EEGBCI_PATH=$(abspath $(MNE_DATASETS_EEGBCI_PATH)))
CHAIN_STORE ?= nbkit-chain-store
RESULTS_DATA ?= ../shared/data
RESULTS_STORE ?= nbkit-results-store
RESULTS_DOCS ?= docs
TESTS ?=
WORKERS ?= 2
# a file is run by one process, so that what a module shares is made once; the order is that of tests/conftest.py
PYTEST := $(RUN) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder
# Where it is set, every process would compile its libraries anew, which takes torch and Lightning a minute.
unexport PYTHONDONTWRITEBYTECODE
BENCH ?=
GPU ?=
OWNER ?=

LOWEST := .venv-lowest
RESUMES := $(addprefix tests/runtime/training/test_,exact_resume.py traps.py fit.py checkpointing.py generations.py) \
  $(addprefix tests/runtime/training/,exact/test_form.py held/test_code.py held/test_items.py held/test_links.py) \
  $(addprefix tests/runtime/ledger/test_,records.py segments.py) tests/runtime/test_requirements.py

.PHONY: help setup demo test quick test-lowest lint types bench gpu badges chain results clean
.DEFAULT_GOAL := help

help:  ## show this list
	@echo "make TARGET, where TARGET is one of"
	@awk -F ':.*## *' '/^[a-z-]+:.*##/ { printf "  %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "Needs Python 3.11 or newer (PYTHON=... names another than python3) and about 5 GB of disk, 7 GB for the tests."

setup: $(READY) $(VENV)/.filter  ## make the whole environment in .venv, once

# uv installs several times as fast as pip; where it cannot be had or fails, pip does the same alone. Both take the same
# pins, and uv the index that PIP_INDEX_URL names.
define INSTALL
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "make: '$(PYTHON)' is not Python 3.11 or newer ($$($(PYTHON) --version 2>&1 | head -1))."; \
	  echo "Nothing was installed. Install a newer one, or name it: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "make: '$(PYTHON)' has no venv module. On Debian and Ubuntu: apt-get install python3-venv"; exit 2; }
	@test -x $(RUN) && $(RUN) -c '' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	@echo "Installing $(2) into $(VENV) (once; mostly torch with its CUDA libraries, some 3 GB to download) ..."
	@began=$$(date +%s); pip="$(RUN) -m pip --disable-pip-version-check"; \
	  index=$${UV_DEFAULT_INDEX:-$$PIP_INDEX_URL}; \
	  { $$pip install --quiet uv && $${index:+env UV_DEFAULT_INDEX=$$index} $(VENV)/bin/uv pip install --quiet \
	    --python $(RUN) --constraint constraints.txt --editable '$(1)'; } || \
	  { echo "uv could not install them (see above); pip does it alone, which takes some minutes."; \
	    $$pip install --quiet --constraint constraints.txt --editable '$(1)'; } || exit 1; \
	  took=$$(($$(date +%s) - began)); \
	  echo "Installed in $$((took / 60)) min $$((took % 60)) s. $(VENV) holds $$(du -sh $(VENV) | cut -f1);" \
	  "$$(df -h . | awk 'NR == 2 { print $$4 }') of disk are free."
	@touch $@
endef

# a notebook that was run in this checkout is no change for git; without the environment files are taken as they are
FILTER := if test -e $(READY) && test -e tests/stripping.py; then $(RUN) -m tests.stripping; else cat; fi

$(READY): pyproject.toml constraints.txt
	$(call INSTALL,.[dev],everything)
	@touch $(CORE)

$(VENV)/.filter: $(READY) Makefile tests/jupyter_server_config.py
	@test ! -e .git || { git config --local filter.notebook.clean '$(FILTER)' && mkdir -p $(VENV)/etc/jupyter && \
	  cp tests/jupyter_server_config.py $(VENV)/etc/jupyter/; } || \
	  echo "git's settings of this checkout could not be written; outputs of notebooks that run in it will be changes."
	@touch $@

$(CORE): pyproject.toml constraints.txt
	$(call INSTALL,.,what the demo needs)

demo: $(CORE)  ## the main job: a real recording, several sessions, some of them killed; then the rollout figure
	@echo "Sessions of $(SESSION) (another length: make demo SESSION=30s), some of them killed; 3 to 6 minutes on two quiet cores."
	@echo "Stop it at any time: running it again goes on from what the store holds."
	@$(EEGBCI) $(RUN) -m nbkit rehearse 10_eeg_windows 40_bandvar_train 41_bandvar_rollout \
	  --store $(DEMO_STORE) --session $(SESSION) --kill mixed --seed 1 -p STAND_IN=true -p WINDOW_S=2 -p STRIDE_S=2 \
	  -p PRESET=demo -p ACCELERATOR=any -p SAVE_EVERY=2s -p VALIDATE_EVERY=50 \
	  -p SURROGATE=false -p CONTROL_WINDOWS=0 || { code=$$?; test $$code = 2 || \
	  echo "Not complete. Run it again and it goes on from what the store holds; for longer sessions: make demo SESSION=2min"; \
	  exit $$code; }
	$(RUN) -m nbkit status --store $(DEMO_STORE)
	@echo "Open $(DEMO_STORE)/bandvar_rollout/figures/rollout.png: what the model predicts, beside the true signal."
	@echo "Next: '$(RUN) -m nbkit report --store $(DEMO_STORE)' for a page of all of it; 'make setup' adds JupyterLab and the"
	@echo "rest, then '$(RUN) -m nbkit notebooks' copies the notebooks for you. 'make clean' begins anew."

test: $(READY)  ## all tests, 30 to 60 minutes (TESTS="tests/runtime -x" narrows them; WORKERS=4 runs them on more cores)
	$(PYTEST) $(TESTS)

quick: $(READY)  ## the tests without the expensive kinds, within 4 minutes
	$(PYTEST) --quick $(TESTS)

test-lowest: $(LOWEST)/.ready  ## the tests of resuming with the lowest releases promised (PYTHON=python3.11)
	$(LOWEST)/bin/python -m pytest $(RESUMES)

$(LOWEST)/.ready: pyproject.toml constraints-lowest.txt
	$(PYTHON) -m venv --clear $(LOWEST)
	@echo "Installing the lowest releases into $(LOWEST) (once; several minutes, mostly torch) ..."
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints-lowest.txt \
	  --editable . hypothesis pytest pytest-timeout
	@touch $@

lint: types  ## ruff over the code and the notebooks, and mypy over the library
	$(RUN) -m ruff check nbkit tests notebooks
	$(RUN) -m ruff format --check nbkit tests notebooks

types: $(READY)  ## mypy over the library
	$(RUN) -m mypy

bench: $(READY)  ## the measurements (BENCH="--quick --only ledger --json bench-results.json")
	$(RUN) -m tests.bench $(BENCH)

gpu:  ## what needs a card, in slices of 8 minutes, into docs/gpu.md (GPU="--only preset"; GPU=--dry needs none; with its own python: PYTHON=python3)
	$(if $(wildcard $(RUN)),$(RUN),$(PYTHON)) -m tests.gpu $(GPU)

badges:  ## write the owner of this copy into badges and metadata (OWNER=account on GitHub); installs nothing
	@$(PYTHON) -m nbkit.tools.commands.badges '$(OWNER)'

chain: $(READY)  ## every phase of every system, small, each killed at its first work; then verified and reported
	@$(RUN) -m nbkit rehearse --all --smoke --kill work --session 120s --store $(CHAIN_STORE); code=$$?; \
	  $(RUN) -m nbkit verify --store $(CHAIN_STORE) || code=1; \
	  $(RUN) -m nbkit status --store $(CHAIN_STORE) || code=1; \
	  $(RUN) -m nbkit report --store $(CHAIN_STORE) --out $(CHAIN_STORE)/report.html || code=1; \
	  echo "Run it again and it goes on with what is not complete; 'make clean' begins anew."; exit $$code

results: $(READY)  ## every system on real recordings, small, into docs/results.md (RESULTS_DATA=folder; killed, it goes on)
	$(RUN) -m nbkit results --data $(RESULTS_DATA) --store $(RESULTS_STORE) --docs $(RESULTS_DOCS)

clean:  ## remove the environment, caches and the stores made here
	rm -rf $(VENV) $(LOWEST) $(DEMO_STORE) $(CHAIN_STORE) $(RESULTS_STORE) build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
