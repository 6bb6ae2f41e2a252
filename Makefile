# `make quickstart` and `make test` need Python 3.11-3.13 and nothing else; both make .venv first.

PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$p && break; done)
RUN = .venv/bin/python -m
# Nothing is installed whose SHA-256 is not in the file.
INSTALL = pip install --quiet --disable-pip-version-check --require-hashes
CONFIG = configs/mnist5k.cfg

.PHONY: quickstart test test-all check docs chromium renew sbom

# Interrupted, it goes on. After a change of the config: make quickstart ARGS=--new_run
quickstart: .venv/installed
	$(RUN) r2d2_tf.train --flagfile=$(CONFIG) --run_dir=runs/quickstart $(ARGS)
	$(RUN) export --run_dir=runs/quickstart --format=saved_model,tflite
	$(RUN) export.inference --model=runs/quickstart/export/model.tflite --images=runs/quickstart/export/examples

# Types are checked beside the tests, and what was found is said after them.
test: .venv/installed-dev
	$(LINT)
	@.venv/bin/mypy >.venv/types.txt 2>&1 & types=$$!; \
	$(RUN) pytest -n 3 --dist worksteal -m "not slow"; tests=$$?; \
	wait $$types; types=$$?; cat .venv/types.txt; exit $$((tests | types))

test-all: check chromium
	$(RUN) pytest

# Opens the pages that tools write, and clicks in them. Where it cannot be installed the tests that need it skip, and say so.
chromium:
	@{ command -v chromium || command -v chromium-browser || command -v google-chrome; } >/dev/null && command -v chromedriver >/dev/null || \
		{ test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get install -y --no-install-recommends chromium chromium-driver; } || \
		echo "There is no Chromium, and apt-get is not here or not yours to use: tests of pages will skip."

LINT = .venv/bin/ruff check . && .venv/bin/ruff format --check .
check: .venv/installed-dev
	$(LINT)
	.venv/bin/mypy

# The site of docs/; a broken link is an error.
docs: .venv/installed-dev
	.venv/bin/zensical build --strict --clean

# Writes the files of pins, with hashes, anew from what the project asks for, for every Python and system at once. Pins that stand
# are kept where they still fit; all of the newest: make renew ARGS=--upgrade. Then: make test-all
COMPILE = .venv/tools/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--custom-compile-command "make renew" $(ARGS)
renew: .venv/tools/installed
	$(COMPILE) requirements-tools.in -o requirements-tools.txt
	$(COMPILE) requirements.in -o requirements.txt
	$(COMPILE) requirements-dev.in -c requirements.txt -o requirements-dev.txt \
		$$(sed -n 's/^\([a-z0-9-]*\)==.*/--no-emit-package=\1/p' requirements.txt)
	{ echo "-r requirements.txt"; cat requirements-dev.txt; } >.venv/pins && mv .venv/pins requirements-dev.txt

# A software bill of materials, CycloneDX, of all that is in .venv: after `make test` what tests need, too.
sbom: .venv/tools/installed
	.venv/tools/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible -o sbom.json .venv/bin/python

.venv/installed-dev: requirements-dev.txt .venv/installed
	.venv/bin/$(INSTALL) -r requirements-dev.txt
	@touch $@

.venv/tools/installed: requirements-tools.txt .venv/installed
	.venv/bin/python -m venv .venv/tools
	.venv/tools/bin/$(INSTALL) -r requirements-tools.txt
	@touch $@

.venv/installed: requirements.txt
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11, 3.12 or 3.13 found: install one, or name it, as in make PYTHON=/path/to/python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	.venv/bin/$(INSTALL) -r requirements.txt
	@touch $@
