"""What `kdsr benchmark` tests: networks with their weights, from option files, checkpoints of any origin, or none."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from kdsr import zoo
from kdsr.errors import UserError
from kdsr.networks.candidate import Candidate as Candidate
from kdsr.networks.candidate import hash_file, make_candidate
from kdsr.networks.experiment_candidates import find_candidates_of
from kdsr.networks.onnx_network import OnnxNetwork
from kdsr.networks.weight_files import build, identify, read_network_opt

BICUBIC = 'bicubic'


def find_candidates(
    models: Sequence[str],
    scales: Sequence[int] = (),
    network: str | None = None,
    iteration: str | None = None,
    teachers: bool = False,
    overrides: Sequence[str] = (),
) -> list[Candidate]:
    """Build everything that is to be tested, with its weights.

    Args:
        models: Option files (a test file with the weights that it names, a training file with its experiment's), files
            of weights, networks of the zoo, or 'bicubic'; `LABEL=` in front is the name in the tables.
        scales: Test at these only; networks that serve every scale (VDSR, multi-scale CARN) at each of them. Bicubic
            needs them where it is alone.
        network: Options of the networks of bare weights, as a mapping or an option file.
        iteration: Checkpoint of experiments: a number, 'latest' or 'best'; the latest that is there when None.
        teachers: Also test the teachers of option files, and their fused image.
        overrides: As after `--force_yml`, for all option files.

    Raises:
        UserError: something is missing or does not fit; the message names the model.
    """
    given = read_network_opt(network) if network else None
    found: list[Candidate] = []
    for model in models:
        label, path = _label(model)
        if path == BICUBIC:
            continue
        if _is_yaml(path):
            found += find_candidates_of(
                path, label if label != _read_stem(path) else '', iteration, teachers, overrides
            )
        else:
            found += _read_weights_candidates(label, path, given, scales)
    found = [_select_scale(one, scales) for one in found]
    bicubic_scales = list(scales) or sorted({one.scale for one in found})
    for position, model in enumerate(models):
        label, path = _label(model)
        if path == BICUBIC:
            if not bicubic_scales:
                raise UserError('bicubic alone needs --scale.')
            sets = {one.scale: one.sets for one in reversed(found)}
            baselines = [Candidate(label, scale, sets=sets.get(scale, ())) for scale in bicubic_scales]
            found = baselines + found if position == 0 else found + baselines
    return _number_names(found)


def _label(model: str) -> tuple[str, str]:
    label, equals, path = model.partition('=')
    if equals and not os.path.exists(model):
        return label, zoo.find_file(path)
    return _read_stem(model), zoo.find_file(model)


def _read_stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]


def _is_yaml(path: str) -> bool:
    return path.lower().endswith(('.yml', '.yaml'))


def _number_names(found: list[Candidate]) -> list[Candidate]:
    """Number the names that stand for several candidates of one scale."""
    counts: dict[tuple[str, int], int] = {}
    named = []
    for one in found:
        key = (one.name, one.scale)
        counts[key] = counts.get(key, 0) + 1
        named.append(replace(one, name=f'{one.name} ({counts[key]})') if counts[key] > 1 else one)
    return named


def _select_scale(one: Candidate, scales: Sequence[int]) -> Candidate:
    if scales and one.scale not in scales:
        raise UserError(f'{one.name} is a network for x{one.scale}; --scale asks for {", ".join(map(str, scales))}.')
    return one


# Files of weights.


def _read_weights_candidates(
    label: str, path: str, given: Mapping[str, Any] | None, scales: Sequence[int]
) -> list[Candidate]:
    if path.lower().endswith('.onnx'):
        return [_read_onnx_candidate(label, path)]
    network_opt, weights = identify(path, given)
    if scales and (network_opt.get('multi_scale') or network_opt['type'] == 'VDSR'):
        each: list[Mapping[str, Any]] = [{**network_opt, 'upscale': scale} for scale in scales]
    else:
        each = [network_opt]
    return [make_candidate(label, build(label, opt, weights, path), opt, path) for opt in each]


def _read_onnx_candidate(label: str, path: str) -> Candidate:
    """Return the network in an ONNX file, exported by kdsr, int8 or another's; onnxruntime runs it."""
    if not os.path.isfile(os.path.expanduser(path)):
        raise UserError(f'{path!r} does not exist (looked in {os.getcwd()!r}).')
    network = OnnxNetwork(os.path.expanduser(path)).eval()
    channels = network.channels
    return Candidate(
        name=label,
        scale=network.scale(),
        network=network,
        network_opt={'type': 'ONNX', 'path': path},
        source=path,
        fingerprint=hash_file(path),
        luminance=channels == 1,
    )
