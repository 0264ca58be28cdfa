"""`import kdsr` is quick; kdsr is prepared before the first import that needs it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kdsr.first_use import LIGHT

ROOT = Path(__file__).parents[1]
HEAVY = ('torch', 'torchvision', 'basicsr', 'cv2', 'scipy', 'kdsr.compat')


def run(code, *arguments):
    """Run Python code in a fresh process; return what it printed last, as JSON."""
    environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
    done = subprocess.run(
        [sys.executable, '-c', code, *arguments], capture_output=True, text=True, cwd=ROOT, env=environment
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


AFTER_A_COMMAND = """
import json, sys
from kdsr.cli import main
try:
    main(sys.argv[1:])
except SystemExit as stopped:
    assert not stopped.code, stopped.code
print(json.dumps(sorted(sys.modules)))
"""


@pytest.mark.parametrize(
    'command',
    ['--help', '--version', 'upscale --help', 'train --help', 'methods', 'methods lsfd', 'zoo', 'zoo rfdn_small_x4',
     'options', 'options mtkd_*', 'check --schema'],
)  # fmt: skip
def test_commands_that_need_no_network_import_no_pytorch(command):
    imported = run(AFTER_A_COMMAND, *command.split())
    assert not [name for name in HEAVY if name in imported]


@pytest.mark.parametrize('module', sorted(LIGHT - {'__main__'}))
def test_a_light_module_imports_no_pytorch(module):
    imported = run(f'import json, sys, kdsr.{module}; print(json.dumps(sorted(sys.modules)))')
    assert not [name for name in HEAVY if name in imported]


IS_PREPARED = """
import json
from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, LOSS_REGISTRY, MODEL_REGISTRY
import basicsr.train
from kdsr import compat
found = ['RFDN' in ARCH_REGISTRY, 'RawPairedImageDataset' in DATASET_REGISTRY, 'LSFDLoss' in LOSS_REGISTRY,
         'DistillationModel' in MODEL_REGISTRY, len(compat.option_files.before_a_run) == 1,
         hasattr(basicsr.train.parse_options, '__wrapped__')]
print(json.dumps(found))
"""


@pytest.mark.parametrize(
    'first',
    ['import kdsr, basicsr', 'import kdsr; from basicsr.archs import build_network', 'import kdsr.losses',
     'from kdsr.models.distillation_model import DistillationModel', 'import kdsr; kdsr.archs',
     'from kdsr.deployment import Upscaler', 'import kdsr.environment', 'import kdsr, importlib.util;'
     'importlib.util.find_spec("basicsr")', 'from kdsr.first_use import prepare_on_first_use; import basicsr'],
)  # fmt: skip
def test_kdsr_is_prepared_whatever_is_imported_first(first):
    assert all(run(first + IS_PREPARED))


def test_modules_that_the_preparation_imported_are_not_loaded_twice():
    code = """
import json, sys
import kdsr.losses.lsfd_loss as asked_for
from basicsr.utils.registry import LOSS_REGISTRY
import kdsr
print(json.dumps([LOSS_REGISTRY.get('LSFDLoss') is asked_for.LSFDLoss, kdsr.losses is sys.modules['kdsr.losses'],
                  kdsr.losses.__spec__.origin == kdsr.losses.__file__]))
"""
    assert run(code) == [True, True, True]


def test_an_unknown_attribute_is_an_attribute_error():
    assert run('import json, kdsr; print(json.dumps([hasattr(kdsr, "nothing"), hasattr(kdsr, "__nothing__")]))') == [
        False, False
    ]  # fmt: skip


def test_heavy_modules_come_with_the_first_use_of_their_function():
    code = """
import json, sys, kdsr
from basicsr.data.degradations import multivariate_normal
deferred = ['scipy.stats' not in sys.modules, 'torch._dynamo' not in sys.modules]
half = multivariate_normal.cdf([0.0], mean=[0.0], cov=[[1.0]])
import scipy.stats, torch
from torchvision.ops.roi_align import is_compile_supported
asked = is_compile_supported('cpu') in (True, False) and 'torch._dynamo' in sys.modules
compiled = torch.compile(lambda x: x + 1, backend='eager')(torch.ones(1)).item()
print(json.dumps([*deferred, abs(float(half) - 0.5) < 1e-9, hasattr(scipy.stats, 'ttest_rel'), asked, compiled == 2.0]))
"""
    assert run(code) == [True] * 6
