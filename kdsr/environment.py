"""Where a number was measured: the code's commit, the versions, the machine."""

from __future__ import annotations

import os
import platform
import subprocess
from typing import Any

import torch

import kdsr


def environment(num_gpu: int) -> dict[str, Any]:
    """Return plain values that belong beside a measured number.

    Args:
        num_gpu: 0 when the run uses none.

    Returns:
        `commit` (the version where kdsr was installed without its history), `device`, `gpu`, `threads`, `torch`,
        `python`.
    """
    gpu = bool(num_gpu) and torch.cuda.is_available()
    return {
        'commit': commit(),
        'device': torch.cuda.get_device_name(0) if gpu else processor(),
        'gpu': gpu,
        'threads': torch.get_num_threads(),
        'torch': torch.__version__,
        'python': platform.python_version(),
    }


def processor() -> str:
    """Return the name of the processor and how many of its cores there are."""
    name = platform.processor() or platform.machine()
    if os.path.isfile('/proc/cpuinfo'):
        with open('/proc/cpuinfo', encoding='utf-8', errors='replace') as file:
            models = [line.split(':', 1)[1].strip() for line in file if line.startswith('model name')]
        name = models[0] if models else name
    return f'{name}, {os.cpu_count()} cores'


def commit() -> str:
    """Return the commit of the checkout that kdsr runs from, `+` when it was changed, or kdsr's version."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(kdsr.__file__)))
    try:
        if os.path.realpath(_git(root, 'rev-parse', '--show-toplevel')) != os.path.realpath(root):
            return f'kdsr {kdsr.__version__}'  # installed below some other project's folder
        changed = '+' if _git(root, 'status', '--porcelain', '--untracked-files=no') else ''
        return _git(root, 'rev-parse', '--short=10', 'HEAD') + changed
    except (OSError, subprocess.CalledProcessError):
        return f'kdsr {kdsr.__version__}'


def _git(root: str, *arguments: str) -> str:
    done = subprocess.run(['git', '-C', root, *arguments], capture_output=True, text=True, check=True, timeout=30)
    return done.stdout.strip()
