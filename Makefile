# make serve   a server on this machine        make test    the tests, on SQLite and on Postgres
# make check   all that a change must pass     make bench   the figures of docs/performance.md
# make bench-peers   the same beside nchan, mosquitto, NATS, Redis   make bench-plot   its bars, docs/fanout.svg
# make torture   kill -9, cuts, full disks: is anything lost? See docs/reliability.md
# make reference   docs/reference, written from the code's types

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
WORKERS ?= auto

.PHONY: serve test check bench bench-peers bench-plot torture reference lock clean

serve: $(VENV)/runs
	$(BIN)/cotex serve

test: $(VENV)/tests
	$(BIN)/python -m pytest -n $(WORKERS)

check: $(VENV)/tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	PYTHONPATH=.:cli $(BIN)/lint-imports
	$(MAKE) test

bench: $(VENV)/tests
	$(BIN)/python -m bench $(ARGS)

bench-peers: $(VENV)/tests
	$(BIN)/python -m bench peers $(ARGS)

bench-plot: $(VENV)/tests
	$(BIN)/python -m bench.plot $(ARGS)

torture: $(VENV)/tests
	$(BIN)/python -m tests.torture $(ARGS)

reference: $(VENV)/tests
	$(BIN)/python docs/render.py

lock: $(VENV)/tests
	$(PIP) uv
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate \
	  --python-version 3.11 pyproject.toml --output-file requirements.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate \
	  --python-version 3.11 --extra dev pyproject.toml --output-file requirements-dev.lock

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "cotexd needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/runs: $(VENV)/python requirements.lock pyproject.toml
	$(PIP) --require-hashes -r requirements.lock
	$(PIP) --no-deps --editable .
	touch $@

$(VENV)/tests: $(VENV)/python requirements-dev.lock pyproject.toml
	$(PIP) --require-hashes -r requirements-dev.lock
	$(PIP) --no-deps --editable .
	touch $@
