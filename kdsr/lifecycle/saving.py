"""How BasicSR writes checkpoints and training states."""

from __future__ import annotations

import functools
import io
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kdsr.durable import write_durably
from kdsr.errors import DISK_IS_FULL, UserError

FOR_INSPECTION = 'nonfinite'  # in the names of what a run that was stopped by bad numbers leaves to look at


def save_checkpoint(content: Mapping[str, Any], path: str) -> None:
    """Write a checkpoint so that `path` is at every moment either the old file or the whole new one.

    Raises:
        UserError: the disk is full, or the folder cannot be written to; the old file, if any, is as it was.
    """
    import torch

    buffer = io.BytesIO()  # torch.save to a file hides that the disk is full behind an error of its own
    torch.save(dict(content), buffer)
    try:
        write_durably(Path(path), buffer.getvalue())  # not getbuffer: an error would keep that open
    except OSError as error:
        cure = 'make room' if error.errno in DISK_IS_FULL else 'see to it that the folder can be written to'
        raise UserError(
            f'cannot write {path}: {error.strerror or error}. What was saved before is whole: {cure}, and in a '
            'training run add --auto_resume to the same command.'
        ) from error


def repair_saving() -> None:
    """Write checkpoints and states whole or not at all, stop when that fails, and remember what BasicSR forgets.

    BasicSR writes in place, so that a kill leaves half a file under the name of the newest checkpoint; goes on for
    hours when nothing can be written; and forgets the best metrics.
    """
    from basicsr.models.base_model import BaseModel
    from basicsr.utils.dist_util import master_only

    def save_network(
        self: Any, net: Any, net_label: str, current_iter: int | str, param_key: str | list[str] = 'params'
    ) -> None:
        nets = net if isinstance(net, list) else [net]
        keys = param_key if isinstance(param_key, list) else [param_key]
        weights = {key: _weights(self.get_bare_model(one)) for key, one in zip(keys, nets)}
        extras: dict[str, Any] = getattr(self, 'checkpoint_extras', dict)()
        label = 'latest' if current_iter == -1 else current_iter
        name = f'{net_label}_{label}.pth'
        save_checkpoint({**weights, **extras}, os.path.join(self.opt['path']['models'], name))
        self.saved_networks = [*getattr(self, 'saved_networks', ()), name]

    def save_training_state(self: Any, epoch: int, current_iter: int) -> None:
        if current_iter == -1:
            return
        state = training_state(self, epoch, current_iter)
        save_checkpoint(state, os.path.join(self.opt['path']['training_states'], f'{current_iter}.state'))
        self.saved_networks, self.saved_state = state['networks'], (epoch, current_iter)
        _prune(self.opt, current_iter)

    original = BaseModel.resume_training

    @functools.wraps(original)
    def resume_training(self: Any, resume_state: dict[str, Any]) -> None:
        try:
            original(self, resume_state)
        except (AssertionError, ValueError) as error:
            raise UserError(
                f'{self.opt["path"].get("resume_state")} does not fit this run ({error}): were losses, networks or '
                'optimiser changed since it was saved? Start a new run, under another `name:`.'
            ) from error
        if resume_state.get('best_metric_results') is not None:
            self.best_metric_results = resume_state['best_metric_results']
        self.validated = resume_state.get('validated')
        folder = os.path.dirname(os.path.abspath(self.opt['path'].get('resume_state') or ''))
        if folder == os.path.abspath(self.opt['path'].get('training_states') or ''):  # not that of another run
            self.saved_networks = resume_state.get('networks', [])
            self.saved_state = (resume_state['epoch'], resume_state['iter'])

    BaseModel.save_network = master_only(functools.wraps(BaseModel.save_network)(save_network))
    BaseModel.save_training_state = master_only(functools.wraps(BaseModel.save_training_state)(save_training_state))
    BaseModel.resume_training = resume_training


def training_state(model: Any, epoch: int, iteration: int) -> dict[str, Any]:
    """Return what BasicSR needs to resume a run, and what it forgets."""
    return {
        'epoch': epoch,
        'iter': iteration,
        'optimizers': [optimizer.state_dict() for optimizer in model.optimizers],
        'schedulers': [scheduler.state_dict() for scheduler in model.schedulers],
        'best_metric_results': _plain(getattr(model, 'best_metric_results', None)),
        'validated': getattr(model, 'validated', None) or {},
        'networks': _of_iteration(getattr(model, 'saved_networks', ()), iteration),
        'data_order': model.opt.get('data_order'),
        **getattr(model, 'state_extras', dict)(),
    }


def _of_iteration(names: Iterable[str], iteration: int) -> list[str]:
    return [name for name in dict.fromkeys(names) if name.endswith(f'_{iteration}.pth')]


def _weights(network: Any) -> dict[str, Any]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}


def _plain(results: Any) -> Any:
    """Return the best metrics as numbers of Python: NumPy's would not be read back."""
    if isinstance(results, dict):
        return {name: _plain(value) for name, value in results.items()}
    return results if results is None or isinstance(results, (str, int)) else float(results)


def _prune(opt: Mapping[str, Any], newest: int) -> None:
    """Delete states and checkpoints that are older than the last `logger.keep_last` states."""
    keep = opt.get('logger', {}).get('keep_last')
    if keep is None:
        return
    states = opt['path']['training_states']
    saved = sorted(i for i in map(_iteration_of_state, os.listdir(states)) if i is not None and i <= newest)
    oldest = saved[-int(keep) :][0]
    for folder, iteration_of in ((states, _iteration_of_state), (opt['path']['models'], _iteration_of_network)):
        for name in os.listdir(folder):
            iteration = iteration_of(name)
            if iteration is not None and iteration < oldest:
                os.unlink(os.path.join(folder, name))


def _iteration_of_state(name: str) -> int | None:
    found = re.fullmatch(r'(\d+)\.state', name)
    return int(found[1]) if found else None


def _iteration_of_network(name: str) -> int | None:
    found = re.fullmatch(r'net_[a-z_]+_(\d+)\.pth', name)  # neither `latest` nor `best`
    return int(found[1]) if found and FOR_INSPECTION not in name else None
