# make demo | test | lint : each makes .venv and installs what is missing.
# Needs Python 3.11 or later with venv and pip, and GNU make. Choose another interpreter with `make PYTHON=python3.12 ...`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DOCS := $(VENV)/.docs
ARGS ?=

.DEFAULT_GOAL := help
BENCHMARKS := skill heldout seams recipe stages ablations anisotropy globe
.PHONY: help demo test lint docs bench speed kills format clean $(BENCHMARKS)

# What the benchmarks read: test/ to report, val/ to choose.
skill heldout: DATA ?= ../shared/data/test
seams recipe stages ablations anisotropy: DATA ?= ../shared/data/val

help:
	@echo "make demo    upscale real radar rain; writes xstsr-demo/fine.zarr and fine.png"
	@echo "make test    all tests and the examples in docstrings (ARGS='-k conserve' to choose)"
	@echo "make lint    ruff check, ruff format --check, mypy --strict, codespell"
	@echo "make docs    the documentation, its pages run, warnings as errors: docs/_build/html"
	@echo "make bench   what conserve costs in time and memory, beside a copy of the field"
	@echo "make speed   what upscaling costs, in ratios, with a verdict for each; writes benchmarks/speed.md"
	@echo "             (under ten minutes on two idle cores; ARGS=--quick to see that it runs)"
	@echo "make skill      score the model on ../shared/data/test, with a verdict for each figure"
	@echo "make heldout    factors never trained on against the trend of the others"
	@echo "make seams      whether the windows of the work show in the result"
	@echo "make anisotropy how to tell the networks of cells that are higher than wide"
	@echo "make globe      whether a global field shows where its grid closes"
	@echo "make recipe     what beta, L and f do, on ../shared/data/val"
	@echo "make stages     factors beyond the model's at once and in two stages, on ../shared/data/val"
	@echo "make ablations  train small models that lack one thing each; stop and go on as you like"
	@echo "                these write benchmarks/*.md (DATA=../shared/data/val and OUT=FILE to choose)"
	@echo "make kills   kill a run at twenty random moments, go on, and compare every byte"
	@echo "make format  let ruff rewrite the files"
	@echo "make clean   remove .venv, caches and the demo's output"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# The dev group is read with tomllib: pip before 25.1 has no --group.
$(STAMP): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['dependency-groups']['dev'], sep='\n')" > $(VENV)/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -r $(VENV)/dev.txt -e '.[all]'
	touch $@

demo: $(STAMP)
	$(BIN)/xstsr demo $(ARGS)

# One thread for each worker: two cores with two workers of two threads each run slower than this.
test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict xstsr
	$(BIN)/codespell

$(DOCS): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	touch $@

docs: $(DOCS)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html $(ARGS)

bench: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest benchmarks -s --benchmark-columns=min,median,rounds $(ARGS)

speed: $(STAMP)
	$(BIN)/python -m benchmarks.speed --out $(or $(OUT),benchmarks/speed.md) $(ARGS)

$(BENCHMARKS): $(STAMP)
	$(BIN)/python -m benchmarks.$@ $(DATA) --out $(or $(OUT),benchmarks/$@.md) $(ARGS)

kills: $(STAMP)
	$(BIN)/python -m benchmarks.kills --out $(or $(OUT),benchmarks/kills.md) $(ARGS)

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist docs/_build docs/reference/generated xstsr-demo .mypy_cache .pytest_cache .ruff_cache .hypothesis
