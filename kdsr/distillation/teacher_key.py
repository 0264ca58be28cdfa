"""What the images of a teacher cache depend on, in words: the key by which a stale or foreign cache is told."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

from kdsr.options import Cache, caches_code

NOT_HERE = 'file not here'
OWN_IMAGES = "each teacher's image"
CODE = "what the teacher's encoder makes of the ground truth"
_WITHOUT_EFFECT = ('name', 'path', 'device', 'channels_last')


def teacher_key(opt: Mapping[str, Any], cache: Cache, weights: bool = True) -> dict[str, Any]:
    """Describe the teachers of a checked option file and what is made of them.

    Args:
        opt: All options of the experiment.
        cache: `distillation.cache`.
        weights: Digest the weights' files, which have to be read for it.

    Returns:
        Plain JSON: for every teacher (and the aggregator) its options and a digest of its weights' file, `NOT_HERE`
        where that is gone; their order, the scale, the colour, what is stored.
    """
    block = opt['distillation']
    key = {
        'content': content_of(opt),
        'scale': opt['scale'],
        'colour': colour_of(opt),
        'self_ensemble': cache.self_ensemble,
        'order of teachers': ', '.join(teacher['name'] for teacher in block['teachers']),
    }
    networks = {f'teacher {teacher["name"]}': teacher for teacher in block['teachers']}
    if block.get('aggregator') is not None:
        networks['aggregator'] = block['aggregator']
    for name, network in networks.items():
        key[name] = _described(network)
        if weights:
            key[f'weights of {name}'] = _digest(network.get('path') or network['network'].get('path'))
    return key


def colour_of(opt: Mapping[str, Any]) -> str:
    """Say what networks are shown: 'RGB' or 'Y'."""
    return 'Y' if 'y' in (opt.get('color'), opt['datasets']['train'].get('color')) else 'RGB'


def content_of(opt: Mapping[str, Any]) -> str:
    """Say what is stored.

    Stage 1 of MTKD learns from each teacher's own image, PISR's student from features that its teacher's decoder makes
    of a code, all else from the image that the teachers agree on.
    """
    if caches_code(opt):
        return CODE
    return OWN_IMAGES if opt['model_type'] == 'AggregationModel' else 'the image to be taught'


def _described(network: Mapping[str, Any]) -> str:
    """Write the options that change what a network gives; files go by their content."""
    kept = {k: v for k, v in network.items() if k not in _WITHOUT_EFFECT and v is not None}
    kept['network'] = {k: v for k, v in network['network'].items() if k != 'path'}
    return json.dumps(kept, sort_keys=True)


def _digest(path: str | None) -> str:
    if path is None or not os.path.isfile(os.path.expanduser(path)):
        return NOT_HERE
    digest = hashlib.sha256()
    with open(os.path.expanduser(path), 'rb') as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()[:16]
