# `make report` and `make test` set up everything; `make help` lists the rest.
# Python 3.12 or newer is needed: make report PY=/path/to/python3.12

PY ?= python3
VENV := .venv
ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif
INSTALLED := $(VENV)/.installed
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
MODELS := $(sort $(wildcard models/*.toml))

.PHONY: help report reports test test-all bench lint format clean

help:
	@echo "make report    install into $(VENV) and compare all methods on models/cbpp.toml"
	@echo "make test      install and run the quick tests"
	@echo "make test-all  the slow tests too"
	@echo "make reports   write the report of every model file, and that on posteriors that do not exist"
	@echo "make bench     time every method against its peers (benchmarks/README.md)"
	@echo "make lint      ruff and pyright; make format lets ruff mend what it can"
	@echo "make clean     remove $(VENV) and caches; reports stay"

report: $(INSTALLED)
	@$(BIN)/bayes-glmm compare models/cbpp.toml

reports: $(INSTALLED)
	@$(BIN)/bayes-glmm compare $(MODELS)
	@$(BIN)/python -m studies.no_posterior

# one worker per core: more threads of each would wait for each other
test: $(INSTALLED)
	@OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

test-all: $(INSTALLED)
	@OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile -m "slow or not slow"

bench: $(INSTALLED)
	@$(PIP) --editable '.[bench]'
	@$(BIN)/python -m benchmarks

lint: $(INSTALLED)
	@$(PIP) --editable '.[dev]'
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright

format: $(INSTALLED)
	@$(PIP) --editable '.[dev]'
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean:
	@rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis

$(INSTALLED): pyproject.toml constraints.txt
	@found=$$($(PY) -c 'import sys; print("%d.%d.%d" % tuple(sys.version_info[:3]))' 2>/dev/null) \
	  && found="is Python $$found" || found="does not run here"; \
	$(PY) -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null || { echo "bayes_glmm needs Python 3.12 or newer, but $(PY) $$found: name a newer one, as in make report PY=/path/to/python3.12" >&2; exit 1; }
	@echo "Installing bayes_glmm into $(VENV) (some minutes the first time) ..." >&2
	@$(PY) -m venv $(VENV)
	@$(PIP) --editable '.[test]'
	@touch $(INSTALLED)
