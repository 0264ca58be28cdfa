"""How a run starts: its seed, its lock, and the newest training state that can be used."""

from __future__ import annotations

import collections
import os
import re
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch
from basicsr.utils import check_resume

from kdsr.compat.option_files import settings
from kdsr.compat.tensors import find_tensor_fault
from kdsr.durable import remove_partial_files
from kdsr.errors import UserError
from kdsr.foreign import find_fault
from kdsr.foreign.kinds import TRAINING_STATE
from kdsr.lifecycle.changed_options import snapshot, tell_changes
from kdsr.lifecycle.locking import FolderLock
from kdsr.lifecycle.peers import Peers
from kdsr.lifecycle.run import run
from kdsr.lifecycle.seeding import share_seed

# How long a starting run waits for the lock of a run that may be about to end, in seconds. `kdsr compare` raises it.
lock_wait = 0.0


def load_resume_state(opt: dict[str, Any]) -> dict[str, Any] | None:
    """Share the seed, lock the run's folder, and return the training state to resume from, or None.

    BasicSR calls `torch.cuda.current_device()`, which fails on a CPU. It looks for states below the current folder,
    whatever the root of the experiment, unpickles anything, and silently starts at iteration 0. A second process of the
    same name archives the folder that the first one writes to.

    Raises:
        UserError: another process trains the run, or the state cannot be used.
    """
    run.options = snapshot(opt)
    if opt.get('dist'):
        share_seed(opt)
        run.peers = Peers.meet(opt['rank'], opt['world_size'])
    if opt.get('rank', 0) == 0 and 'experiments_root' in opt['path']:
        _lock_folder(opt['path']['experiments_root'])
    path = _find_newest_state(opt) if opt['auto_resume'] else opt['path'].get('resume_state')
    return None if path is None else _load_state(path, opt)


def _lock_folder(folder: str) -> None:
    lock = FolderLock(folder, 'being trained', 'Wait until it has ended, stop it, or give this run another `name:`.')
    lock.acquire(lock_wait)
    run.lock = lock
    for name in ('models', 'training_states'):
        remove_partial_files(Path(folder, name))


def _find_newest_state(opt: dict[str, Any]) -> str | None:
    """Return the newest state that can be used; None where there is no state.

    Raises:
        UserError: there are states, but none can be used.
    """
    folder = opt['path']['training_states']
    states = list_states(folder)
    path = next((state for state in states if _read_state(state)), None)
    if states and path is None:
        raise UserError(f'--auto_resume: no state in {folder!r} can be used; move the states away to start again.')
    result = f'resumes from {path}' if path else f'no state in {folder}: starts at 0'
    print(f'--auto_resume: {result}.', flush=True)  # noqa: T201 - the logger does not exist yet
    return path


def _load_state(path: str, opt: dict[str, Any]) -> dict[str, Any]:
    """Read a state, and point the options to the networks that were saved with it."""
    if not os.path.isfile(path):
        raise UserError(f'`path.resume_state: {path}` does not exist.')
    state = _read_state(path)
    if state is None:
        raise UserError(f'`path.resume_state: {path}` cannot be used (see above); nothing in it was run.')
    opt['path']['resume_state'] = path
    opt['resumed'] = {key: state.get(key) for key in ('epoch', 'iter', 'data_order')}
    tell_changes(path, state, opt)
    if state.get('data_order') is not None and not settings['seeded']:  # it was drawn at random: go on with it
        opt['manual_seed'] = state['data_order']['manual_seed']
    check_resume(opt, state['iter'])
    for key, network in opt['path'].items():
        if key.startswith('pretrain_network') and network is not None and not os.path.isfile(network):
            raise UserError(
                f'`path.resume_state: {path}`: {network}, which was saved with it, does not exist. Resume under '
                'the `name:` of the run that saved it, with its folder.'
            )
    return state


def list_states(folder: str) -> list[str]:
    """Return the paths of the training states in a folder, the newest first."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    iterations = sorted((int(n[: -len('.state')]) for n in names if re.fullmatch(r'\d+\.state', n)), reverse=True)
    return [os.path.join(folder, f'{i}.state') for i in iterations]


def _read_state(path: str) -> dict[str, Any] | None:
    """Return a training state, or print why it cannot be used: unreadable, not a state, or without its networks."""
    if hasattr(torch.serialization, 'add_safe_globals'):
        torch.serialization.add_safe_globals([collections.Counter])  # in the schedulers' milestones
    try:
        state = torch.load(path, map_location='cpu', weights_only=True)
        fault = find_fault(state, TRAINING_STATE) or find_tensor_fault(state)
        reason = f'it is not a training state, or damaged: {fault}' if fault else ''
        if not reason and not _is_whole(path):
            reason = 'it is damaged'
    except Exception as error:  # a truncated file ends in one of many errors
        state, reason = {}, f'it cannot be read ({type(error).__name__})'
    if not reason:
        lacking = [network for network in _list_networks(path, state) if not _is_whole(network)]
        reason = f'{os.path.normpath(lacking[0])} is missing or truncated' if lacking else ''
    if reason:
        print(f'Cannot resume from {path}: {reason}.', flush=True)  # noqa: T201 - the logger does not exist yet
    return None if reason else state


def _list_networks(path: str, state: dict[str, Any]) -> list[str]:
    """Return the files of weights that were saved with a state; BasicSR's states have those of the network itself."""
    folder = os.path.dirname(path)
    if os.path.basename(folder) != 'training_states':  # not in the folder of a run
        return []
    names = state.get('networks') or [f'net_g_{state["iter"]}.pth']
    return [os.path.join(folder, os.pardir, 'models', name) for name in names]


def _is_whole(path: str) -> bool:
    """Return whether every part of a file of torch.save is there and has the checksum that it was written with."""
    try:
        with zipfile.ZipFile(path) as parts:
            return parts.testzip() is None
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError):
        return False
