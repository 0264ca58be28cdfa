"""BasicSR's training and test pipelines, and its scripts, run with kdsr's repairs."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
from collections.abc import Sequence
from typing import Literal

from kdsr.errors import UserError


def run_pipeline(kind: Literal['train', 'test'], arguments: Sequence[str]) -> None:
    """Run BasicSR's pipeline in the current folder.

    Args:
        kind: Train a network, or test one.
        arguments: The arguments of BasicSR's pipeline: ``['-opt', 'my_network.yml', '--auto_resume']``.

    Raises:
        UserError: the option file has errors, or files are missing.
    """
    if kind == 'train':
        from basicsr.train import train_pipeline as pipeline
    else:
        from basicsr.test import test_pipeline as pipeline
    before = sys.argv
    sys.argv = [before[0], *arguments]  # BasicSR reads its arguments there
    try:
        pipeline(os.getcwd())
    finally:
        sys.argv = before


def run_script(script: str, arguments: Sequence[str]) -> None:
    """Run a Python script as ``python SCRIPT`` does, with BasicSR repaired and kdsr's classes registered.

    Args:
        script: Path of the file, for example ``BasicSR/scripts/data_preparation/create_lmdb.py``.
        arguments: The script's own arguments.

    Raises:
        UserError: there is no such file.
    """
    if not os.path.isfile(script):
        raise UserError(f'there is no script {script!r} (looked in {os.getcwd()!r}).')
    import basicsr  # noqa: F401 - prepares kdsr

    if 'fork' in multiprocessing.get_all_start_methods():  # other start methods run the script again without kdsr
        multiprocessing.set_start_method('fork', force=True)
    before = sys.argv, sys.path[:]
    sys.argv = [script, *arguments]
    sys.path.insert(0, os.path.dirname(os.path.abspath(script)))
    try:
        runpy.run_path(script, run_name='__main__')
    finally:
        sys.argv, sys.path[:] = before
