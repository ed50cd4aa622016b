# The two commands of the README: `make run` and `make test`. Both create the environment first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export OMP_NUM_THREADS ?= $(shell nproc)

.PHONY: help run serve test test-ui lint types imports tests format benchmarks clean

help: ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

$(READY): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (a few minutes the first time)"
	@$(BIN)/python -m pip install --quiet --upgrade pip
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[prefect,analysts,dev]'
	@touch $(READY)

run: $(READY) ## classify the sample inbox with the nightly flow
	@$(BIN)/python -m flows

serve: $(READY) ## Prefect server, nightly schedule and forms until Ctrl-C (PORT=4200)
	@exec $(BIN)/python -m flows.serve --port $(or $(PORT),4200)

test: $(READY) lint types imports tests ## all checks

lint: $(READY)
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(READY)
	@$(BIN)/mypy

imports: $(READY)
	@$(BIN)/lint-imports --no-cache

tests: $(READY)
	@$(BIN)/python -m pytest

test-ui: $(READY) ## the forms in a real browser (needs Chromium), pictures into docs/images
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[ui]'
	@TEXTJURY_UI=1 $(BIN)/python -m pytest tests/ui -n0 --timeout 900

format: $(READY) ## rewrite the code in the house's format
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

benchmarks: $(READY) ## measure speed on this machine (ADAPTER=FOLDER: zero-shot with a pairwise adapter, too)
	@$(BIN)/python benchmarks/rules.py && $(BIN)/python benchmarks/store.py
	@$(if $(ADAPTER),$(BIN)/python benchmarks/zero_shot.py --adapter $(ADAPTER) && $(BIN)/python benchmarks/one_pass.py --adapter $(ADAPTER))

clean: ## remove the environment and all outputs
	@rm -rf $(VENV) data/work data/output
