# Every target sets up what it needs in .venv; nothing outside this folder is touched.
#
#   make demo    build Lua 5.4 with the embedded farm and show the result
#   make test    run the tests
#   make check   lint, types and tests: what a change must pass
#   make slow    the long tests
#   make simulate  100 000 random worlds (SEEDS=0:100000 JOBS=2): hours of faults in half an hour
#   make bench   ratios against ninja, make and doit on this machine
#   make ptx     compile the kernels for GPUs with NVIDIA's compiler: needs no GPU, downloads 450 MB
#   make clean   remove .venv and everything built

# The first Python that is new enough.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
SHELL := /bin/bash -o pipefail
VENV ?= .venv
BIN := $(VENV)/bin
DEMO := build/demo
IN_DEMO := cd $(DEMO) && CF_HOME="$$PWD/home" $(abspath $(BIN))/majordomo
PYTEST := $(BIN)/python -m pytest
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo test slow simulate lint check bench ptx clean

demo: $(VENV)/.installed
	@command -v gcc >/dev/null || { echo "make demo compiles C: install gcc (Debian: sudo apt install gcc)" >&2; exit 1; }
	@rm -rf $(DEMO) && mkdir -p $(DEMO) && cp -R examples/lua/. $(DEMO)/
	@echo '--- majordomo run: fetch, compile each file as a task of its own, link, and run a script'
	@$(IN_DEMO) run --farm local
	@echo '--- majordomo run, again: nothing to do'
	@$(IN_DEMO) run --farm local | tail -n 1
	@echo '--- rm -r build; majordomo run: every result comes from the cache'
	@rm -r $(DEMO)/build
	@$(IN_DEMO) run --farm local | tail -n 1
	@echo '--- majordomo why compile:lvm'
	@$(IN_DEMO) why compile:lvm
	@echo '--- $(DEMO)/build/lua'
	@$(DEMO)/build/lua -e 'print(_VERSION .. ", built by ComputeFarm")'

# Most tests wait for processes, so four at a time suit two cores. On a busy machine a test that drives processes may
# miss its patience: it gets one more chance, and pytest says so (R); one that fails twice has failed.
test: $(VENV)/.tested
	$(PYTEST) -q -n 4 --dist loadfile --reruns 1 --reruns-delay 2

slow: $(VENV)/.tested
	$(PYTEST) -x -m slow || test $$? -eq 5  # 5: there are none

SEEDS ?= 0:100000
JOBS ?= $(shell getconf _NPROCESSORS_ONLN)
simulate: $(VENV)/.tested
	$(BIN)/python -m tests.simulation --seeds $(SEEDS) --jobs $(JOBS)

lint: $(VENV)/.tested
	$(BIN)/ruff check .
	$(BIN)/mypy

check: lint test

bench: $(VENV)/.tested
	$(PYTEST) -m benchmark -s

# In an environment of its own: NVIDIA's package takes the place of numba's own CUDA.
PTX := build/ptx
ptx: $(PTX)/.installed
	$(PTX)/bin/python tests/integration/recompute/to_ptx.py --compute 8.0
	$(PTX)/bin/python tests/integration/recompute/to_ptx.py --compute 9.0

clean:
	rm -rf $(VENV) build dist *.egg-info

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "ComputeFarm needs Python 3.11 or newer; none was found" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# setuptools and wheel make the download of the demo's sources take seconds instead of minutes.
$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(PIP) install -q "setuptools>=77" wheel
	$(PIP) install -q -e .
	@touch $@

$(VENV)/.tested: pyproject.toml | $(BIN)/python
	$(PIP) install -q -e ".[test]"
	@touch $@

$(PTX)/.installed: pyproject.toml
	@test -n "$(PYTHON)" || { echo "ComputeFarm needs Python 3.11 or newer; none was found" >&2; exit 1; }
	$(PYTHON) -m venv $(PTX)
	$(PTX)/bin/python -m pip --disable-pip-version-check install -q -e ".[gpu]"
	@touch $@
