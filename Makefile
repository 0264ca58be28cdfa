# `make quickstart` and `make test` need nothing but Python 3.10 to 3.13 and a C library. Each line that is run is
# printed: with an environment of your own, type the `pip` and `python` lines yourself.
PYTHON ?= python3
VENV   ?= .venv
PY      = $(VENV)/bin/python
INSTALLED = $(VENV)/installed-$(shell cat setup.py pyproject.toml requirements.txt constraints.txt Makefile | cksum | cut -d' ' -f1)
# small networks on few cores: one thread a process, no busy waiting
export OMP_NUM_THREADS ?= 1
export OMP_WAIT_POLICY ?= PASSIVE
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: help install quickstart test lint docs clean

help:
	@echo 'make quickstart   install, then distil a small network from three teachers on sample photos (minutes)'
	@echo 'make test         install, then run the tests'
	@echo 'make lint         check style and types'
	@echo 'make docs         write what is generated in docs/ and README.md: tables, diagrams, schema, estimates'
	@echo 'make clean        remove the environment and everything that quickstart made'

install: $(INSTALLED)

$(INSTALLED):
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install -q -c constraints.txt 'setuptools>=77' wheel
	PYTHONPATH=scripts/pep667 $(PY) -m pip install -q --no-build-isolation --use-pep517 -c constraints.txt -r requirements.txt -e .
	rm -f $(VENV)/installed-*
	touch $@

quickstart: install
	$(PY) -m kdsr quickstart

test: install
	$(PY) -m pytest -n 2

lint: install
	$(PY) -m pip check
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

docs: install
	$(PY) -c 'from kdsr import options; print(options.document(), end="")' > docs/options.md
	$(PY) -m kdsr check --schema > docs/options.schema.json
	$(PY) -c 'from kdsr.methods import write_documents; write_documents(".")'
	$(PY) scripts/method_pictures/draw_methods.py
	$(PY) -m kdsr estimate --page > docs/estimates.md

clean:
	rm -rf $(VENV) datasets/quickstart experiments/quickstart_* results/quickstart
