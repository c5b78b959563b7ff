# make demo    cluster the digits, draw docs/digits.png
# make test    what continuous integration runs: lint, tests
# make docs    the documentation, with all examples run, into build/docs
# make bench   accuracy and time with the defaults; e.g. make bench ARGS="--seeds 2"
# make lint    the lint and the type checker alone
# make linkcheck   whether external links of the documentation lead somewhere
# make dist    build wheel and source distribution into dist/, and check them
# make smoke   try the wheel in a new environment; e.g. make smoke PYTHON=python3.13
# make clean   remove .venv and what tools left behind
#
# Each target installs what it needs into .venv, once: .venv/.installed is newer than
# pyproject.toml unless that has changed since. The documentation needs more, which
# .venv/.installed-docs stands for.

PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
INSTALLED := .venv/.installed
INSTALLED_DOCS := .venv/.installed-docs

.PHONY: demo test docs bench lint linkcheck dist smoke clean

demo: $(INSTALLED)
	$(BIN)/python examples/plot_digits.py $(ARGS)

test: lint
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

docs: $(INSTALLED_DOCS)
	$(BIN)/sphinx-build -W --keep-going -n docs build/docs $(ARGS)

linkcheck: $(INSTALLED_DOCS)
	$(BIN)/sphinx-build -b linkcheck -D plot_gallery=0 docs build/linkcheck $(ARGS)

bench: $(INSTALLED)
	$(BIN)/python benchmarks/digits.py $(ARGS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m mypy

dist: $(INSTALLED)
	$(BIN)/python -m pip install -e ".[release]"
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl

# In a folder of its own, which goes with what was installed: torch takes 6 GB.
smoke:
	environment=$$(mktemp -d) && trap 'rm -rf "$$environment"' EXIT && \
	$(PYTHON) -m venv "$$environment" && \
	"$$environment/bin/pip" install dist/*.whl && \
	"$$environment/bin/python" -I tests/release/smoke.py

clean:
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache *.egg-info
	rm -rf docs/api/generated docs/api/backreferences docs/auto_examples
	rm -f docs/sg_execution_times.rst
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -e ".[test]"
	touch $@

$(INSTALLED_DOCS): $(INSTALLED)
	$(BIN)/python -m pip install -e ".[docs]"
	touch $@
