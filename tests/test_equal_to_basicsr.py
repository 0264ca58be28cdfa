"""What docs/from_basicsr.md says of plain trainings: equal to BasicSR's bit for bit, unless crops are random."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
BASICSR_ALONE = """
import sys
import kdsr.first_use
sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, kdsr.first_use._Trigger)]
from kdsr.compat import imports  # what BasicSR needs to be imported at all, and nothing else
imports.repair_torchvision_operators()
imports.repair_functional_tensor()
imports.repair_ndimage_filters()
import os
from basicsr.train import train_pipeline
from basicsr.utils.registry import ARCH_REGISTRY
assert 'RFDN' not in ARCH_REGISTRY
train_pipeline(os.getcwd())
"""
KDSR = 'from kdsr.cli import main; main()'


def trained(code, *arguments, workspace):
    """Train run.yml in a process of its own; return the final weights."""
    environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code, *arguments], cwd=workspace.root, env=environment,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (workspace.root / 'experiments').rename(workspace.root / f'experiments_{len(arguments)}')
    return torch.load(workspace.root / f'experiments_{len(arguments)}/run/models/net_g_latest.pth', weights_only=True)


@pytest.mark.slow
@pytest.mark.parametrize('random_samples', [False, True])
def test_a_training_is_that_of_basicsr_unless_samples_are_random(workspace, random_samples):
    opt = workspace.options(iterations=3)
    if not random_samples:
        opt['datasets']['train'].update(gt_size=48, use_hflip=False, use_rot=False)  # whole images
    workspace.write(opt)
    basicsr = trained(BASICSR_ALONE, '-opt', 'run.yml', workspace=workspace)
    ours = trained(KDSR, 'train', '-opt', 'run.yml', workspace=workspace)
    assert basicsr.keys() == ours.keys() == {'params', 'params_ema'}
    equal = [torch.equal(tensor, ours[key][name]) for key in ours for name, tensor in basicsr[key].items()]
    assert all(equal) is not random_samples
