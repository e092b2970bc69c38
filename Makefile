# `make demo` upscales a photograph with `mini`, `make test` runs the tests. Both make `.venv` first.
#
#   PYTHON  interpreter for .venv (3.10 to 3.13)
#   TORCH   what to install as torch; on Linux the plain name brings CUDA, add --index-url for a CPU build

PYTHON ?= python3
TORCH ?= torch==2.13.0
OUT ?= outputs

BIN := .venv/bin
ifeq ($(OS),Windows_NT)
BIN := .venv/Scripts
endif
INSTALLED := .venv/.installed

.PHONY: demo test install lint clean

install: $(INSTALLED)

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

demo: install
	$(BIN)/tsdsr upscale examples/astronaut_lq.png -o $(OUT)/astronaut_x4.png --overwrite

test: install
	$(BIN)/python -m pytest

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf .venv
