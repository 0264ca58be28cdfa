"""The teachers of an experiment on two pairs of its training set: are they better than bicubic upsampling?"""

from __future__ import annotations

import copy
import random

import numpy as np
import torch
from basicsr.data import build_dataset
from basicsr.utils.color_util import rgb2ycbcr_pt
from torch import Tensor
from torch.utils.data import default_collate

from kdsr.distillation.health import check_teacher
from kdsr.distillation.outputs import Batch
from kdsr.distillation.teacher import build_teachers
from kdsr.errors import UserError
from kdsr.experiment import Experiment
from kdsr.lifecycle.bad_samples import NamedSamples
from kdsr.networks.devices import find_device

PAIRS = 2


def find_teacher_problem(experiment: Experiment) -> str | None:
    """Return what a start would find in its first batch; None where all is well or nothing is compared.

    Args:
        experiment: A training with checked options, whose files are there.
    """
    if not (experiment.health_check and experiment.teachers) or experiment.used_cache is not None:
        return None
    device = find_device('cpu' if experiment.cpu_only else 'auto')
    try:
        with torch.random.fork_rng(devices=[]):
            teachers = build_teachers(experiment).to(device)
            pairs = _draw_pairs(experiment)
            batch = Batch(pairs.lq.to(device), pairs.require('gt').to(device))
            check_teacher(teachers, [batch], experiment.scale)
    except UserError as error:
        return str(error)
    return None


def _draw_pairs(experiment: Experiment) -> Batch:
    """Return the first training pairs, cropped as in training, on the CPU."""
    options = copy.deepcopy({**experiment.datasets['train'], 'phase': 'train', 'scale': experiment.scale})
    before = random.getstate(), np.random.get_state()
    try:
        random.seed(0)
        np.random.seed(0)
        samples = NamedSamples(build_dataset(options))
        drawn = default_collate(
            [{key: sample[key] for key in ('lq', 'gt')} for sample in map(samples.__getitem__, range(PAIRS))]
        )
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
    lq, gt = (_to_input(drawn[key], experiment) for key in ('lq', 'gt'))
    return Batch(lq, gt)


def _to_input(image: Tensor, experiment: Experiment) -> Tensor:
    """Return images as networks take them: floats in [0, 1], in luminance where the experiment says so."""
    image = image.float().div_(255) if image.dtype == torch.uint8 else image
    return rgb2ycbcr_pt(image, y_only=True) if experiment.luminance and image.shape[1] == 3 else image
