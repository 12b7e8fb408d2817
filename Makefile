# Everything has one command. `make demo` and `make test` set a bare machine up by themselves.
# Needed: Python >= 3.11, make, and a package index.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SEG := from_scratch/unet_transformer_segmentation
ASR := from_scratch/paraformer_asr
# Their tests run in their folders, where a relative path to the data would lead elsewhere.
DATA := $(if $(wildcard $(MAQUETTE_DATA_MIRROR)),MAQUETTE_DATA_MIRROR=$(abspath $(MAQUETTE_DATA_MIRROR)))
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

# $(call install,ENVIRONMENT,WHAT TO INSTALL): uv where it is to be had (seconds), pip where it is not.
define install
	@$(PYTHON) -c 'import sys; v = sys.version.split()[0]; sys.exit(sys.version_info < (3, 11) and \
	  f"Python {v} is too old: Maquette needs 3.11 or newer. Name one: make PYTHON=python3.11 ...")'
	@test -x $(1)/bin/python || $(PYTHON) -m venv $(1)
	@echo "Installing into $(1): $(2) ..."
	@$(1)/bin/python -m pip install -q uv 2>/dev/null || true
	@if $(1)/bin/python -m uv --version >/dev/null 2>&1; then \
	  $(1)/bin/python -m uv pip install -q --compile-bytecode --python $(1)/bin/python $(2); \
	else \
	  $(1)/bin/python -m pip install -q $(2); \
	fi
endef

$(STAMP): pyproject.toml constraints.txt
	$(call install,$(VENV),-c constraints.txt -e '.[serve$(,)tracking]')
	@touch $@
$(DEV_STAMP): pyproject.toml constraints.txt $(SEG)/pyproject.toml $(ASR)/pyproject.toml
	$(call install,$(VENV),-c constraints.txt -e '.[serve$(,)tracking$(,)tune$(,)hub$(,)test$(,)dev]' -e $(SEG) -e $(ASR))
	@touch $@ $(STAMP)
# A subproject is tested in an environment of its own that holds its requirements and nothing else.
$(SEG)/.venv/.installed: $(SEG)/pyproject.toml $(SEG)/requirements.txt $(SEG)/requirements-dev.txt
	$(call install,$(SEG)/.venv,-r $(SEG)/requirements.txt -r $(SEG)/requirements-dev.txt -e $(SEG))
	@touch $@
$(ASR)/.venv/.installed: $(ASR)/pyproject.toml $(ASR)/requirements.txt $(ASR)/requirements-dev.txt
	$(call install,$(ASR)/.venv,-r $(ASR)/requirements.txt -r $(ASR)/requirements-dev.txt -e $(ASR))
	@touch $@

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

.PHONY: test test-platform test-segmentation test-speech test-slow lint format
test: test-platform test-segmentation test-speech ## Run the tests with coverage: the platform's, then the subprojects'
test-platform: $(DEV_STAMP) ## Run the platform's tests
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow and not peers" -n 2 --cov --cov-fail-under=85 --cov-report=term:skip-covered
test-segmentation: $(SEG)/.venv/.installed ## Run the tests of from_scratch/unet_transformer_segmentation
	@cd $(SEG) && $(DATA) OMP_NUM_THREADS=1 .venv/bin/python -m pytest -m "not slow" -n 2 --cov --cov-fail-under=85 --cov-report=term:skip-covered
test-speech: $(ASR)/.venv/.installed ## Run the tests of from_scratch/paraformer_asr
	@cd $(ASR) && $(DATA) OMP_NUM_THREADS=1 .venv/bin/python -m pytest -m "not slow" -n 2 --cov --cov-fail-under=85 --cov-report=term:skip-covered
test-slow: $(DEV_STAMP) $(SEG)/.venv/.installed $(ASR)/.venv/.installed ## Run the tests that take minutes
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "slow or peers"
	@cd $(SEG) && $(DATA) OMP_NUM_THREADS=1 .venv/bin/python -m pytest -m slow
	@cd $(ASR) && $(DATA) OMP_NUM_THREADS=1 .venv/bin/python -m pytest -m slow
lint: $(DEV_STAMP) ## Format check, lint, strict types, and the arrows between the rooms
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@cd $(SEG) && ../../$(BIN)/mypy --config-file pyproject.toml
	@cd $(ASR) && ../../$(BIN)/mypy --config-file pyproject.toml
	@$(BIN)/lint-imports --no-cache
format: $(DEV_STAMP) ## Format the code and sort its imports
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

.PHONY: bench bench-segmentation bench-speech bench-clip docs
bench: $(DEV_STAMP) ## Measure the platform against peers; one file per job in benchmarks/
	@for job in tabular_training serving recipes; do \
	  echo "== $$job"; $(BIN)/python benchmarks/$$job.py || exit 1; done
bench-segmentation: ## Measure segmentation against MONAI and smp in .venv-peers (tests/parity/README.md)
	@test -x .venv-peers/bin/python || { echo "needs .venv-peers: tests/parity/README.md says how"; exit 1; }
	@.venv-peers/bin/python benchmarks/segmentation_step.py
	@.venv-peers/bin/python benchmarks/segmentation_budget.py toy
	@.venv-peers/bin/python benchmarks/segmentation_inference.py
bench-speech: ## Measure speech recognition against FunASR in .venv-peers (tests/parity/README.md)
	@test -x .venv-peers/bin/python || { echo "needs .venv-peers: tests/parity/README.md says how"; exit 1; }
	@.venv-peers/bin/python benchmarks/speech_cif.py
	@.venv-peers/bin/python benchmarks/speech_decode.py
	@.venv-peers/bin/python benchmarks/speech_step.py
bench-clip: $(DEV_STAMP) ## Measure image-text training against open_clip and transformers in .venv-peers (tests/parity/README.md)
	@test -x .venv-peers/bin/python || { echo "needs .venv-peers: tests/parity/README.md says how"; exit 1; }
	@.venv-peers/bin/python benchmarks/clip.py
	@$(BIN)/python benchmarks/clip_pipeline.py
docs: $(DEV_STAMP) ## Build the documentation into site/ and refresh API.md
	@$(BIN)/python -m maquette.serve.api_document API.md
	@$(BIN)/mkdocs build --strict

.PHONY: docker-build docker-run
docker-build: ## Build the serving image
	docker build -f deploy/Dockerfile -t maquette:0.1.0 .
docker-run: ## Serve RUN=FOLDER (by default the newest bundle) from the image
	docker run --rm -p $(PORT):8000 -v $(abspath $(RUN)):/bundle:ro maquette:0.1.0

.PHONY: clean
clean: ## Remove everything that was built, keep runs/
	rm -rf $(VENV) $(SEG)/.venv $(ASR)/.venv site build dist .pytest_cache .mypy_cache .ruff_cache .coverage .coverage.*
