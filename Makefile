# make serve   a server on this machine        make test    the tests, on SQLite and on Postgres
# make check   all that a change must pass     make bench   the figures of docs/performance.md
# make bench-peers   the same beside nchan, mosquitto, NATS, Redis   make bench-plot   drawn, for docs/
# make soak   an hour of 200 events a second: does memory grow?
# make torture   kill -9, cuts, full disks: is anything lost? See docs/reliability.md
# make reference   docs/reference, written from the code's types      make docs   the documentation as a site
# make binary   dist/cotexd, one file      make release   wheel, source, binary, SBOM, checksums

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
WORKERS ?= auto

.PHONY: serve test check bench bench-peers bench-plot soak torture reference docs binary release lock clean

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

soak: $(VENV)/tests
	$(BIN)/python -m bench.soak $(ARGS)

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
	for group in docs release; do \
	  $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate \
	    --python-version 3.11 --group $$group --output-file requirements-$$group.lock || exit 1; \
	done

docs: $(VENV)-docs/ready
	$(VENV)-docs/bin/mkdocs build --strict --quiet --config-file config/mkdocs.yml
	@echo "site/index.html"

# One file that needs nothing but the Python that it was made with; `ln -s cotexd cotex` for the commands.
binary: $(VENV)-release/ready
	rm -rf build/single && mkdir -p build dist
	$(VENV)-release/bin/python -m pip --disable-pip-version-check install --quiet \
	  --target build/single --require-hashes --requirement requirements.lock
	$(VENV)-release/bin/python -m pip --disable-pip-version-check install --quiet --target build/single --no-deps .
	$(VENV)-release/bin/shiv --site-packages build/single --entry-point cotex.single:main --compressed \
	  --python "/usr/bin/env $$($(VENV)-release/bin/python -c 'import sys; print("python%d.%d" % sys.version_info[:2])')" \
	  --output-file dist/cotexd

# Wheel, source, the one file, what is in it (CycloneDX), and checksums of all of them.
release: binary
	rm -f dist/*.whl dist/*.tar.gz dist/*.cdx.json dist/SHA256SUMS
	$(VENV)-release/bin/python -m build --outdir dist . >/dev/null
	$(VENV)-release/bin/cyclonedx-py requirements requirements.lock --pyproject pyproject.toml \
	  --output-reproducible --output-file dist/cotexd.cdx.json
	cd dist && sha256sum * > SHA256SUMS && cat SHA256SUMS

clean:
	rm -rf $(VENV) $(VENV)-docs $(VENV)-release site build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)-docs/ready $(VENV)-release/ready: $(VENV)-%/ready: requirements-%.lock
	$(PYTHON) -m venv $(VENV)-$*
	$(VENV)-$*/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes -r $<
	touch $@

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
