"""How BasicSR resumes a run."""

from __future__ import annotations

import collections
import os
import re
import zipfile
import zlib
from typing import Any

from kdsr.errors import UserError


def repair_load_resume_state() -> None:
    """Resume on a CPU, from the run's own folder, and say so when there is nothing to resume.

    BasicSR calls `torch.cuda.current_device()`, looks for states below the current folder whatever the experiment's
    root, unpickles anything, and silently starts at 0.
    """
    import basicsr.train
    from basicsr.utils import check_resume

    def load_resume_state(opt: dict[str, Any]) -> dict[str, Any] | None:
        folder, path = opt['path']['training_states'], opt['path'].get('resume_state')
        if opt['auto_resume']:
            states = _states(folder)
            path = next((s for s in states if _read_state(s)), None)
            if states and path is None:
                raise UserError(f'--auto_resume: no state in {folder!r} can be used; move them away to start anew.')
            told = f'resumes from {path}' if path else f'no state in {folder}: starts at 0'
            print(f'--auto_resume: {told}.', flush=True)  # noqa: T201 - the logger does not exist yet
        if path is None:
            return None
        if not os.path.isfile(path):
            raise UserError(f'`path.resume_state: {path}` does not exist.')
        state = _read_state(path)
        if state is None:
            raise UserError(f'`path.resume_state: {path}` cannot be used (see above); nothing in it was run.')
        opt['path']['resume_state'] = path
        opt['resumed'] = {key: state.get(key) for key in ('epoch', 'iter', 'data_order')}
        if state.get('data_order') is not None:  # drawn at random where the option file names none
            opt['manual_seed'] = state['data_order']['manual_seed']
        check_resume(opt, state['iter'])
        for key, network in opt['path'].items():
            if key.startswith('pretrain_network') and network is not None and not os.path.isfile(network):
                raise UserError(
                    f'`path.resume_state: {path}`: {network}, which was saved with it, does not exist. Resume under '
                    'the `name:` of the run that saved it, with its folder.'
                )
        return state

    basicsr.train.load_resume_state = load_resume_state


def _states(folder: str) -> list[str]:
    """Return the training states in `folder`, the newest first."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    iterations = sorted((int(n[: -len('.state')]) for n in names if re.fullmatch(r'\d+\.state', n)), reverse=True)
    return [os.path.join(folder, f'{i}.state') for i in iterations]


def _read_state(path: str) -> dict[str, Any] | None:
    """Return a training state, or say why it cannot be used: unreadable, not a state, or without its networks."""
    import torch

    if hasattr(torch.serialization, 'add_safe_globals'):
        torch.serialization.add_safe_globals([collections.Counter])  # in the schedulers' milestones
    try:
        state = torch.load(path, map_location='cpu', weights_only=True)
        reason = '' if isinstance(state, dict) and 'iter' in state else 'it is no training state'
        if not reason and not _is_whole(path):
            reason = 'it is damaged'
    except Exception as error:  # a truncated file ends in one of many errors
        state, reason = {}, f'it cannot be read ({type(error).__name__})'
    if not reason:
        lacking = [network for network in _networks(path, state) if not _is_whole(network)]
        reason = f'{os.path.normpath(lacking[0])} is missing or truncated' if lacking else ''
    if reason:
        print(f'Cannot resume from {path}: {reason}.', flush=True)  # noqa: T201 - the logger does not exist yet
    return None if reason else state


def _networks(path: str, state: dict[str, Any]) -> list[str]:
    """Return the weights that were saved with a state; of a state of BasicSR those of the network itself."""
    folder = os.path.dirname(path)
    if os.path.basename(folder) != 'training_states':  # not in a run
        return []
    names = state.get('networks') or [f'net_g_{state["iter"]}.pth']
    return [os.path.join(folder, os.pardir, 'models', name) for name in names]


def _is_whole(path: str) -> bool:
    """Return whether every part of a file of torch.save is there, with the checksum that it was written with."""
    try:
        with zipfile.ZipFile(path) as parts:
            return parts.testzip() is None
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError):
        return False
