"""The public names: they are there, are documented in docs/api.md, and their examples run."""

import doctest
import importlib.util
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import kdsr

ROOT = Path(__file__).parents[1]
MODULES = ('archs', 'losses')
NAMES = [name for name in kdsr.__all__ if name not in MODULES]
NAMES += [f'{module}.{name}' for module in MODULES for name in getattr(kdsr, module).__all__]


def find(name):
    found = kdsr
    for part in name.split('.'):
        found = getattr(found, part)
    return found


@pytest.mark.parametrize('name', NAMES)
def test_the_example_of_a_public_name_runs(name, tmp_path, monkeypatch):
    if name == 'archs.Spandrel':
        pytest.importorskip('spandrel')
    monkeypatch.chdir(tmp_path)
    tests = [test for test in doctest.DocTestFinder(recurse=False).find(find(name), name, globs={}) if test.examples]
    assert tests, 'no example in its docstring'
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for test in tests:
            assert runner.run(test, out=lambda text: print(text)).failed == 0  # noqa: T201 - pytest shows it


@pytest.mark.parametrize('name', NAMES)
def test_a_public_name_says_what_it_takes_and_raises(name):
    doc = inspect.getdoc(find(name))
    assert 'Example:' in doc
    if name != 'UserError':
        for argument in inspect.signature(find(name)).parameters:
            assert f'{argument}:' in doc, argument


def test_the_page_of_the_api_is_current():
    spec = importlib.util.spec_from_file_location('api_page', ROOT / 'scripts' / 'api_page.py')
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert (ROOT / 'docs' / 'api.md').read_text(encoding='utf-8') == script.write_page(), 'run `make docs`'


def test_public_names_load_on_first_use():
    code = (
        'import json, sys, kdsr; before = "torch" in sys.modules; assert set(kdsr.__all__) <= set(dir(kdsr));'
        'kdsr.distil; print(json.dumps([before, "torch" in sys.modules, kdsr.distil is kdsr.authoring.distil.distil]))'
    )
    environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [False, True, True]


def test_what_is_not_there_is_no_attribute():
    with pytest.raises(AttributeError, match="no attribute 'distill'"):
        _ = kdsr.distill
