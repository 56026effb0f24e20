# Everything runs from a virtual environment of the checkout's own, made from pinned versions.
.DEFAULT_GOAL := help
.PHONY: help setup train table2 test test-slow chaos check bench docs clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

train: setup ## Prepare the embedded corpus, train on it, evaluate, write sample text (minutes, CPU or GPU)
	@$(BIN)/xlm-train experiment=sample > $(VENV)/summary.json
	@echo
	@$(BIN)/python -c 'import json; print(json.load(open("$(VENV)/summary.json"))["run_dir"])'

table2: setup ## What translation should start from: two language models and 27 translators, their BLEU
	@$(BIN)/xlm-train experiment=sample_pretrain_clm run.dir=outputs/table2/clm > /dev/null
	@$(BIN)/xlm-train experiment=sample_pretrain_mlm run.dir=outputs/table2/mlm > /dev/null
	@$(BIN)/xlm-train -m sweep=table2 experiment=sample_unmt sweep.name=table2 sweep.n_jobs=2 > /dev/null
	@cat outputs/sweeps/table2/table2.md

test: setup ## Run the test suite (minutes)
	@$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile --no-loadscope-reorder

test-slow: setup ## Run the long tests (an hour at most)
	@$(BIN)/python -m pytest -m slow -n 2 --dist loadfile --no-loadscope-reorder

chaos: setup ## Kill runs, damage files, send signals, compare to the bit (two hours); prints tables
	@$(BIN)/python tests/chaos/kills.py --kills 130 --ranks 1
	@$(BIN)/python tests/chaos/kills.py --kills 70 --ranks 2
	@$(BIN)/python tests/chaos/kills.py --kills 20 --ranks 1 2 objective=unmt
	@$(BIN)/python tests/chaos/combinations.py --kills 3
	@$(BIN)/python tests/chaos/full_disk.py --count 100
	@$(BIN)/python tests/chaos/flips.py --count 1000
	@$(BIN)/python tests/chaos/fuzz.py --count 10000
	@$(BIN)/python tests/chaos/signals.py

check: setup ## Lint, formatting, types: what pre-commit runs
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

bench: setup ## Compare with the peers: one JSON object a line
	@for file in bench/*.py; do $(BIN)/python $$file; done

docs: setup ## Build the documentation as a site: docs/_build/html/index.html
	@$(BIN)/python -m sphinx -b html -q -n -W --keep-going docs docs/_build/html

clean: ## Remove the virtual environment and all outputs
	rm -rf $(VENV) outputs docs/_build docs/configuration

setup: $(VENV)/.installed

# torch comes first and alone, at its pinned version, so that no other package's range draws in another
# build of it. fastBPE has no wheel and its build needs Cython, so it is built last, without isolation,
# and may fail.
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.11 ..." >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV)
	@echo "installing the pinned dependencies into $(VENV)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	@$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]' Cython setuptools
	@$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-build-isolation fastBPE 2> $(VENV)/fastbpe.log \
	  || echo "note: fastBPE was not built (is there a C++ compiler? see $(VENV)/fastbpe.log); BPE goes through the tokenizers package, with the same output" >&2
	@touch $@
