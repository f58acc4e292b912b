# The front door: `make` alone lists the targets. It needs GNU make 3.81 or newer and Python 3.11 to 3.14 with venv; the rest it makes itself.

.DEFAULT_GOAL := help
.SUFFIXES:
.PHONY: help up test test-cluster fuzz check format bench bench-scale bench-import bench-overload loadtest docs k8s lock clean

# Given on the command line only (make up ARGS="--port 8001"): a variable of that name in the environment is somebody else's.
ARGS =
IMAGE =
LOCUST_IMAGE =
POSTGRES_IMAGE =
PGBOUNCER_IMAGE =
PROMETHEUS_IMAGE =

# The newest Python that fits and can make virtual environments, else the newest that fits, so that the message can name what it lacks.
version_fits = import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))
PYTHON ?= $(shell for needs in 'import ensurepip, venv' 'pass'; do \
	for python in python3.14 python3.13 python3.12 python3.11 python3; do \
		"$$python" -c "$$needs; $(version_fits)" 2>/dev/null && echo "$$python" && exit; \
	done; done)

make_venv = python="$(PYTHON)"; \
	"$$python" -c '$(version_fits)' 2>/dev/null || { \
		echo "error: Stockroom needs Python 3.11 to 3.14; $${python:-what the PATH offers} is none of them"; \
		echo "  install one, or name it:  make PYTHON=/path/to/python3.13"; exit 1; } >&2; \
	"$$python" -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "error: $$python cannot make a virtual environment: its venv module is missing"; \
		"$$python" -c 'import sys; print("  on Debian and Ubuntu:  apt install python%d.%d-venv" % sys.version_info[:2])'; exit 1; } >&2; \
	rm -rf .venv && mkdir .venv && touch .venv/unfinished && "$$python" -m venv .venv

# Wheels only: building a package would run code that no hash covers.
pip = .venv/bin/python -m pip --disable-pip-version-check install --quiet --only-binary :all:

# The locks are written by this version, so that two people get the same bytes.
UV_VERSION = 0.13.9
compile = .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	--custom-compile-command "make lock" $(ARGS)

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

up: .venv/installed ## start Stockroom on an embedded PostgreSQL; ARGS="--port 8001" and the like go to `stockroom up`
	@.venv/bin/stockroom up $(ARGS)

test: .venv/installed ## run the tests; ARGS="tests/api -k reserve" and the like go to pytest
	.venv/bin/python -m pytest $(ARGS)

# With its own conftest alone: it needs no PostgreSQL here.
test-cluster: .venv/installed ## test the chart on the cluster of KUBECONFIG: some thirty minutes; the nodes have IMAGE and LOCUST_IMAGE, POSTGRES_IMAGE and PGBOUNCER_IMAGE if not the chart's, and PROMETHEUS_IMAGE to be scraped
	STOCKROOM_IMAGE="$(IMAGE)" LOCUST_IMAGE="$(LOCUST_IMAGE)" POSTGRES_IMAGE="$(POSTGRES_IMAGE)" PGBOUNCER_IMAGE="$(PGBOUNCER_IMAGE)" PROMETHEUS_IMAGE="$(PROMETHEUS_IMAGE)" .venv/bin/python -m pytest -n 0 -p no:randomly --confcutdir=tests/cluster -o testpaths=tests/cluster $(ARGS)

# With a seed of its own each time; what it finds tells how to repeat it.
fuzz: .venv/installed ## let schemathesis look for answers that OpenAPI does not promise; ARGS=3600 for an hour instead of five minutes
	FUZZ_SECONDS=$(or $(ARGS),300) .venv/bin/python -m pytest tests/contract -n 2

check: .venv/installed ## check format, lint, types and who imports whom
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports

format: .venv/installed ## format the code and mend what the linter can
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

bench: .venv/installed ## measure what requests cost beside the hand-written minimum: about three minutes; exits 1 over a limit
	@.venv/bin/python -m benchmarks.requests $(ARGS)

bench-scale: .venv/installed ## measure what every list costs at a million products beside ten thousand: some five minutes, 7 GB; exits 1 over a limit
	@.venv/bin/python -m benchmarks.scale $(ARGS)

bench-import: .venv/installed ## measure how many rows a second imports take: some ten minutes; exits 1 over a limit
	@.venv/bin/python -m benchmarks.imports $(ARGS)

bench-overload: .venv/installed ## overload a server on a core of its own, and kill its PostgreSQL: some eleven minutes; exits 1 over a limit
	@.venv/bin/python -m benchmarks.overload $(ARGS)

loadtest: .venv/installed ## find the knee, compare sizes and hold a load against the objectives, on an embedded database: some two minutes; exits 1 on a miss
	@.venv/bin/python -m loadtests trial $(ARGS)

docs: .venv/installed ## write settings.md, openapi.json and operations/metrics.md in docs/, and the chart's dashboards, anew from the code
	@.venv/bin/python -c 'import pathlib, app.core.config as config; pathlib.Path("docs/settings.md").write_text(config.settings_page(), encoding="utf-8")'
	@.venv/bin/python -c 'import pathlib, app.main as main; pathlib.Path("docs/openapi.json").write_text(main.openapi_page(), encoding="utf-8")'
	@.venv/bin/python -m tests.observability.metrics_page
	@.venv/bin/python -m tests.observability.dashboards

k8s: .venv/installed ## write k8s/ anew from the chart
	@.venv/bin/python -m tests.chart.plain

# Running is a subset of developing by construction: what an image installs is what was tested.
lock: .venv/installed ## write requirements/ anew from pyproject.toml; ARGS=--upgrade takes newer versions
	@$(pip) uv==$(UV_VERSION)
	$(compile) --extra embedded --extra loadtest --extra locust --extra otel --group dev --output-file requirements/dev.txt pyproject.toml
	$(compile) --no-annotate --extra loadtest --constraint requirements/dev.txt --output-file requirements/run.txt pyproject.toml
	$(compile) --no-annotate --extra loadtest --extra otel --constraint requirements/dev.txt --output-file requirements/otel.txt pyproject.toml
	$(compile) --no-annotate --extra loadtest --extra locust --constraint requirements/dev.txt --output-file requirements/locust.txt pyproject.toml
	echo hatchling | $(compile) --no-annotate --constraint requirements/dev.txt --output-file requirements/build.txt -

clean: ## remove .venv and the tools' caches, never the data in .stockroom
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A finished .venv whose Python fits is kept; an interrupted one starts over.
.venv/locked: requirements/dev.txt
	@test ! -e .venv/unfinished && .venv/bin/python -c 'import pip; $(version_fits)' 2>/dev/null || { $(make_venv); }
	@echo 'Installing the locked dependencies into .venv: about half a minute, once ...'
	@touch .venv/unfinished
	@$(pip) --require-hashes --requirement requirements/dev.txt
	@mv .venv/unfinished $@

.venv/installed: .venv/locked pyproject.toml app/__init__.py
	@$(pip) --no-index --no-deps --no-build-isolation --editable .
	@touch $@
