"""Models to export or to use: checkpoints of any origin, and kdsr's own safetensors and ONNX files."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from dataclasses import replace
from glob import glob
from typing import Any

from kdsr import options, zoo
from kdsr.cost.complexity import count
from kdsr.deployment.card import ModelCard, format_training, read_card
from kdsr.deployment.reach import reach_of
from kdsr.distillation.checkpoint import read_checkpoint
from kdsr.distillation.photo_probe import warn_if_worse
from kdsr.errors import UserError
from kdsr.metadata import safetensors_metadata
from kdsr.networks.candidates import Candidate, find_candidates
from kdsr.networks.facts import count_parameters, find_lr_shape

_SCORE = re.compile(r'# (\w+): ([\d.]+)')


def read_model(
    path: str, network: str | None = None, notice: Callable[[str], object] = lambda sentence: None
) -> tuple[Candidate, ModelCard | None]:
    """Build the network of a checkpoint, with its weights.

    Args:
        path: `net_g_*.pth` of an experiment, a file of `kdsr convert` or `kdsr export` (safetensors), an official file
            that `kdsr convert` recognises, a file that spandrel recognises, an option file, or a name of the zoo.
        network: Options of the network of bare weights, as a mapping or an option file.
        notice: Called with a warning if a network without a card is worse than bicubic upsampling on photos.

    Returns:
        The network, and the card that lies in the file, if there is one.

    Raises:
        UserError: the file is missing, damaged, or not enough is known of it.
    """
    path, card = zoo.find_file(path), None
    if path.lower().endswith('.safetensors') and network is None:
        card = read_card(safetensors_metadata(path), path)
    one = find_candidates([path], network=network)[0]
    if card is not None:
        return replace(one, name=card.name), card
    one = replace(one, name=_name(path, one.name))
    channels = 1 if one.luminance else 3
    warning = one.network and warn_if_worse(one.name, one.network, one.scale, channels, one.multiple)
    if warning:
        notice(warning)
    return one, None


def _name(path: str, name: str) -> str:
    """Return the experiment's name for a checkpoint that lies in one."""
    folder = _experiment(path)
    return os.path.basename(folder) if folder else name


def _experiment(path: str) -> str | None:
    folder = os.path.dirname(os.path.abspath(path))
    in_one = os.path.basename(folder) == 'models' and os.path.basename(path).startswith('net_g_')
    return os.path.dirname(folder) if in_one else None


def make_card(one: Candidate, path: str, data_licence: str | None = None) -> ModelCard:
    """Write the card of a network.

    Args:
        one: The network.
        path: Where it comes from; the options and scores of its experiment are looked for beside it.
        data_licence: Of the training data.
    """
    assert one.network is not None
    opt, metrics = _of_experiment(path)
    return ModelCard(
        name=one.name,
        network=dict(one.network_opt),
        scale=one.scale,
        luminance=one.luminance,
        multiple=one.multiple,
        parameters=count_parameters(one.network),
        bytes_per_pixel=estimate_bytes_per_pixel(one),
        reach=reach_of(one.network, 1 if one.luminance else 3) if one.multiple == 1 else None,
        training=format_training(opt) if opt else '',
        metrics=metrics,
        data_licence=data_licence or 'not stated',
    )


def trained_ranges(path: str) -> dict[str, list[float]] | None:
    """Return what a checkpoint of `train: {quantise: int8}` keeps of its activations; None where there is nothing.

    Args:
        path: See :func:`read_model`.

    Returns:
        Path of each quantised convolution to the lowest and highest value of its input and of its output.

    Raises:
        UserError: the entry is damaged.
    """
    path = os.path.expanduser(zoo.find_file(path))
    if not path.lower().endswith('.pth') or not os.path.isfile(path):
        return None
    ranges = read_checkpoint(path).get('int8')
    if ranges is None:
        return None
    values = list(ranges.values()) if isinstance(ranges, dict) else [()]
    if not all(len(four) == 4 and all(isinstance(v, float) and math.isfinite(v) for v in four) for four in values):
        raise UserError(f'{path!r}: its ranges of activations (`int8`) are damaged.')
    return ranges


def estimate_bytes_per_pixel(one: Candidate) -> int:
    """Estimate what a forward pass holds for each low-resolution pixel, in single precision, from two sizes.

    0 for a network that cannot be run without values.
    """
    assert one.network is not None
    try:
        shapes = [find_lr_shape(one.network, one.network_opt, (side, side)) for side in (48, 96)]
        small, large = (count(one.name, one.network, shape).memory for shape in shapes)
    except UserError:
        return 0
    return max(0, large - small) // (shapes[1][1] ** 2 - shapes[0][1] ** 2)


def _of_experiment(path: str) -> tuple[dict[str, Any] | None, dict[str, dict[str, float]]]:
    """Return the options of the run that a checkpoint lies in, and the last scores in its log."""
    folder = _experiment(path)
    files = sorted(glob(os.path.join(folder, '*.yml'))) if folder else []
    if not files:
        return None, {}
    latest = os.path.basename(path) == 'net_g_latest.pth'
    return options.load(files[0]), read_last_scores(str(folder)) if latest else {}


def read_last_scores(folder: str) -> dict[str, dict[str, float]]:
    """Return what an experiment's log says last of every validation set: set to metric to value."""
    scores: dict[str, dict[str, float]] = {}
    for log in sorted(glob(os.path.join(folder, 'train_*.log'))):
        with open(log, encoding='utf-8', errors='replace') as file:
            current: dict[str, float] = {}
            for line in file:
                if 'Validation ' in line:
                    current = scores[line.split('Validation ', 1)[1].strip()] = {}
                elif (score := _SCORE.search(line)) and line.startswith('\t'):
                    current[score[1]] = float(score[2])
    return scores
