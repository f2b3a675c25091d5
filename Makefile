# make venv   .venv with .venv/bin/keyturn, from the hash lock, without a compiler
# make dev    the same, with everything that tests and linters need
# make demo   the main job and an emergency on this machine, against the bundled cloud emulator
# make test   every test but the long ones   make test-all   crashes, power cuts, faults, a real systemd, a browser and the package too
# make lint   what CI checks besides         make bench      the benchmarks
# make deb    dist/keyturn_VERSION_ARCH.deb, for the distribution's own Python (packaging/README.md)
# make dist   every file of a release: sdist, wheel, deb, lock, SBOM, SHA256SUMS (docs/releasing.md)
# make docs   the documents as a site, in build/site: a broken link is an error
# make lock   renew requirements/*.lock (needs uv on the PATH)

PYTHON ?= python3
DEB_PYTHON ?= /usr/bin/python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q

# Five at a time: most tests wait for real processes and deadlines, not for the processor.
PYTEST := $(BIN)/python -m pytest -n 5 --dist worksteal
LONG := crash or faults or slow or systemd or packaging or shipping or browser or bench

.PHONY: venv dev demo test test-long test-all lint docs bench lock deb dist release clean

venv: .venv/.runtime

# --no-deps: the lock is complete, and overrides what the official client pins (docs/dependencies.md).
.venv/.runtime: requirements/runtime.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("keyturn needs Python 3.11 or newer, and $(PYTHON) is " + sys.version.split()[0] + "; name another: make venv PYTHON=python3.12") if sys.version_info < (3, 11) else None'
	@echo "keyturn: 1 of 3  a virtual environment in .venv, for $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv
	@echo "keyturn: 2 of 3  $$(grep -c == requirements/runtime.lock) libraries at most, each checked against its hash in requirements/runtime.lock; half a minute or so"
	@$(PIP) install --no-deps --require-hashes -r requirements/runtime.lock
	@echo "keyturn: 3 of 3  keyturn itself, from this directory"
	@$(PIP) install --no-deps -e .
	@touch $@
	@echo "keyturn: done: $$($(BIN)/keyturn --version) is .venv/bin/keyturn; all its commands: .venv/bin/keyturn help"

.venv/.dev: .venv/.runtime requirements/dev.lock
	@echo "keyturn: $$(grep -c == requirements/dev.lock) libraries at most for tests and linters, each checked against its hash in requirements/dev.lock; a minute or so"
	@$(PIP) install --no-deps --require-hashes -r requirements/dev.lock
	@touch $@

dev: .venv/.dev

demo: venv
	$(BIN)/keyturn demo

test: .venv/.dev
	@echo "keyturn: everything but crashes, power cuts, faults, slow ones, systemd, packaging, shipping, a browser and benchmarks (make test-all); five minutes on two cores"
	$(PYTEST) -m "not ($(LONG))"

test-long: .venv/.dev
	@echo "keyturn: crashes, power cuts, faults, slow ones, a real systemd, the package, a collector, a browser, whether the benchmarks run; ten minutes on two cores"
	$(PYTEST) -m "$(LONG)"

test-all: test test-long

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	MYPYPATH=packaging $(BIN)/mypy --strict -p keyturn_deb -p keyturn_release

docs: .venv/.dev
	$(BIN)/python docs/reference/generate.py --check
	$(BIN)/sphinx-build -q -E -a -W --keep-going -b html docs build/site
	@echo "keyturn: build/site/index.html"

bench: .venv/.dev
	@echo "keyturn: every benchmark, one table; ten minutes on two cores that nobody else uses (docs/performance.md)"
	$(BIN)/python -m bench.all

lock:
	cd requirements && for set in "runtime --extra fleet" "dev --extra fleet --extra test --extra lint --extra docs"; do \
	  set -- $$set; name=$$1; shift; \
	  uv pip compile ../pyproject.toml "$$@" --override overrides.txt --universal --python-version 3.11 \
	    --generate-hashes --no-annotate --no-header -q -o $$name.lock; done

deb:
	PYTHONPATH=packaging $(PYTHON) -m keyturn_deb build --python $(DEB_PYTHON)

dist:
	PYTHONPATH=packaging $(PYTHON) -m keyturn_release dist --deb-python "$(DEB_PYTHON)"

# make release VERSION=1.2.3 writes the number everywhere; what comes before and after: docs/releasing.md
release:
	PYTHONPATH=packaging $(PYTHON) -m keyturn_release version $(VERSION)

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
