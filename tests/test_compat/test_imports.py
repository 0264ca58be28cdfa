"""What stops `import basicsr` on today's libraries is repaired; each repair has a test that fails without it."""

import importlib.util
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch

from kdsr.compat import imports
from tests.conftest import network_opt

ROOT = Path(__file__).parents[2]


def python(code):
    """Run code in a fresh interpreter; return (status, stdout, last line of stderr)."""
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], cwd=ROOT, capture_output=True, text=True)
    return done.returncode, done.stdout.strip(), done.stderr.strip().split('\n')[-1]


def test_basicsr_alone_does_not_import_here_and_does_after_kdsr():
    """functional_tensor is gone from every torchvision that fits torch 2.13; operators may be broken besides."""
    status, _, error = python('import basicsr')
    assert status != 0
    assert 'functional_tensor' in error or 'torchvision::' in error
    status, out, error = python('import kdsr, basicsr; print(basicsr.__version__)')
    assert (status, error) == (0, '')
    assert out.startswith('1.4')


class BrokenTorchvision:
    """An import hook whose torchvision describes operators that nobody defined, as a CUDA build does on a CPU torch."""

    def __init__(self, *operators, error='operator torchvision::{} does not exist'):
        self.operators, self.error = operators, error

    def find_spec(self, name, path=None, target=None):
        return importlib.util.spec_from_loader(name, self) if name == 'torchvision' else None

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        for operator in self.operators:
            if not hasattr(torch.ops.torchvision, operator):
                raise RuntimeError(self.error.format(operator))


@pytest.fixture
def without_torchvision(monkeypatch):
    for name in [n for n in sys.modules if n.split('.')[0] == 'torchvision']:
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.usefixtures('without_torchvision')
def test_missing_operators_are_declared_one_after_the_other(monkeypatch):
    monkeypatch.setattr(sys, 'meta_path', [BrokenTorchvision('demo_a', 'demo_b'), *sys.meta_path])
    with pytest.raises(RuntimeError, match='demo_a does not exist'):
        importlib.import_module('torchvision')
    assert imports.repair_torchvision_operators() == ['torchvision::demo_a', 'torchvision::demo_b']
    del sys.modules['torchvision']


@pytest.mark.usefixtures('without_torchvision')
def test_other_errors_of_torchvision_are_not_swallowed(monkeypatch):
    monkeypatch.setattr(sys, 'meta_path', [BrokenTorchvision('demo_c', error='something else'), *sys.meta_path])
    with pytest.raises(RuntimeError, match='something else'):
        imports.repair_torchvision_operators()


def test_import_repairs_leave_alone_what_works(monkeypatch):
    assert imports.repair_torchvision_operators() == []  # already imported and healthy by now
    own = types.ModuleType('torchvision.transforms.functional_tensor')
    monkeypatch.setitem(sys.modules, 'torchvision.transforms.functional_tensor', own)
    assert imports.repair_functional_tensor() is False
    assert sys.modules['torchvision.transforms.functional_tensor'] is own
    assert imports.repair_ndimage_filters() is False


def test_a_scipy_without_its_filters_module_gets_it_back(monkeypatch):
    monkeypatch.delitem(sys.modules, 'scipy.ndimage.filters', raising=False)
    monkeypatch.setattr(imports.importlib.util, 'find_spec', lambda name: None)
    assert imports.repair_ndimage_filters() is True
    from scipy.ndimage.filters import convolve  # BasicSR's own line

    assert callable(convolve)
    monkeypatch.delitem(sys.modules, 'scipy.ndimage.filters')


def test_a_python_without_distutils_gets_what_basicsr_takes_from_it(monkeypatch):
    for name in ('distutils', 'distutils.version'):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(imports.importlib.util, 'find_spec', lambda name: None)
    assert imports.repair_distutils() is True
    from distutils.version import LooseVersion  # BasicSR's own line

    assert LooseVersion('0.28.0+cpu') >= LooseVersion('0.9.0')
    assert not LooseVersion('0.8.1') >= LooseVersion('0.9.0')
    assert imports.repair_distutils() is False
    for name in ('distutils', 'distutils.version'):
        monkeypatch.delitem(sys.modules, name)


def test_a_swinir_is_built_without_a_warning():
    build = f'from basicsr.archs import build_network; build_network({network_opt("SwinIR")!r})'
    for between, warned in (('', False), ('warnings.resetwarnings(); ', True)):
        code = f'import warnings, kdsr, basicsr; {between}{build}'
        done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
        assert ('meshgrid' in done.stderr) is warned
