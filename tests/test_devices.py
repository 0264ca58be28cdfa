"""Nothing in a step makes a device wait or meets a tensor of the CPU: whole trainings on a stand-in device.

The stand-in must be there before the first backward pass of a process and stays in it, hence a process of its own.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils import backend_registration

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.skipif(
    not hasattr(backend_registration, '_setup_privateuseone_for_python_backend'),
    reason='this PyTorch has no backends written in Python (2.8 has none, 2.13 has)',
)
@pytest.mark.parametrize('file', ['checks.py', 'mistakes.py'])
def test_everything_runs_on_a_device_that_is_not_the_cpu(file):
    command = [sys.executable, '-m', 'pytest', '-n', '0', '-p', 'no:cacheprovider', f'tests/devices/{file}']
    env = {**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=290)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
