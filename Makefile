# make smoke   set-up and the whole workflow on tiny models that are trained on the spot
# make test    set-up and the test suite
# make faults-test, make slurm-test   a workflow that is killed three times, and one on a real Slurm; a few cells each
# make bench   speed against the reference's order of work (15 minutes); make bench-check holds its ratios (2 minutes)
# make verify  every committed number recomputed from its per-question records; needs no torch
# make lint    ruff, mypy, snakefmt, snakemake --lint, codespell
# make site    every claim, cell, question and answer as pages that open from results/site/index.html; needs no torch
# make crate   the finished smoke run as an RO-Crate, to be deposited and cited; PROFILE=laptop packs another
# make crate-check   the crate by the rules of RO-Crate 1.1 and of the Provenance Run Crate; needs no network
# make wheel   wheel and sdist into dist/, and the wheel in an environment of its own; WHEEL_PYTHON names its Python
# make browser-test   the pages in a real Chromium or Chrome, which must be installed
# make docs    the documentation, as site/index.html; make docs-serve shows it while it is written
# make setup   the environment alone; make lock, make clean: see below

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SMALL_VENV := .venv-verify
SMALL_STAMP := $(SMALL_VENV)/.installed
WORKERS ?= 2
# What is spell-checked. Tests are left out: they misspell names on purpose.
PROSE := README.md CONTRIBUTING.md CITATION.cff Makefile Snakefile c2c benchmarks config docs paper workflow
WHEEL_PYTHON ?= $(PYTHON)
WHEEL_VENV := .venv-wheel

export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYTHONNOUSERSITE := 1

.DEFAULT_GOAL := help
PROFILE ?= smoke
.PHONY: help setup smoke crate crate-check test browser-test wheel slurm-test faults-test bench bench-check lint format docs docs-serve verify site lock clean

help:
	@sed -n 's/^# //p' Makefile | head -13

define need_python
@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed and '$(PYTHON)' was not found. \
	Install python3.11 and python3.11-venv, or name another: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "Python 3.11 is needed and '$(PYTHON)' is \
	$$($(PYTHON) --version 2>&1). Name another: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "Python's venv module is missing. \
	On Debian and Ubuntu: apt install python3.11-venv"; exit 1; }
endef

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	$(need_python)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the pinned packages into $(VENV) (about 2 GB on disk; some minutes, quick when run again) ..."
	$(BIN)/python -m pip install --quiet -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

# Given again after a power cut or a kill, it goes on: files take their name once they are on the disk (c2c/storage/files.py), and
# locks of a workflow of this machine that is gone are removed first.
smoke: $(STAMP)
	@python -m workflow.unlock
	snakemake --profile smoke $(FLAGS)

crate: $(STAMP)
	snakemake --profile $(PROFILE) crate

crate-check: $(STAMP)
	python -m workflow.check_crate results/$(PROFILE)/crate.zip

test: $(STAMP)
	OMP_NUM_THREADS=1 python -m pytest -n $(WORKERS) --dist worksteal

# Also part of `make test`; `tests/no_browser_tests` makes pytest fail where there are none, instead of running everything.
browser-test: $(STAMP)
	python -m pytest $(or $(wildcard tests/*/test_*_browser.py),tests/no_browser_tests)

# The environment has what the wheel asks for at the locked versions, and nothing of this checkout.
wheel: $(STAMP)
	rm -rf dist $(WHEEL_VENV)
	python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
	python -c "from setuptools import build_meta; build_meta.build_sdist('dist')"
	$(WHEEL_PYTHON) -m venv $(WHEEL_VENV)
	$(WHEEL_VENV)/bin/python -m pip install --quiet --constraint requirements.lock dist/*.whl
	cd dist && ../$(WHEEL_VENV)/bin/python ../tests/installed.py

# A real Slurm of one node (root and apt-get; see tests/slurm), and a workflow that is killed again and again.
slurm-test: $(STAMP)
	python -m pytest -m slurm tests/slurm

faults-test: $(STAMP)
	python -m pytest -m faults tests/faults

# Times of ways to do the same work, as ratios within one run, with what Snakemake noted of a finished smoke run.
bench: $(STAMP)
	python -m benchmarks.speed --output results/speed $(if $(wildcard results/smoke/benchmarks),--results results/smoke) $(FLAGS)

bench-check: $(STAMP)
	python -m benchmarks.speed --size quick --check $(FLAGS)

lint: $(STAMP)
	ruff check .
	ruff format --check .
	mypy
	snakefmt --check Snakefile workflow
	snakemake --lint
	codespell $(PROSE)

format: $(STAMP)
	ruff check --fix .
	ruff format .
	snakefmt Snakefile workflow

# Each warning is an error (`strict` in mkdocs.yml). The variable silences an advertisement, not a warning.
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 python -m mkdocs build --strict

docs-serve: $(STAMP)
	NO_MKDOCS_2_WARNING=1 python -m mkdocs serve

# The full environment is used where it exists; otherwise these packages at their locked versions are enough.
verify:
	@if test -e $(STAMP); then $(BIN)/python -m paper.verify; \
	else $(MAKE) --no-print-directory $(SMALL_STAMP) && $(SMALL_VENV)/bin/python -m paper.verify; fi

# The pages of all scales that have verdicts; FLAGS='--scales laptop' for some. Not site/, which is the documentation.
site:
	@if test -e $(STAMP); then $(BIN)/python -m paper.site $(FLAGS); \
	else $(MAKE) --no-print-directory $(SMALL_STAMP) && $(SMALL_VENV)/bin/python -m paper.site $(FLAGS); fi

$(SMALL_STAMP): requirements.lock
	$(need_python)
	test -x $(SMALL_VENV)/bin/python || $(PYTHON) -m venv $(SMALL_VENV)
	$(SMALL_VENV)/bin/python -m pip install --quiet --only-binary :all: --constraint requirements.lock pandas pyarrow scipy pyyaml \
		'math-verify[antlr4_13_2]==0.9.0' rouge==1.0.1
	touch $@

# New exact versions from the ranges in pyproject.toml.
lock:
	$(need_python)
	rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet --editable '.[all,dev,docs]'
	{ sed -n '/^#/p' requirements.lock; .venv-lock/bin/python -m pip freeze --all --exclude-editable \
		| grep -v '^pip==' | sed 's/+cpu$$//'; } > requirements.lock.new
	mv requirements.lock.new requirements.lock
	rm -rf .venv-lock

clean:
	rm -rf site dist build $(VENV) $(SMALL_VENV) $(WHEEL_VENV) .venv-lock .snakemake .pytest_cache .mypy_cache .ruff_cache *.egg-info
