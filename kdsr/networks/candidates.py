"""What `kdsr benchmark` tests: networks with their weights, from option files, checkpoints of any origin, or none."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from glob import glob
from typing import Any

from torch import nn

from kdsr import options, plugins, zoo
from kdsr.data.benchmark_sets import BenchmarkSet, pair_folders
from kdsr.distillation.checkpoint import pick_weights, read_checkpoint
from kdsr.errors import UserError
from kdsr.experiment import read_experiment, window_of
from kdsr.networks.facts import input_channels, scale_of
from kdsr.networks.onnx_network import OnnxNetwork
from kdsr.networks.trained_run import find_checkpoint
from kdsr.networks.weight_files import build, identify

BICUBIC = 'bicubic'


@dataclass(frozen=True)
class Candidate:
    """One network at one scale.

    Attributes:
        name: In the tables.
        scale: S.
        network: With its weights, on the CPU; None for MATLAB's bicubic.
        network_opt: Its options.
        source: File of its weights.
        fingerprint: Hash of that file.
        multiple: What the sides of its input are padded to be multiples of.
        luminance: It takes one channel, Y.
        quadrants: Test in four quarters, or for which sets.
        sets: Those that its option file names.
    """

    name: str
    scale: int
    network: nn.Module | None = None
    network_opt: Mapping[str, Any] = field(default_factory=dict)
    source: str = "MATLAB's imresize"
    fingerprint: str = ''
    multiple: int = 1
    luminance: bool = False
    quadrants: bool | Sequence[str] = False
    sets: tuple[BenchmarkSet, ...] = ()


def find_candidates(
    models: Sequence[str], scales: Sequence[int] = (), network: str | None = None, iteration: str | None = None
) -> list[Candidate]:
    """Build everything that is to be tested, with its weights.

    Args:
        models: Option files (a test file with the weights that it names, a training file with its experiment's), files
            of weights, networks of the zoo, or 'bicubic'; `LABEL=` in front is the name in the tables.
        scales: Test at these only; networks that serve every scale (VDSR, multi-scale CARN) at each of them. Bicubic
            needs them where it is alone.
        network: Options of the networks of bare weights, as a mapping or an option file.
        iteration: Checkpoint of experiments: a number, 'latest' or 'best'; the latest that is there when None.

    Raises:
        UserError: something is missing or does not fit; the message names the model.
    """
    given = _network_opt(network) if network else None
    found: list[Candidate] = []
    for model in models:
        label, path = _label(model)
        if path == BICUBIC:
            continue
        one = _of_option_file(label, path, iteration) if _is_yaml(path) else _of_weights(label, path, given, scales)
        found += one
    found = [_at_scale(one, scales) for one in found]
    bicubic_scales = list(scales) or sorted({one.scale for one in found})
    for position, model in enumerate(models):
        label, path = _label(model)
        if path == BICUBIC:
            if not bicubic_scales:
                raise UserError('bicubic alone needs --scale.')
            sets = {one.scale: one.sets for one in reversed(found)}
            baselines = [Candidate(label, scale, sets=sets.get(scale, ())) for scale in bicubic_scales]
            found = baselines + found if position == 0 else found + baselines
    return _with_different_names(found)


def _label(model: str) -> tuple[str, str]:
    label, equals, path = model.partition('=')
    if equals and not os.path.exists(model):
        return label, zoo.find_file(path)
    return os.path.splitext(os.path.basename(model))[0], zoo.find_file(model)


def _is_yaml(path: str) -> bool:
    return path.lower().endswith(('.yml', '.yaml'))


def _network_opt(text: str) -> dict[str, Any]:
    value = options.load(text).get('network_g') if _is_yaml(text) else options.parse_value(text)
    if not isinstance(value, dict) or 'type' not in value:
        raise UserError(f"--network {text!r}: write a mapping with a type, '{{type: RFDN, upscale: 4}}', or a file.")
    return value


def _with_different_names(found: list[Candidate]) -> list[Candidate]:
    """Number the names that stand for several candidates of one scale."""
    counts: dict[tuple[str, int], int] = {}
    named = []
    for one in found:
        key = (one.name, one.scale)
        counts[key] = counts.get(key, 0) + 1
        named.append(replace(one, name=f'{one.name} ({counts[key]})') if counts[key] > 1 else one)
    return named


def _at_scale(one: Candidate, scales: Sequence[int]) -> Candidate:
    if scales and one.scale not in scales:
        raise UserError(f'{one.name} is a network for x{one.scale}; --scale asks for {", ".join(map(str, scales))}.')
    return one


# Option files.


def _of_option_file(label: str, path: str, iteration: str | None) -> list[Candidate]:
    opt = options.load_experiment(path)
    experiment = read_experiment(opt)
    plugins.import_named(experiment.imports)
    trained = experiment.trained
    if trained.input != 'lq':
        raise UserError(f'{path}: its network is not shown the low-quality image alone, so there is nothing to test.')
    if label == os.path.splitext(os.path.basename(path))[0]:
        label = experiment.name
    tests = [d for phase, d in experiment.datasets.items() if phase.startswith('test')]
    if tests:
        if trained.weights is None:
            raise UserError(f'{path}: path.pretrain_network_g names no weights to test.')
        where, wanted = trained.weights, trained.param_key
    else:
        tests = [d for phase, d in experiment.datasets.items() if phase.startswith('val')]
        where, wanted = _of_experiment(experiment.name, path, iteration), 'params_ema'
    content = read_checkpoint(where)
    key = wanted if wanted in content or wanted is None else 'params'  # as BasicSR
    network = build(label, opt['network_g'], pick_weights(content, where, key), where)
    one = _candidate(label, network, opt['network_g'], where)
    return [replace(one, quadrants=(opt.get('val') or {}).get('quadrants', False), sets=_sets(path, tests, one.scale))]


def _of_experiment(name: str, option_file: str, iteration: str | None) -> str:
    folder = os.path.join('experiments', name)
    if iteration is None:
        there = (os.path.join(folder, 'models', f'net_g_{label}.pth') for label in ('latest', 'best'))
        numbered = sorted(glob(os.path.join(folder, 'models', 'net_g_*.pth')), key=lambda p: (len(p), p))
        for path in (*there, *reversed(numbered)):
            if os.path.isfile(path):
                return path
    return find_checkpoint(folder, iteration or 'latest', option_file)


def _sets(path: str, datasets: Sequence[Mapping[str, Any]], scale: int) -> tuple[BenchmarkSet, ...]:
    sets = []
    for dataset in datasets:
        gt, lq = dataset.get('dataroot_gt'), dataset.get('dataroot_lq')
        on_disk = (dataset.get('io_backend') or {}).get('type', 'disk') == 'disk'
        if dataset.get('type') != 'PairedImageDataset' or not on_disk or not (gt and lq) or 'meta_info_file' in dataset:
            return ()  # the benchmark reports that it has no sets
        if os.path.isdir(gt) and os.path.isdir(lq):
            template = dataset.get('filename_tmpl', '{}')
            sets.append(pair_folders(str(dataset.get('name', 'test')), scale, gt, lq, template))
    return tuple(sets)


# Files of weights.


def _of_weights(label: str, path: str, given: Mapping[str, Any] | None, scales: Sequence[int]) -> list[Candidate]:
    if path.lower().endswith('.onnx'):
        return [_of_onnx(label, path)]
    network_opt, weights = identify(path, given)
    if scales and (network_opt.get('multi_scale') or network_opt['type'] == 'VDSR'):
        each: list[Mapping[str, Any]] = [{**network_opt, 'upscale': scale} for scale in scales]
    else:
        each = [network_opt]
    return [_candidate(label, build(label, opt, weights, path), opt, path) for opt in each]


def _of_onnx(label: str, path: str) -> Candidate:
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
        fingerprint=_fingerprint(path),
        luminance=channels == 1,
    )


def _fingerprint(path: str) -> str:
    with open(os.path.expanduser(path), 'rb') as file:
        return hashlib.sha256(file.read()).hexdigest()


def _candidate(label: str, network: nn.Module, network_opt: Mapping[str, Any], path: str) -> Candidate:
    channels = input_channels(network)
    if channels not in (1, 3):
        raise UserError(f'{label}: its input has {channels} channels; only RGB and luminance can be tested.')
    return Candidate(
        name=label,
        scale=scale_of(network, network_opt),
        network=network,
        network_opt=network_opt,
        source=path,
        fingerprint=_fingerprint(path),
        multiple=int(getattr(network, 'multiple', window_of(network_opt))),
        luminance=channels == 1,
    )
