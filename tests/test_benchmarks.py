import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_losses_beside_their_plain_formulations(tmp_path):
    """At small sizes: whether both are equal, which the benchmark asserts, and whether it comes to its end."""
    env = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONWARNINGS': 'ignore', 'PYTHONPATH': str(ROOT)}
    command = [sys.executable, str(ROOT / 'benchmarks' / 'losses.py'), '--quick', '--out', str(tmp_path)]
    command += ['--only', 'WaveletLoss', 'WindowDCT', 'FAKDLoss', 'LSFDLoss 1x1']
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = (tmp_path / 'losses_cpu.md').read_text(encoding='utf-8').splitlines()
    rows = [line.split('|')[1].strip() for line in lines if line.startswith('| ')]
    losses = ['WaveletLoss haar, level 1', 'WaveletLoss haar, level 4', 'FAKDLoss']
    losses += ['LSFDLoss 1x1', 'LSFDLoss 1x1, narrow']
    windows = ['WindowDCT 8x8, 24 channels, 64x64', 'WindowDCT 8x8, 96 channels, 32x32']
    assert rows == ['loss', *losses[:2], *windows, *losses[2:], 'step with', *losses]
    assert not any('nan' in line for line in lines)
