# Every target sets up what it needs in .venv; none needs root.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin

.PHONY: help install demo test lint types format docs catalog onnx viewer serve clean

help:  ## Show the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

.venv/installed: pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade "pip>=24"
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	@touch $@

install: .venv/installed  ## Make .venv with everything

demo: .venv/installed  ## Simulate a scene, mask it through openEO, score it; results in demo/
	$(BIN)/cloudmask demo demo --serve

test: .venv/installed  ## Run the tests
	$(BIN)/python -m pytest

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

onnx: .venv/installed  ## Write the ONNX file of mini anew, after its weights have changed
	$(BIN)/cloudmask export mini openeo_cloudmask/models/data/mini.onnx --sensor any --overwrite

serve: .venv/installed  ## Start the openEO back end on this machine
	$(BIN)/cloudmask serve

viewer: .venv/installed  ## Open the viewer
	$(BIN)/cloudmask viewer

clean:  ## Remove what was built
	rm -rf .venv demo dist build site
