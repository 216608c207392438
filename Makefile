# make demo | test | lint : each makes .venv and installs what is missing.
# Needs Python 3.11 or later with venv and pip, and GNU make. Choose another interpreter with `make PYTHON=python3.12 ...`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench skill format clean

SKILL := --factors 4x2,10x3,25x6,7x1 --realizations 8 --boxes 1 --frames 12

help:
	@echo "make demo    upscale real radar rain; writes xstsr-demo/fine.zarr and fine.png"
	@echo "make test    all tests and the examples in docstrings (ARGS='-k conserve' to choose)"
	@echo "make lint    ruff check, ruff format --check, mypy --strict, codespell"
	@echo "make bench   what conserve costs in time and memory, beside a copy of the field"
	@echo "make skill   score the model on ../shared/data/test; writes benchmarks/skill.md"
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

bench: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest benchmarks -s --benchmark-columns=min,median,rounds $(ARGS)

skill: $(STAMP)
	$(BIN)/xstsr evaluate ../shared/data/test/*.nc $(SKILL) --out benchmarks/skill.md $(ARGS)

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist docs/_build xstsr-demo .mypy_cache .pytest_cache .ruff_cache .hypothesis
