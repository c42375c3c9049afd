PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint lab course clean

# The main job on embedded data; offline once installed.
demo: $(VENV)/.installed
	$(BIN)/graft demo $(if $(wildcard letters),,--images letters)

# Two processes share the cores; threads of their own would wait for each other. Modules are compiled once, not in each
# of the processes that tests start.
test: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

# The textbook's claims, all of them, and the page of what was measured. `make lab QUICK=` runs the full forms.
QUICK ?= --quick
lab: $(VENV)/.installed-dev
	$(BIN)/graft lab all $(QUICK) --out docs/results
	$(BIN)/python docs/textbook.py
	$(BIN)/python docs/course.py

# All ten lessons of the course in order, offline and in an empty home, and every quick form against what is recorded.
course: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 GRAFT_LAB=all $(BIN)/pytest tests/docs/test_course.py tests/docs/test_textbook.py

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "graft needs Python 3.11 or newer, this is " + sys.version.split()[0] + ": make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

# An editable install leaves the source uncompiled, and where Python may not write byte code every process compiles it.
$(VENV)/.installed: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	$(BIN)/python -m compileall -q src
	touch $@

$(VENV)/.installed-dev: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	$(BIN)/python -m compileall -q src
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV)
