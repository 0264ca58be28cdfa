"""Checkpoints and training states that are whole or not there, and that hold what BasicSR forgets."""

from __future__ import annotations

import io
import math
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from basicsr.models.base_model import BaseModel
from basicsr.utils.dist_util import master_only

from kdsr.durable import write_durably
from kdsr.errors import UserError, suggest_cure
from kdsr.lifecycle.changed_options import follow_new_options, with_new_schedules
from kdsr.lifecycle.run import run
from kdsr.lifecycle.state_fit import check_optimizers, check_schedulers

FOR_INSPECTION = 'nonfinite'  # in the names of the files that a run leaves when its numbers are not finite
_POOL = ('queue_lr', 'queue_gt', 'queue_ptr')
basicsr_resume_training = BaseModel.resume_training


def save_checkpoint(content: Mapping[str, Any], path: str) -> None:
    """Write a checkpoint. At every moment `path` is either the old file or the whole new one.

    Raises:
        UserError: the disk is full, or the folder cannot be written to; the old file, if any, is unchanged.
    """
    buffer = io.BytesIO()  # torch.save to a file hides a full disk behind an error of its own
    torch.save(dict(content), buffer)
    try:
        write_durably(Path(path), buffer.getvalue())  # not getbuffer: an error would keep that open
    except OSError as error:
        raise UserError(
            f'cannot write {path}: {error.strerror or error}. What was saved before is whole: '
            f'{suggest_cure(error) or "make the folder writable"}, and in a training run add --auto_resume to the same '
            'command.'
        ) from error


@master_only
def save_network(
    self: Any, net: Any, net_label: str, current_iter: int | str, param_key: str | list[str] = 'params'
) -> None:
    """Save one network, or several under a key each, as ``<net_label>_<current_iter>.pth``; -1 stands for `latest`.

    BasicSR writes in place, so a kill leaves half a file under the name of the newest checkpoint. When nothing can be
    written, it warns and trains on for hours.

    Raises:
        UserError: the file cannot be written.
    """
    nets = net if isinstance(net, list) else [net]
    keys = param_key if isinstance(param_key, list) else [param_key]
    weights = {key: _copy_weights(self.get_bare_model(one)) for key, one in zip(keys, nets)}
    extras: dict[str, Any] = getattr(self, 'checkpoint_extras', dict)()
    name = f'{net_label}_{"latest" if current_iter == -1 else current_iter}.pth'
    save_checkpoint({**weights, **extras}, os.path.join(self.opt['path']['models'], name))
    self.saved_networks = [*getattr(self, 'saved_networks', ()), name]


@master_only
def save_training_state(self: Any, epoch: int, current_iter: int) -> None:
    """Save what a resume needs as ``<current_iter>.state``, then delete what `logger.keep_last` does not keep.

    BasicSR forgets the best metrics, and writes as :func:`save_network` describes.

    Raises:
        UserError: the file cannot be written.
    """
    if current_iter == -1:  # the end of the run
        return
    state = training_state(self, epoch, current_iter)
    save_checkpoint(state, os.path.join(self.opt['path']['training_states'], f'{current_iter}.state'))
    self.saved_networks, self.saved_state = state['networks'], (epoch, current_iter)
    _delete_old(self.opt, current_iter)


def resume_training(self: Any, resume_state: dict[str, Any]) -> None:
    """Restore optimisers and schedulers as BasicSR does, and what it forgets; follow edited options.

    Raises:
        UserError: the state does not fit the run.
    """
    options = run.options or {}
    try:
        resume_state = with_new_schedules(self, resume_state, options)
        check_schedulers(self.schedulers, resume_state['schedulers'])
        basicsr_resume_training(self, resume_state)
        check_optimizers(self.optimizers)
        follow_new_options(self, resume_state, options)
    except (AssertionError, ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:
        raise UserError(
            f'{self.opt["path"].get("resume_state")} does not fit this run ({error}): were losses, networks or '
            'optimiser changed since it was saved? Start a new run, under another `name:`.'
        ) from error
    if resume_state.get('best_metric_results') is not None:
        self.best_metric_results = _complete(resume_state['best_metric_results'], self.opt)
    self.validated = resume_state.get('validated')
    _fill_pair_pool(self, resume_state)
    folder = os.path.dirname(os.path.abspath(self.opt['path'].get('resume_state') or ''))
    if folder == os.path.abspath(self.opt['path'].get('training_states') or ''):  # not the folder of another run
        self.saved_networks = resume_state.get('networks') or []
        self.saved_state = (resume_state['epoch'], resume_state['iter'])


def training_state(model: Any, epoch: int, iteration: int) -> dict[str, Any]:
    """Return what BasicSR needs to resume a run, and what it forgets."""
    return {
        'epoch': epoch,
        'iter': iteration,
        'optimizers': [optimizer.state_dict() for optimizer in model.optimizers],
        'schedulers': [scheduler.state_dict() for scheduler in model.schedulers],
        'best_metric_results': _to_plain(getattr(model, 'best_metric_results', None)),
        'validated': getattr(model, 'validated', None) or {},
        'networks': _select(getattr(model, 'saved_networks', ()), iteration),
        'data_order': model.opt.get('data_order'),
        **_pair_pool(model),
        'options': run.options,
        **getattr(model, 'state_extras', dict)(),
    }


def _complete(results: dict[str, Any], opt: Mapping[str, Any]) -> dict[str, Any]:
    """Return the best results with an empty record of each metric that the saved run did not have."""
    metrics = ((opt.get('val') or {}).get('metrics') or {}).items()
    fresh = {}
    for name, metric in metrics:
        better = metric.get('better', 'higher')
        fresh[name] = {'better': better, 'val': -math.inf if better == 'higher' else math.inf, 'iter': -1}
    return {set_name: {**fresh, **record} for set_name, record in results.items()}


def _pair_pool(model: Any) -> dict[str, Any]:
    """Return the training pairs that Real-ESRGAN's models hold back for later batches."""
    if not hasattr(model, 'queue_ptr'):
        return {}
    return {'pair_pool': {name: getattr(model, name) for name in _POOL}}


def _fill_pair_pool(model: Any, state: Mapping[str, Any]) -> None:
    for name, value in (state.get('pair_pool') or {}).items():
        setattr(model, name, value.to(model.device) if isinstance(value, torch.Tensor) else value)


def _select(names: Iterable[str], iteration: int) -> list[str]:
    """Return the files of one iteration, each once."""
    return [name for name in dict.fromkeys(names) if name.endswith(f'_{iteration}.pth')]


def _copy_weights(network: Any) -> dict[str, Any]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}


def _to_plain(results: Any) -> Any:
    """Return the best metrics as Python's numbers: a safe loader refuses NumPy's."""
    if isinstance(results, dict):
        return {name: _to_plain(value) for name, value in results.items()}
    return results if results is None or isinstance(results, (str, int)) else float(results)


def _delete_old(opt: Mapping[str, Any], newest: int) -> None:
    """Delete states and checkpoints that are older than the last `logger.keep_last` states."""
    keep = opt.get('logger', {}).get('keep_last')
    if keep is None:
        return
    states = opt['path']['training_states']
    saved = sorted(i for i in map(_parse_state_name, os.listdir(states)) if i is not None and i <= newest)
    oldest = saved[-int(keep) :][0]
    for folder, parse_name in ((states, _parse_state_name), (opt['path']['models'], _parse_network_name)):
        for name in os.listdir(folder):
            iteration = parse_name(name)
            if iteration is not None and iteration < oldest:
                os.unlink(os.path.join(folder, name))


def _parse_state_name(name: str) -> int | None:
    """Return the iteration of a training state."""
    found = re.fullmatch(r'(\d+)\.state', name)
    return int(found[1]) if found else None


def _parse_network_name(name: str) -> int | None:
    """Return the iteration of a checkpoint; None for `latest`, `best` and those that are kept for inspection."""
    found = re.fullmatch(r'net_[a-z_]+_(\d+)\.pth', name)
    return int(found[1]) if found and FOR_INSPECTION not in name else None
