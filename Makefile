# handgrad: two commands do everything on a fresh machine with Python 3.11 or newer: make demo, make test.

# The first Python that is new enough; or say which: make demo PYTHON=python3.13
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: demo lessons test check docs format clean

demo: .venv/installed  ## install, train a minute on the embedded text, let it write
	@run=runs/demo-$$(date +%Y%m%d-%H%M%S) && \
	$(BIN)/handgrad train --minutes 1 --out $$run && \
	echo && $(BIN)/handgrad generate $$run "The " --max-tokens 400

lessons: .venv/installed-lessons  ## open the lessons in Jupyter, as notebooks of your own in my-lessons/
	@$(BIN)/handgrad lessons

docs: .venv/installed-docs  ## build the documentation into docs/_build; warnings are errors
	@mkdir -p docs/_build && if [ -d docs/_build/html ]; then mv docs/_build/html docs/_build/unfinished; fi
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/unfinished
	@mv docs/_build/unfinished docs/_build/html
	@echo "Open docs/_build/html/index.html"

test: .venv/installed-dev  ## run all tests
	OPENBLAS_NUM_THREADS=1 $(BIN)/pytest -n auto --dist worksteal  # one process a core, so one thread each

check: .venv/installed-dev  ## lint, format, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: .venv/installed-dev  ## let the formatter and the safe fixes have their way
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove the environment and what tools left; runs/ stays
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "handgrad needs Python 3.11 or newer: https://www.python.org/downloads"; exit 1; }
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml
	@echo "Installing handgrad into .venv ..."
	@$(PIP) install --editable .
	@touch $@

.venv/installed-lessons: .venv/bin/python pyproject.toml
	@echo "Installing handgrad and Jupyter into .venv ..."
	@$(PIP) install --editable '.[lessons]'
	@touch $@ .venv/installed

.venv/installed-docs: .venv/bin/python pyproject.toml
	@echo "Installing handgrad and what builds its documentation into .venv ..."
	@$(PIP) install --editable '.[docs]'
	@touch $@ .venv/installed

.venv/installed-dev: .venv/bin/python pyproject.toml
	@echo "Installing handgrad and its tools into .venv ..."
	@$(PIP) install --editable '.[dev]'
	@touch $@ .venv/installed
