"""Translate option files of other BasicSR-based distillation code."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# top-level key of a teacher's network -> what its keys under `path` end in
_NETWORK = re.compile(r'network_(?P<suffix>t\d*|teacher\d*|g_teacher|TA)')
_NUMBERED = re.compile(r'tea(?P<number>\d+)_network_g')
_TRAIN = ('kd_opt', 'feature_opt', 'feature_distillation', 'dukd_opt', 'noisy')
_VAL = ('self_ensemble',)  # keys of their validation
# `type` of DUKD's `feature_distillation` -> loss; its images are in [0, 1], so the weights count as they are written
_TRANSFORMATIONS: dict[str, dict[str, Any]] = {
    'SA': {'type': 'FAKDLoss', 'affinity': 'spatial', 'loss_range': 255},
    'CA': {'type': 'FAKDLoss', 'affinity': 'channel', 'loss_range': 255},
    'IA': {'type': 'FAKDLoss', 'affinity': 'instance', 'loss_range': 255},
    'AT': {'type': 'AttentionTransferLoss', 'mode': 'fakd', 'loss_range': 255},
}
_NORMS = {'L1Loss': 'l1', 'MSELoss': 'l2'}


def find_foreign_keys(opt: Mapping[str, Any]) -> list[str]:
    """Return the keys with which other projects name teachers: `network_t`, `network_teacher`, `tea1_network_g`, ..."""
    return [key for key in opt if _NETWORK.fullmatch(str(key)) or _NUMBERED.fullmatch(str(key))]


def translate(opt: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Translate an experiment into one with a `distillation:` block.

    The function knows the keys of DUKD's `BaseKD` (`network_t`, `path.pretrain_network_t`, `path.param_key_t`,
    `train.kd_opt`, `train.feature_opt`, `train.feature_distillation`, `train.dukd_opt`, `train.noisy`), the same with
    `teacher` or `g_teacher` for `t`, and MTKD's `tea1_network_g`, `tea1_path`.

    Args:
        opt: All options, with at least one key of :func:`find_foreign_keys`.

    Returns:
        The translated options, and a note for every part that has no counterpart.
    """
    path, train = dict(opt.get('path') or {}), dict(opt.get('train') or {})
    teachers = [_translate_teacher(opt, path, key) for key in find_foreign_keys(opt)]
    kd, feature_opt, positions, dukd, noisy = (train.pop(key, None) for key in _TRAIN)
    foreign = [key for key in train if re.search('kd_|distill|teacher', str(key))]
    notes = [f'train.{key}: left out, it belongs to other code.' for key in foreign]
    features = _translate_positions(positions, [teacher['name'] for teacher in teachers], notes)
    losses = _translate_kd(kd, notes) if isinstance(kd, Mapping) else {}
    if features:
        losses.update(_translate_feature_loss(feature_opt or {}, positions.get('type'), notes))
    elif feature_opt is not None:
        notes.append('train.feature_opt: left out, there are no `train.feature_distillation.positions` for it.')
    views = _translate_views(dukd, noisy, notes)
    parts = {'features': features, 'losses': losses, 'views': views}
    block = {'teachers': teachers, **{key: part for key, part in parts.items() if part or key == 'losses'}}
    kept_val = {key: value for key, value in (opt.get('val') or {}).items() if key not in _VAL}
    notes += [
        f'val.{key}: left out; `kdsr benchmark --self-ensemble` does it.' for key in opt.get('val') or () if key in _VAL
    ]
    kept = {key: value for key, value in opt.items() if key not in find_foreign_keys(opt)}
    of_teacher = re.compile(r'.*_(t\d*|teacher\d*|g_teacher|TA)|tea\d+_path')
    return {
        **kept,
        **({'val': kept_val} if 'val' in opt else {}),
        'model_type': 'DistillationModel',
        'path': {key: value for key, value in path.items() if not of_teacher.fullmatch(key)},
        'train': {key: value for key, value in train.items() if key not in foreign},
        'distillation': block,
    }, notes


def _translate_teacher(opt: Mapping[str, Any], path: Mapping[str, Any], key: str) -> dict[str, Any]:
    numbered, named = _NUMBERED.fullmatch(key), _NETWORK.fullmatch(key)
    if numbered:
        number = numbered['number']
        found = path.get(f'tea{number}_path') or opt.get(f'tea{number}_path')
        return _drop_none(name=f'teacher{number}', network=opt[key], path=found)
    assert named is not None
    suffix = named['suffix']
    return _drop_none(
        name='teacher' + re.sub(r'\D', '', suffix),
        network=opt[key],
        path=path.get(f'pretrain_network_{suffix}'),
        param_key=path.get(f'param_key_{suffix}'),
    )


def _drop_none(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _translate_kd(kd: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    if kd.get('type') not in _NORMS:
        notes.append(f'train.kd_opt: `type: {kd.get("type")}` has no counterpart; ResponseLoss with L1 replaces it.')
    norm = _NORMS.get(str(kd.get('type')), 'l1')
    return {'l_kd': {'type': 'ResponseLoss', 'norm': norm, 'loss_weight': kd.get('loss_weight', 1.0)}}


def _translate_positions(given: Any, teachers: list[str], notes: list[str]) -> dict[str, Any]:
    """Read `positions`: module paths for both networks, or `{t: [...], g: [...]}`."""
    positions = given.get('positions') if isinstance(given, Mapping) else None
    if isinstance(positions, Mapping):
        pairs = list(zip(positions.get('g') or [], positions.get('t') or []))
    else:
        pairs = [(position, position) for position in positions or []]
    if pairs and len(teachers) > 1:
        notes.append(f'train.feature_distillation: assumed to mean the teacher {teachers[0]!r}.')
    source = {'from': teachers[0]} if len(teachers) > 1 else {}
    return {f'f{i}': {'student': _name_block(s), 'teacher': _name_block(t), **source} for i, (s, t) in enumerate(pairs)}


def _name_block(position: Any) -> str:
    """Return a module path; DUKD writes the number of a block of `body` alone."""
    return f'body.{position}' if str(position).isdecimal() else str(position)


def _translate_views(dukd: Any, noisy: Any, notes: list[str]) -> dict[str, Any]:
    """Translate DUKD's zoomed copies; their label consistency acts on the zoom-in alone, as in the authors' code."""
    if not isinstance(dukd, Mapping):
        return {}
    counts, probability = dukd.get('n_gt_sub') or [1], (noisy or {}).get('prob', 0.3) if noisy else 0.0
    count = counts[0] if isinstance(counts, list) else counts
    views: dict[str, Any] = {'zoom_in': {'type': 'ZoomIn', 'count': count, 'consistency': probability}}
    if dukd.get('zoom_out'):
        views['zoom_out'] = {'type': 'ZoomOut', 'consistency': 0.0}
    notes.append(
        "train.dukd_opt: kdsr takes one optimiser step for the pair and its views; the authors' code takes a second "
        'one for the views, with the gradient of the first added.'
    )
    return views


def _translate_feature_loss(opt: Mapping[str, Any], transformation: Any, notes: list[str]) -> dict[str, Any]:
    """Translate the distance of features; DUKD's files say beside the positions what is made of them before."""
    weight, kind = opt.get('loss_weight', 1.0), opt.get('type')
    if transformation in _TRANSFORMATIONS:
        if kind != 'L1Loss':
            notes.append(f'train.feature_opt: `type: {kind}` becomes L1.')
        notes.append(
            "train.feature_distillation: the authors' code builds this loss without a gradient, so that it trained "
            'nothing there; here it trains.'
        )
        return {'l_feature': {**_TRANSFORMATIONS[transformation], 'loss_weight': weight}}
    if transformation is not None:
        notes.append(
            f'train.feature_distillation: `type: {transformation}` has no counterpart; FitNetLoss replaces it.'
        )
    if kind in ('FAKDLoss', 'SALoss', 'FAKD'):
        return {'l_feature': {'type': 'FAKDLoss', 'loss_range': 1, 'loss_weight': weight}}
    if kind not in _NORMS:
        notes.append(f'train.feature_opt: `type: {kind}` has no counterpart; FitNetLoss with L1 replaces it.')
    norm = _NORMS.get(str(kind), 'l1')
    fitnet = {'type': 'FitNetLoss', 'regressor': 'none', 'norm': norm, 'loss_range': 1, 'loss_weight': weight}
    return {'l_feature': fitnet}
