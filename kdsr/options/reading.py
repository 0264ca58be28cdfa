"""Reading option files: safely, with what they are based on, overrides, and the defaults that BasicSR forgets."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from kdsr.errors import UserError, did_you_mean
from kdsr.options.table import BASICSR_MODELS, PAIRED_SETS

DEFAULTS: dict[str, Any] = {
    'num_gpu': 'auto',
    'path': {},
    'logger': {'print_freq': 100, 'save_checkpoint_freq': 5000, 'use_tb_logger': False},
}
VAL_DEFAULTS = {'val_freq': 5000, 'save_img': False}
TEST_DEFAULTS = {'save_img': False, 'suffix': None}
TRAIN_SET_DEFAULTS = {'use_hflip': False, 'use_rot': False, 'num_worker_per_gpu': 0}


class SafeLoader(yaml.SafeLoader):
    """PyYAML's safe loader that also reads `1e-4` as a number; mappings keep their order."""


class SafeDumper(yaml.SafeDumper):
    """PyYAML's safe dumper for :class:`SafeLoader`: the text '1e-4' is written in quotes."""


_SCIENTIFIC = re.compile(r'^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$')
for _kind in (SafeLoader, SafeDumper):
    _kind.add_implicit_resolver('tag:yaml.org,2002:float', _SCIENTIFIC, list('-+0123456789'))


def parse_value(text: str) -> Any:
    """Read one value as YAML does: ``1e-4``, ``true``, ``~``, ``[1, 2]``; ``None`` is BasicSR's word for ``~``."""
    if text in ('None', 'none'):
        return None
    try:
        return yaml.load(text, Loader=SafeLoader)
    except yaml.YAMLError as error:
        raise UserError(f'cannot read the value {text!r}: {error}') from None


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `changes` laid over it, mapping by mapping; lists and plain values are replaced.

    A mapping whose `type` changes is replaced whole: the arguments of another network or loss would not fit.
    """
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        same_kind = (
            isinstance(old, Mapping) and isinstance(value, Mapping) and value.get('type') in (None, old.get('type'))
        )
        merged[key] = merge(old, value) if same_kind else value  # type: ignore[arg-type]
    return merged


def read_yaml(path: str) -> dict[str, Any]:
    """Read one YAML file, without `base:`.

    Raises:
        UserError: the file is missing, is not YAML, asks for Python objects, or holds no mapping.
    """
    if not os.path.isfile(path):
        raise UserError(f'option file {path!r} does not exist (looked in {os.getcwd()!r}).')
    with open(path, encoding='utf-8') as file:
        try:
            opt = yaml.load(file, Loader=SafeLoader)
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UserError(f'{path} is no YAML file: {error}') from None
    if not isinstance(opt, dict):
        raise UserError(f'{path}: an option file is a mapping (`name:`, `model_type:`, ...), this one is not.')
    return _plain(opt)  # copies: what anchors share in the file must not change together


def load(path: str, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """Read an option file with what it is based on, overrides, and defaults for keys that BasicSR forgets.

    Args:
        path: YAML file. Its `base:`, if any, names the file that it varies, relative to itself.
        overrides: ``key:key=value`` as after BasicSR's `--force_yml`.

    Raises:
        UserError: a file or an override is wrong; the message says which.
    """
    opt = _with_defaults(_load_with_base(os.path.abspath(path), ()))
    for override in overrides:
        _override(opt, override)
    return opt


def load_experiment(path: str, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """Read an option file that is to be run: :func:`load`, and the keys without which nothing runs must be there."""
    return complete(load(path, overrides), path)


def complete(opt: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Return options with all defaults; what is missing is told with `path`, where they come from."""
    opt = _with_defaults(_plain(opt))
    needed = ['name', 'model_type', 'datasets', 'network_g']
    if opt.get('distillation') is not None:  # BasicSR also restores without enlarging
        needed.append('scale')
    missing = [key for key in needed if not opt.get(key)]
    train_set = opt.get('datasets', {}).get('train')
    if train_set is not None and 'gt_size' not in train_set and train_set.get('type') in PAIRED_SETS:
        missing.append('datasets.train.gt_size')
    if missing:
        raise UserError(f'{path}: missing: {", ".join(missing)}.')
    _check_quadrants(opt, path)
    return {**opt, 'name': str(opt['name'])}


def _check_quadrants(opt: Mapping[str, Any], path: str) -> None:
    chosen, names = opt.get('val', {}).get('quadrants'), [d.get('name') for d in opt['datasets'].values()]
    for name in chosen if isinstance(chosen, list) else ():
        if name not in names:
            hint = did_you_mean(name, map(str, names))
            raise UserError(f'{path}: val.quadrants: there is no dataset {name!r}.{hint}')
    if chosen and opt['model_type'] in BASICSR_MODELS:
        raise UserError(f'{path}: val.quadrants needs a model of kdsr: `model_type: StudentModel`.')


def _with_defaults(opt: dict[str, Any]) -> dict[str, Any]:
    """Fill in what BasicSR reads without a default; a block that is switched off (`~`) is left out."""
    filled = merge(_plain(DEFAULTS), {k: v for k, v in opt.items() if v is not None or k not in DEFAULTS})
    datasets = {k: v for k, v in (filled.get('datasets') or {}).items() if v is not None}
    for phase, dataset in datasets.items():
        if phase == 'train' and isinstance(dataset, dict):
            datasets[phase] = merge(TRAIN_SET_DEFAULTS, dataset)
    if 'datasets' in filled:
        filled['datasets'] = datasets
    tests = any(str(phase).startswith('test') for phase in datasets)
    if tests or filled.get('val') is not None:
        filled['val'] = merge(TEST_DEFAULTS if tests else VAL_DEFAULTS, filled.get('val') or {})
    return {k: v for k, v in filled.items() if v is not None or k not in ('distillation', 'val')}


def _load_with_base(path: str, seen: tuple[str, ...]) -> dict[str, Any]:
    if path in seen:
        raise UserError(f'`base:` goes round in a circle: {" -> ".join((*seen, path))}')
    opt = read_yaml(path)
    base = opt.pop('base', None)
    if base is None:
        return opt
    base_path = os.path.normpath(os.path.join(os.path.dirname(path), str(base)))
    if not os.path.isfile(base_path):
        raise UserError(f'{path}: `base: {base}` does not exist (it is looked for beside the file, as {base_path!r}).')
    return merge(_load_with_base(base_path, (*seen, path)), opt)


def _override(opt: dict[str, Any], override: str) -> None:
    keys, equals, value = override.partition('=')
    if not equals:
        raise UserError(f'--force_yml {override!r}: write key:key=value, for example train:ema_decay=0.999')
    *parents, last = (k.strip() for k in keys.split(':'))
    node: Any = opt
    for key in parents:
        index: Any = int(key) if isinstance(node, list) and key.isdigit() else key
        try:
            node = node[index]
        except (KeyError, IndexError, TypeError):
            known = [str(k) for k in node] if isinstance(node, dict) else []
            raise UserError(f'--force_yml {override!r}: there is no {key!r}.{did_you_mean(key, known)}') from None
    if isinstance(node, list) and last.isdigit() and int(last) < len(node):
        node[int(last)] = parse_value(value.strip())
    elif isinstance(node, dict):
        node[last] = parse_value(value.strip())
    else:
        raise UserError(f'--force_yml {override!r}: {parents[-1] if parents else "it"!r} holds no {last!r}.')


def dump(opt: Mapping[str, Any]) -> str:
    """Write options as YAML, keys in their order."""
    return yaml.dump(
        _plain(opt), Dumper=SafeDumper, sort_keys=False, default_flow_style=None, allow_unicode=True, width=120
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value
