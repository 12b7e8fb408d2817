# Everything has one command. `make demo` and `make test` set a bare machine up by themselves.
# Needed: Python >= 3.11, make, and a package index.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev
, := ,
RECIPE ?= configs/iris.yaml
RUN ?= $(shell ls -d runs/*/bundle 2>/dev/null | tail -n 1)
PORT ?= 8000

# Where pip is told of local wheels, uv is told too; elsewhere this is empty and does nothing.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
export MLFLOW_DISABLE_TELEMETRY ?= true
export NO_MKDOCS_2_WARNING ?= 1

.PHONY: help
help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.DEFAULT_GOAL := help

# $(call install,EXTRAS): uv where it is to be had (seconds), pip where it is not (a minute).
define install
	@$(PYTHON) -c 'import sys; v = sys.version.split()[0]; sys.exit(sys.version_info < (3, 11) and \
	  f"Python {v} is too old: Maquette needs 3.11 or newer. Name one: make PYTHON=python3.11 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing maquette[$(1)] into $(VENV) ..."
	@$(BIN)/python -m pip install -q uv 2>/dev/null || true
	@if $(BIN)/python -m uv --version >/dev/null 2>&1; then \
	  $(BIN)/python -m uv pip install -q --compile-bytecode --python $(BIN)/python -c constraints.txt -e '.[$(1)]'; \
	else \
	  $(BIN)/python -m pip install -q -c constraints.txt -e '.[$(1)]'; \
	fi
endef

$(STAMP): pyproject.toml constraints.txt
	$(call install,serve$(,)tracking)
	@touch $@
$(DEV_STAMP): pyproject.toml constraints.txt
	$(call install,serve$(,)tracking$(,)test$(,)dev)
	@touch $@ $(STAMP)

.PHONY: install setup
install: $(STAMP) ## Make .venv and install everything pinned in constraints.txt
setup: install ## The same, and say what this machine is
	@$(BIN)/maquette doctor

.PHONY: demo
demo: install ## The whole job on real data: train, evaluate, register, serve, ask
	@$(BIN)/python examples/demo.py

.PHONY: train evaluate serve
train: install ## Train a recipe: make train RECIPE=configs/iris.yaml
	@$(BIN)/maquette train $(RECIPE)
evaluate: install ## Measure the newest bundle, or RUN=FOLDER, on its test split
	@$(BIN)/maquette evaluate $(RUN)
serve: install ## Serve the demo's bundles (or RUN=FOLDER) until interrupted: PORT=8000
	@$(BIN)/python examples/demo.py --serve --port $(PORT) $(if $(filter command line,$(origin RUN)),$(RUN))

.PHONY: test test-slow lint format
test: $(DEV_STAMP) ## Run the tests with coverage
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow and not peers" -n 2 --cov --cov-fail-under=85 --cov-report=term:skip-covered
test-slow: $(DEV_STAMP) ## Run the tests that take minutes
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "slow or peers"
lint: $(DEV_STAMP) ## Format check, lint, strict types, and the arrows between the rooms
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
format: $(DEV_STAMP) ## Format the code and sort its imports
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

.PHONY: bench docs
bench: $(DEV_STAMP) ## Measure against peers; one file per job in benchmarks/
	@for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done
docs: $(DEV_STAMP) ## Build the documentation into site/ and refresh API.md
	@$(BIN)/python -m maquette.serve.api_document API.md
	@$(BIN)/mkdocs build -q --strict

.PHONY: docker-build docker-run
docker-build: ## Build the serving image
	docker build -f deploy/Dockerfile -t maquette:0.1.0 .
docker-run: ## Serve RUN=FOLDER (by default the newest bundle) from the image
	docker run --rm -p $(PORT):8000 -v $(abspath $(RUN)):/bundle:ro maquette:0.1.0

.PHONY: clean
clean: ## Remove everything that was built, keep runs/
	rm -rf $(VENV) site build dist .pytest_cache .mypy_cache .ruff_cache .coverage .coverage.*
