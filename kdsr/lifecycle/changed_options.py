"""A run that is resumed with an edited option file: what changes from here on, and what cannot change any more."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from glob import glob
from pathlib import Path
from typing import Any

from kdsr.errors import UserError
from kdsr.options.differences import list_option_differences
from kdsr.options.safe_yaml import copy_plainly

KEPT = ('model_type', 'scale', 'color', 'network_g', 'network_d', 'distillation', 'train', 'datasets')
FIXED = ('model_type:', 'scale:', 'color:', 'network_', 'train.optim_g.type:', 'train.optim_d.type:')
CROPS = ('use_hflip', 'use_rot', 'degradation')  # of the training set; `data_order` compares the rest
EARLIER = 'earlier_options'  # folder of an experiment


def snapshot(opt: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that a training depends on, before BasicSR takes the `type` of what it builds out of them.

    Args:
        opt: All options, as they were parsed.
    """
    chosen = {key: copy_plainly(opt[key]) for key in KEPT if opt.get(key) is not None}
    train_set = chosen.pop('datasets', {}).get('train', {})
    return {**chosen, 'crops': {key: value for key, value in train_set.items() if key in CROPS}}


def tell_changes(path: str, state: Mapping[str, Any], opt: Mapping[str, Any]) -> None:
    """Print what was edited since a state was saved, one line each, and keep the earlier option file.

    Args:
        path: Of the state.
        state: Its content; states of BasicSR and of older versions of kdsr hold no options, and are not compared.
        opt: All options of this run.

    Raises:
        UserError: what cannot change in a run was changed: the model, its networks, the type of an optimiser.
    """
    then = state.get('options')
    if then is None:
        return
    lines = list_option_differences(then, snapshot(opt))
    fixed = [line for line in lines if line.startswith(FIXED)]
    if fixed:
        listed = '\n'.join(f'  - {line}' for line in fixed)
        raise UserError(
            f'{path} was saved with options that cannot change in a run:\n{listed}\n'
            'Undo the change, or start a new run under another `name:` (`path.pretrain_network_g` takes the weights).'
        )
    if lines and opt.get('rank', 0) == 0:
        kept = _keep_earlier(opt['path'].get('experiments_root'), int(state['iter']))
        listed = '\n'.join(f'  - {line} (from iteration {int(state["iter"]) + 1} on)' for line in lines)
        print(f'{path} was saved with other options:\n{listed}{kept}', flush=True)  # noqa: T201


def _keep_earlier(folder: str | None, iteration: int) -> str:
    """Copy the option file of the experiment aside, because BasicSR overwrites it; return a sentence about it."""
    files = sorted(glob(os.path.join(folder, '*.yml'))) if folder else []
    if not files or folder is None:
        return ''
    kept = Path(folder, EARLIER, f'until_{iteration}.yml')
    kept.parent.mkdir(exist_ok=True)
    shutil.copyfile(files[0], kept)
    return f'\nThe option file until then is kept as {kept}.'


def with_new_schedules(model: Any, state: Mapping[str, Any], opt: Mapping[str, Any]) -> dict[str, Any]:
    """Return a training state whose schedules are those of the option file, if it has others than before.

    Args:
        model: With optimisers and schedulers as the options describe them.
        state: The saved state.
        opt: What :func:`snapshot` returns for this run.
    """
    if not (opt and _has_new_schedule(state, opt)):
        return dict(state)
    schedulers = [
        {**scheduler.state_dict(), **{key: saved[key] for key in ('last_epoch', '_step_count') if key in saved}}
        for scheduler, saved in zip(model.schedulers, state['schedulers'])
    ]
    return {**state, 'schedulers': schedulers}


def follow_new_options(model: Any, state: Mapping[str, Any], opt: Mapping[str, Any]) -> None:
    """Set learning rates and other values of the optimisers as the option file says, if it was edited.

    The schedule is followed as if it had been there from the start: its learning rate at the current iteration counts.

    Args:
        model: Whose optimisers and schedulers are restored.
        state: The saved state.
        opt: What :func:`snapshot` returns for this run.
    """
    if not opt:
        return
    then = state.get('options') or {}
    for optimizer, name in zip(model.optimizers, ('optim_g', 'optim_d')):
        old, new = (_train(options).get(name) or {} for options in (then, opt))
        changed = {k: v for k, v in new.items() if k != 'type' and old.get(k) != v} if old else {}
        for group in optimizer.param_groups:
            group.update(changed)
            if 'lr' in changed:
                group['initial_lr'] = changed['lr']
    if _has_new_schedule(state, opt):
        for scheduler in model.schedulers:
            _replay(scheduler)


def _train(options: Mapping[str, Any]) -> Mapping[str, Any]:
    return options.get('train') or {}


def _has_new_schedule(state: Mapping[str, Any], opt: Mapping[str, Any]) -> bool:
    then = state.get('options')
    if then is None:
        return False
    old, new = (
        (_train(o).get('scheduler'), *((_train(o).get(name) or {}).get('lr') for name in ('optim_g', 'optim_d')))
        for o in (then, opt)
    )
    return old != new


def _replay(scheduler: Any) -> None:
    """Compute the learning rates of a schedule at its current step; BasicSR's depend on those of the step before."""
    groups = scheduler.optimizer.param_groups
    scheduler.base_lrs = [group['initial_lr'] for group in groups]
    last = scheduler.last_epoch
    for group in groups:
        group['lr'] = group['initial_lr']
    for step in range(1, last + 1):
        scheduler.last_epoch = step
        for group, lr in zip(groups, scheduler.get_lr()):
            group['lr'] = lr
    scheduler._last_lr = [group['lr'] for group in groups]
