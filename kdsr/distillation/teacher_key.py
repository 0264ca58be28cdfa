"""The key of a teacher cache: everything that its images depend on. A cache with another key is stale or foreign."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

from kdsr.experiment import Experiment, Network
from kdsr.options import Cache

NOT_HERE = 'file not here'
_CONTENTS = {
    'image': 'the image to be taught',
    'teacher_images': "each teacher's image",
    'code': "what the teacher's encoder makes of the ground truth",
}


def teacher_key(experiment: Experiment, cache: Cache, weights: bool = True) -> dict[str, Any]:
    """Describe the teachers of an experiment and the content of their cache.

    Args:
        experiment: Its options are checked.
        cache: `distillation.cache`.
        weights: Digest the weight files, which are read for it.

    Returns:
        Plain JSON: for every teacher (and the aggregator) its options and a digest of its weight file, `NOT_HERE`
        where the file is missing; their order, the scale, the colour, the content.
    """
    key = {
        'content': _CONTENTS[experiment.content],
        'scale': experiment.scale,
        'colour': 'Y' if experiment.channels == 1 else 'RGB',
        'self_ensemble': cache.self_ensemble,
        'order of teachers': ', '.join(experiment.teacher_names),
    }
    for network in experiment.frozen:
        key[_name(network)] = _describe(network)
    return {**key, **(digest_weights(experiment) if weights else {})}


def digest_weights(experiment: Experiment) -> dict[str, str]:
    """Digest the weight files of the teachers and the aggregator; `NOT_HERE` stands for a file that is gone."""
    return {
        f'weights of {_name(network)}': _digest(next((file for _, file in network.files()), None))
        for network in experiment.frozen
    }


def _name(network: Network) -> str:
    return f'teacher {network.name}' if network.role == 'teacher' else network.name


def _describe(network: Network) -> str:
    """Write the options that change a network's output. A file is described by its content, not by its path."""
    settings = {
        'network': {key: value for key, value in network.opt.items() if key != 'path'},
        'input': {'gt': 'gt', 'code': 'gt', 'lq_clean': 'lq_clean'}.get(network.input),
        'param_key': network.param_key,
        'precision': None if network.precision == 'fp32' else network.precision,
    }
    return json.dumps({key: value for key, value in settings.items() if value is not None}, sort_keys=True)


def _digest(path: str | None) -> str:
    if path is None or not os.path.isfile(os.path.expanduser(path)):
        return NOT_HERE
    digest = hashlib.sha256()
    with open(os.path.expanduser(path), 'rb') as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()[:16]
