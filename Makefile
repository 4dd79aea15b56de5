# Every target sets up what it needs in .venv; none needs root.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
# uv installs several times faster than pip where it is there.
UV := $(shell command -v uv)
# One process for each core, one thread each; a file's tests stay together and share what they set up.
PYTEST = $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder
INSTALL = $(if $(UV),$(UV) pip install --python $(BIN)/python,$(BIN)/python -m pip install)

.PHONY: help install demo check test lint types format docs catalog map viewer serve clean

help:  ## Show the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv .venv

# What runs the demo, the back end and the viewer: no torch, no documentation, no test tools.
.venv/running: pyproject.toml | .venv/bin/python
	@echo "Installing back end and viewer into .venv; what is there already is kept"
	$(INSTALL) --editable ".[server,viewer]"
	@touch $@

.venv/installed: pyproject.toml | .venv/bin/python
	@echo "Installing everything into .venv, torch, documentation and test tools included"
	$(INSTALL) --editable ".[dev]"
	@touch $@ .venv/running

install: .venv/installed  ## Make .venv with everything

demo: .venv/running  ## Simulate a scene, mask it through openEO, score it; results in demo/
	$(BIN)/cloudmask demo demo --serve

check: .venv/installed  ## Run the tests of at most a few seconds each, without the browser: under 3 minutes
	$(PYTEST) -m "not slow and not browser" --durations=10 --durations-min=1

test: .venv/installed  ## Run all tests
	$(PYTEST) -m "not browser" --durations=100 --durations-min=1
	$(BIN)/python -m pytest -m browser --durations=20 --durations-min=1

lint: .venv/installed  ## Run ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/installed  ## Run mypy
	$(BIN)/mypy

format: .venv/installed  ## Format the code
	$(BIN)/ruff format .

docs: .venv/installed  ## Build the documentation into site/, warnings are errors
	$(BIN)/mkdocs build --quiet --strict

catalog: .venv/installed  ## Rebuild the STAC catalog of models
	$(BIN)/cloudmask catalog build

map:  ## Rebuild the viewer's map from webmap/; needs node and npm
	cd webmap && npm ci --no-audit --no-fund && npm run build

serve: .venv/running  ## Start the openEO back end on this machine
	$(BIN)/cloudmask serve

viewer: .venv/running  ## Open the viewer
	$(BIN)/cloudmask viewer

clean:  ## Remove what was built
	rm -rf .venv demo dist build site
