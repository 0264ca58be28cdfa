# `make quickstart` and `make test` need nothing but Python 3.10 to 3.14 and a C library. Each line that is run is
# printed: with an environment of your own, type the `pip` and `python` lines yourself.
PYTHON ?= python3
VENV   ?= .venv
PY      = $(VENV)/bin/python
PINS    = -c constraints.txt -r requirements.txt
SET     = $(shell cat setup.py pyproject.toml requirements.txt constraints.txt Makefile | cksum | cut -d' ' -f1)
VERSION = $(shell $(PYTHON) -c 'import platform; print(platform.python_version())')
INSTALLED = $(VENV)/installed-$(VERSION)-$(SET)
TESTABLE  = $(VENV)/testable-$(VERSION)-$(SET)
# small networks on few cores: one thread a process, no busy waiting
export OMP_NUM_THREADS ?= 1
export OMP_WAIT_POLICY ?= PASSIVE
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: help install quickstart test browser test-browser lint docs site clean

help:
	@echo 'make quickstart   install, then distil a small network from three teachers on sample photos (minutes)'
	@echo 'make test         install, with the test tools, then run the tests'
	@echo 'make test-browser  run the exported web page in Chromium (downloads Chromium and onnxruntime-web)'
	@echo 'make lint         check style and types'
	@echo 'make docs         write what is generated in docs/ and README.md (tables, diagrams, schema, estimates, API), then the site'
	@echo 'make site         build the website of all documents, with search, in build/site/'
	@echo 'make clean        remove the environment and everything that quickstart made'
	@echo 'PYTHON=python3.12 chooses the Python, VENV=folder the environment.'

install: $(INSTALLED)

$(INSTALLED):
	@$(PYTHON) scripts/check_python.py --environment $(VENV)
	@echo 'Installing into $(VENV). PyTorch is the largest part: about 0.2 GB to download as a CPU build, 2.7 GB as the'
	@echo 'CUDA build that pip takes on Linux; the rest is about 0.2 GB. On the disk: 1.6 GB, or 5.5 GB with CUDA.'
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) scripts/install_basicsr.py
	$(PY) -m pip install $(PINS) -e .
	rm -f $(VENV)/installed-*
	touch $@
	@echo 'kdsr is installed. Next: `make quickstart`, or . $(VENV)/bin/activate, and kdsr upscale YOUR_PHOTOS --out large'

$(TESTABLE): $(INSTALLED)
	$(PY) -m pip install -q $(PINS) -e '.[dev]'
	rm -f $(VENV)/testable-*
	touch $@

quickstart: install
	$(PY) -m kdsr quickstart

test: $(TESTABLE)
	$(PY) -m pytest -n 2

browser: $(TESTABLE)
	$(PY) -m pip install -q playwright==1.65.2
	$(PY) scripts/prepare_browser.py

test-browser: browser
	$(PY) -m pytest -n 0 tests/test_export_targets/test_web_page.py

lint: $(TESTABLE)
	$(PY) -m pip check
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

docs: $(TESTABLE)
	$(PY) -c 'from kdsr import options; print(options.document(), end="")' > docs/options.md
	$(PY) -m kdsr check --schema > docs/options.schema.json
	$(PY) -c 'from kdsr.cli import command_page; print(command_page(), end="")' > docs/command_line.md
	$(PY) -c 'from kdsr.methods.documents import write_documents; write_documents(".")'
	$(PY) scripts/method_pictures/draw_methods.py
	$(PY) -m kdsr estimate --page > docs/estimates.md
	$(PY) scripts/api_page.py
	$(MAKE) site

site: $(TESTABLE)
	$(PY) -m sphinx -q -W --keep-going -b html -c scripts/site . build/site
	@echo 'Open build/site/index.html.'

clean:
	rm -rf $(VENV) build datasets/quickstart experiments/quickstart_* results/quickstart
