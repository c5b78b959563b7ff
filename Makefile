# make demo    cluster the digits, draw docs/digits.png
# make test    what continuous integration runs: lint, tests
# make bench   accuracy and time with the defaults; e.g. make bench ARGS="--seeds 2"
# make lint    the lint alone
# make clean   remove .venv and what tools left behind
#
# Each target installs what it needs into .venv, once: .venv/.installed is newer than
# pyproject.toml unless that has changed since.

PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: demo test bench lint clean

demo: $(INSTALLED)
	$(BIN)/python examples/plot_digits.py $(ARGS)

test: lint
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile $(ARGS)

bench: $(INSTALLED)
	$(BIN)/python benchmarks/digits.py $(ARGS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:
	rm -rf .venv build dist .pytest_cache .ruff_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -e ".[test]"
	touch $@
