"""A trained distillation experiment, brought back to look at: student, teachers, taps and the losses' helpers."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from basicsr.models import build_model
from basicsr.utils import get_root_logger
from torch import Tensor

from kdsr import options, plugins
from kdsr.distillation.checkpoint import load_weights
from kdsr.errors import UserError
from kdsr.experiment import Experiment, read_experiment
from kdsr.experiment.missing_files import check_files
from kdsr.models.any_model import find_distilled_class
from kdsr.models.distilling import Distilling
from kdsr.networks.devices import find_device
from kdsr.networks.shown_images import ShownImages


class TrainedRun:
    """The networks of an experiment after some iteration, and its validation sets or other test sets.

    The student has its averaged weights (`params_ema`) where the checkpoint holds them; the helpers have no average.

    Args:
        option_file: The YAML that the run was trained with.
        iteration: Number of a checkpoint, or 'latest'.
        device: 'auto' (a GPU, if there is one and the options allow it), 'cpu', 'cuda', 'cuda:1', ...
        overrides: As after `--force_yml`.
        folders: Folders of test sets instead of the validation sets.

    Raises:
        UserError: the run has no teachers, is not trained yet, or lacks data or weights.
    """

    def __init__(
        self,
        option_file: str,
        iteration: str = 'latest',
        device: str = 'auto',
        overrides: Sequence[str] = (),
        folders: Sequence[str] = (),
    ) -> None:
        get_root_logger(log_level=logging.WARNING)  # BasicSR would print every layer
        self.opt = options.load_experiment(option_file, overrides)
        _choose_device(self.opt, device)
        self.experiment = read_experiment(self.opt).live()
        plugins.import_named(self.experiment.imports)
        _check_kind(self.experiment, option_file)
        options.check(self.opt)
        self.name, self.scale, self.iteration = self.experiment.name, self.experiment.scale, str(iteration)
        self.folder = os.path.join('experiments', self.name)
        self.checkpoint = find_checkpoint(self.folder, self.iteration, option_file)
        self.opt['distillation'] = {**self.opt['distillation'], 'views': None, 'cache': None}  # teachers answer anew
        self._shown = ShownImages(self.experiment, folders)
        sets = {} if folders else self._shown.validation
        check_files(replace(self.experiment, datasets=sets, resumes=True))
        self.model = self._build()

    def _build(self) -> Distilling:
        opt = _make_inspection_options(self.opt, self.folder, self.checkpoint)
        model_class = find_distilled_class(opt)
        model = build_model(opt) if model_class is None else model_class(opt)
        if not isinstance(model, Distilling):
            raise UserError(f'`model_type: {self.experiment.model.name}` distils nothing that could be looked at.')
        if any(True for _ in model.helpers()):
            path = os.path.join(self.folder, 'models', f'net_distill_{self.iteration}.pth')
            load_weights(model.losses, path, 'params', 'distillation helpers')
        model.net_g.eval()
        model.losses.eval()
        return model

    def set_names(self) -> list[str]:
        """Return the names of the sets."""
        return self._shown.names()

    def images(self, set_name: str, count: int | None = None) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Yield (file name, lq, gt) of a set, see :class:`ShownImages`, on the model's device."""
        for name, lq, gt in self._shown.images(set_name, count):
            self.model.feed_data({'lq': lq, 'gt': gt})
            yield name, self.model.lq, self.model.gt


def _choose_device(opt: dict[str, Any], device: str) -> None:
    """Let BasicSR build its model on a device: it knows the CPU, and the current GPU."""
    if device == 'auto':
        return
    found = find_device(device)
    opt['num_gpu'] = 0 if found.type == 'cpu' else 1
    if found.index is not None and found.type == 'cuda':
        torch.cuda.set_device(found)


def _check_kind(experiment: Experiment, option_file: str) -> None:
    """Refuse experiments in which nothing is distilled into a student."""
    if not experiment.teachers:
        raise UserError(f'{option_file}: there is no `distillation:` block, so no teacher to compare the student with.')
    if experiment.model.trains == 'aggregator':
        raise UserError(f'{option_file} trains an aggregator (stage 1); name the option file of a student.')


def find_checkpoint(folder: str, iteration: str, option_file: str) -> str:
    """Return the path of a student's checkpoint.

    Args:
        folder: Of the experiment.
        iteration: Number, 'latest' or 'best'.
        option_file: For the message.

    Raises:
        UserError: there is no such checkpoint; the message lists those that exist.
    """
    path = os.path.join(folder, 'models', f'net_g_{iteration}.pth')
    if os.path.isfile(path):
        return path
    models = os.path.dirname(path)
    names = [re.fullmatch(r'net_g_(\w+)\.pth', n) for n in (os.listdir(models) if os.path.isdir(models) else [])]
    there = sorted((n[1] for n in names if n), key=lambda label: (len(label), label))
    cure = f'it has {", ".join(there)}: `--iter {there[-1]}`' if there else f'kdsr train {option_file}'
    raise UserError(f'{path} does not exist: the run is not trained that far ({cure}).')


def _make_inspection_options(opt: Mapping[str, Any], folder: str, checkpoint: str) -> dict[str, Any]:
    """Return options with which BasicSR builds the run's model, its student loaded, and nothing that only trains."""
    train = {key: value for key, value in opt['train'].items() if key != 'perceptual_opt'}
    train.update(ema_decay=0, optim_g={'type': 'Adam', 'lr': 0.0})
    return {
        **opt,
        'is_train': True,
        'dist': False,
        'high_order_degradation': False,  # Real-ESRGAN's models then take pairs
        'rank': 0,
        'world_size': 1,
        'num_gpu': 1 if opt['num_gpu'] != 0 and torch.cuda.is_available() else 0,
        'train': train,
        'path': {
            'models': os.path.join(folder, 'models'),
            'pretrain_network_g': checkpoint,
            'param_key_g': 'params_ema',  # BasicSR takes `params` where there are none
            'strict_load_g': True,
            'resume_state': checkpoint,  # not at its start: `init_from` takes no weights over
        },
    }
