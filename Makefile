# Targets: demo (the first), install, test, test-all, lint, docs, reference, release-check, clean. Variables:
#   PKG=sweeper       run the tests of one package: make test PKG=sweeper, make test-all PKG=analysis
#   VENV=DIR          folder of the environment, as in VENV=/scratch/$$USER/sap-venv if homes have quotas
#   PYTHON=python3.12 Python of the environment (3.11 or newer)
#   WORKERS=2         number of test processes
#   SYSTEM_TORCH=1    use the torch and torchvision installed for PYTHON (conda, a cluster's module)

PYTHON ?= python3
WORKERS ?= 2
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

TESTS := tests$(if $(PKG),/$(PKG))
# Many tests start new Python processes. Without compiled modules each start takes 1.5 s more, so they are kept even if the environment
# disables them.
PYTEST = PYTHONDONTWRITEBYTECODE= PYTHONPYCACHEPREFIX=$(abspath $(VENV))/pycache $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

.PHONY: demo test test-all lint docs reference release-check clean install check-python check-package

demo: install
	$(BIN)/sap-sweep experiment=demo

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt | check-python
	$(PYTHON) -m venv $(if $(SYSTEM_TORCH),--system-site-packages) $(VENV)
ifdef SYSTEM_TORCH
	@$(BIN)/python -c 'import torch, torchvision' > /dev/null 2>&1 || { \
	    echo "error: SYSTEM_TORCH is set, but an environment on top of $(PYTHON) finds no torch and torchvision; load the module or conda" \
	         "environment that has them, or leave SYSTEM_TORCH out" >&2; exit 2; }
endif
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	grep -v $(if $(SYSTEM_TORCH),-E '^(torch|torchvision|triton|nvidia-.*|cuda-.*)==',-E '^$$') constraints.txt > $(VENV)/constraints.txt
	$(BIN)/python -m $(if $(SYSTEM_TORCH),pip,uv pip) install --quiet --constraint $(VENV)/constraints.txt \
	    --editable '.[dev]' --config-setting editable_mode=compat
	touch $(STAMP)

check-python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11))' > /dev/null 2>&1 || { \
	    echo "error: $(PYTHON) ($$($(PYTHON) -V 2> /dev/null | head -n 1)) is missing or too old; sap-sweep needs Python 3.11 or newer:" \
	         "make $(or $(MAKECMDGOALS),demo) PYTHON=/path/to/python3.11" >&2; exit 2; }

lint: install
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# Runs first, so that a wrong PKG fails before anything is installed or linted.
check-package:
	@test -d $(TESTS) || { \
	    echo "error: there are no tests of a package '$(PKG)'; allowed: $(filter-out __pycache__,$(notdir $(patsubst %/,%,$(wildcard tests/*/)))), as in" \
	         "make $(or $(MAKECMDGOALS),test) PKG=sweeper" >&2; exit 2; }

test: check-package lint
	$(PYTEST) -m "not slow and not slurm and not gpu" $(TESTS)

# Includes slow tests, tests with a Slurm controller, and more examples of each property.
test-all: check-package lint
	$(PYTEST) -m "not gpu" --hypothesis-profile=deep $(TESTS)

# Builds the documentation site into site/. It fails on a broken link or anchor, and if a page is missing from the navigation.
docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo 'built: open site/index.html'

# Writes the pages of docs/reference anew from argument parsers, conf/, docstrings and record classes; commit them with the change.
reference: install
	$(BIN)/python -m docs.generate

# Builds the source distribution and the wheel of HEAD, installs each outside of the checkout, and runs the demo there.
release-check: install
	.ci/release-check $(BIN)/uv

clean:
	rm -rf $(VENV) build dist site *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
